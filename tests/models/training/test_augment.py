"""What mixes and cuts images: against what the papers say, by hand."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from zoo.models.training import augment
from zoo.models.training.prepare import mixing
from zoo.models.training.recipe import Recipe


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@given(st.integers(1, 12), st.integers(1, 40))
@settings(deadline=None, max_examples=30)
def test_cutout_leaves_out_one_square_of_each(size: int, side: int) -> None:
    images = torch.ones(5, 3, side, side)
    gone = augment.cutout(images, size, generator())[:, 0] == 0
    for one in gone:
        rows, columns = one.any(1).nonzero()[:, 0], one.any(0).nonzero()[:, 0]
        assert 1 <= len(rows) <= min(size, side)
        assert one.sum() == len(rows) * len(columns), "a rectangle, at a border less than the square"
    assert (augment.cutout(images, size, generator())[:, 0] == 0).equal(gone), "the generator decides"


def test_mixup_is_a_weighted_mean_of_neighbours() -> None:
    images = torch.arange(3.0)[:, None, None, None].expand(3, 1, 2, 2)
    mixed, targets = augment.mixup(images, torch.tensor([0, 1, 2]), 4, 0.75)
    assert mixed[:, 0, 0, 0].tolist() == pytest.approx([0.5, 0.75, 1.75])
    assert targets[1].tolist() == pytest.approx([0.25, 0.75, 0, 0])
    assert targets.sum(1).tolist() == pytest.approx([1, 1, 1])


@given(st.floats(0, 1), st.floats(0, 0.999), st.floats(0, 0.999))
@settings(deadline=None, max_examples=60)
def test_cutmix_mixes_targets_by_the_pixels(share: float, row: float, column: float) -> None:
    images = torch.arange(2.0)[:, None, None, None].expand(2, 1, 8, 10)
    mixed, targets = augment.cutmix(images, torch.tensor([0, 1]), 2, share, (row, column))
    assert targets[1, 1].item() == pytest.approx(mixed[1].mean().item()), "the share of its own pixels, which are 1"
    assert targets[0, 1].item() == pytest.approx(mixed[0].mean().item())


def test_what_a_step_mixes_depends_on_the_seed_and_the_step_alone() -> None:
    both = Recipe(mixup=0.2, cutmix=1.0)
    drawn = [mixing(both, 3, step) for step in range(60)]
    assert drawn == [mixing(both, 3, step) for step in range(60)]
    assert {one[0] for one in drawn if one} == {"mixup", "cutmix"}
    assert drawn != [mixing(both, 4, step) for step in range(60)]
    assert mixing(Recipe(), 3, 0) is None
    assert {one[0] for step in range(20) if (one := mixing(Recipe(mixup=0.2), 0, step))} == {"mixup"}
