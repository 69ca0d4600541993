"""Golden answers: the same to the same images, and of the images that are kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import tiny_model
from torch import Tensor, nn
from torch.nn import functional
from zoo.errors import UsageError
from zoo.exporter.artifact.golden import make_golden
from zoo.models.arithmetic import logits_in


class Around(nn.Module):
    def __init__(self, inner: nn.Module, how: str) -> None:
        super().__init__()
        self.inner, self.how, self.calls = inner, how, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        match self.how:
            case "dropout":
                x = functional.dropout(x, 0.5, training=True)
            case "counts":
                x = x * self.calls
            case "overflows":
                x = x / 0
            case "in place":
                x.mul_(2)
        return self.inner(x)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("dropout", "does not answer the same images alike when it runs again"),
        ("counts", "does not answer the same images alike when it runs again"),
        ("overflows", "itself gives NaN or infinity for 8 of 8 golden images"),
    ],
)
def test_a_model_without_answers_to_compare_with_is_refused(how: str, words: str) -> None:
    model = tiny_model()
    with pytest.raises(UsageError, match=words):
        make_golden(replace(model, module=Around(model.module, how).eval()), None)


def test_a_model_that_works_in_place_is_judged_by_the_images_that_are_kept() -> None:
    model = tiny_model()
    made = make_golden(replace(model, module=Around(model.module, "in place").eval()), None)
    doubled = 2 * model.prepared(made.images)
    assert made.truth is not None
    np.testing.assert_allclose(made.truth, logits_in(model.module, doubled, "fp64"))
    assert torch.allclose(torch.from_numpy(made.logits).double(), torch.from_numpy(made.truth), rtol=1e-3, atol=1e-4)
