"""What the accuracies of an epoch say: two reasons for a drift, and that next to nothing was learned."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY
from zoo.models.fresh import new_model
from zoo.models.sources import SourceOptions
from zoo.models.training.diagnosis import commonest, learned_little, no_better, why_drifted
from zoo.models.training.loop import Watcher, train
from zoo.models.training.recipe import Recipe


def test_chance_is_the_commonest_class() -> None:
    assert commonest(np.array([0, 1, 1, 2])) == 0.5
    assert commonest(np.array([], dtype=np.int64)) == 0.0


@pytest.mark.parametrize(
    ("train_accuracy", "val", "images", "chance", "little"),
    [
        (0.52, 0.3056, 36, 1 / 3, True),
        (0.95, 0.3056, 36, 1 / 3, False),
        (0.52, 0.70, 36, 1 / 3, False),
        (0.30, 0.15, 50_000, 0.001, False),
        (0.40, 0.105, 1000, 0.1, True),
    ],
    ids=["a third of three", "by heart, and at chance", "it has learned", "of a thousand classes", "a tenth of ten"],
)
def test_next_to_nothing_is_nothing_by_heart(
    train_accuracy: float, val: float, images: int, chance: float, little: bool
) -> None:
    assert learned_little(train_accuracy, val, images, chance) == little
    assert ("by heart" in why_drifted(train_accuracy, val, None, little=little)) != little
    assert "running statistics" in why_drifted(train_accuracy, val, val + 0.2, little=little)


def test_few_images_make_chance_wide() -> None:
    assert no_better(0.45, 36, 1 / 3)
    assert not no_better(0.45, 3600, 1 / 3)


def test_a_training_that_learns_nothing_says_so_at_its_end(tiny_spec, few_digits, tmp_path: Path) -> None:
    warned: list[str] = []
    model = new_model("resnet18", tiny_spec, SourceOptions(arguments={**TINY, "width": 0.125}))
    recipe = replace(Recipe(epochs=2, batch_size=30, precision="fp32", shift=0), lr=1e-7, warmup=0.0)
    train(model, few_digits, recipe, tmp_path / "run", watcher=Watcher(warn=warned.append))
    assert len(warned) == 1
    assert "learned next to nothing" in warned[0]
    assert "by heart" not in warned[0]
