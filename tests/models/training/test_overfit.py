from __future__ import annotations

import pytest
import torch
from conftest import TINY
from zoo.models.fresh import new_model
from zoo.models.sources import SourceOptions
from zoo.models.training.overfit import overfit_batch
from zoo.models.training.recipe import Recipe

RECIPE = Recipe(batch_size=16, lr=0.1, precision="fp32")


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "googlenet"])
def test_a_real_family_learns_a_batch(name: str, tiny_spec, few_digits) -> None:
    model = new_model(name, tiny_spec, SourceOptions(arguments=TINY))
    found = overfit_batch(model, few_digits, RECIPE)
    assert found.learned, found
    assert found.last < found.first
    assert found.images == 16


def test_one_whose_weights_stand_still_does_not(tiny_spec, few_digits) -> None:
    model = new_model("resnet18", tiny_spec, SourceOptions(arguments=TINY))
    for parameter in model.module.parameters():
        parameter.requires_grad_(False)
    model.module.fc.bias.requires_grad_(True)
    with torch.no_grad():
        model.module.fc.weight.zero_()
    found = overfit_batch(model, few_digits, RECIPE, steps=20)
    assert not found.learned
    assert found.steps == 20
