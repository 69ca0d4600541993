"""What mixes and cuts images: against what the papers say, by hand."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from zoo.models.training import augment
from zoo.models.training.draws import Draws
from zoo.models.training.prepare import mixing
from zoo.models.training.recipe import Recipe
from zoo.models.training.world import World


def draws(seed: int = 0) -> Draws:
    return Draws(torch.device("cpu"), torch.Generator().manual_seed(seed))


@given(st.integers(1, 12), st.integers(1, 40))
@settings(deadline=None, max_examples=30)
def test_cutout_leaves_out_one_square_of_each(size: int, side: int) -> None:
    images = torch.ones(5, 3, side, side)
    gone = augment.cutout(images, size, draws())[:, 0] == 0
    for one in gone:
        rows, columns = one.any(1).nonzero()[:, 0], one.any(0).nonzero()[:, 0]
        assert 1 <= len(rows) <= min(size, side)
        assert one.sum() == len(rows) * len(columns), "a rectangle, at a border less than the square"
    assert (augment.cutout(images, size, draws())[:, 0] == 0).equal(gone), "the generator decides"


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


def test_shift_moves_each_image_and_fills_with_zeros() -> None:
    images = torch.arange(1, 1 + 6 * 2 * 5 * 5, dtype=torch.int32).reshape(6, 2, 5, 5)
    moved = augment.shift(images, 2, draws())
    seen = set()
    for before, after in zip(images, moved, strict=True):
        padded = torch.nn.functional.pad(before, (2, 2, 2, 2))
        places = [(y, x) for y in range(5) for x in range(5) if torch.equal(padded[:, y : y + 5, x : x + 5], after)]
        assert len(places) == 1
        seen.add(places[0])
    assert len(seen) > 1


def test_mirror_flips_about_half() -> None:
    images = torch.arange(400 * 3).reshape(400, 1, 1, 3)
    flipped = (augment.mirror(images, draws()) != images).any(-1).sum()
    assert 150 < int(flipped) < 250


def test_alternating_shows_both_sides_of_every_image_in_two_epochs() -> None:
    indices = torch.arange(1000)
    images = torch.stack([torch.zeros(1000), torch.ones(1000)], -1)[:, None, None]

    def flipped(epoch: int, seed: int = 0) -> torch.Tensor:
        return augment.alternate(images, indices, epoch, seed)[:, 0, 0, 0] == 1

    assert torch.equal(flipped(0), ~flipped(1))
    assert torch.equal(flipped(0), flipped(2))
    assert 400 < int(flipped(0).sum()) < 600
    assert not torch.equal(flipped(0), flipped(0, seed=1))
    some = torch.tensor([7, 3, 999])
    assert torch.equal(augment.alternate(images[some], some, 0, 0)[:, 0, 0, 0] == 1, flipped(0)[some]), "by its index"


@given(st.floats(0.05, 1), st.integers(4, 20), st.integers(4, 20))
@settings(deadline=None, max_examples=40)
def test_a_resized_crop_is_a_part_enlarged(least: float, height: int, width: int) -> None:
    """Of an image whose pixels are their own coordinates: the crop's are evenly spaced and lie inside."""
    rows, columns = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    images = torch.stack([rows, columns]).expand(6, 2, height, width)
    cropped = augment.resized_crop(images, (least, 1.0), draws())
    assert cropped.shape == images.shape
    inner = cropped[:, :, 1:-1, 1:-1]  # beside the border, which is repeated, a step is what it is everywhere
    down, right = inner[:, 0].diff(dim=1), inner[:, 1].diff(dim=2)
    high, wide = down.amax((1, 2)) * height, right.amax((1, 2)) * width
    assert (down.amin((1, 2)) >= -1e-4).all()
    share = high * wide / (height * width)
    assert (share <= 1 + 1e-3).all()
    assert (share >= least * 3 / 4 - 1e-3).all(), "cut to the image it may lose up to a quarter"
    assert cropped[:, 0].amax() <= height
    assert cropped.amin() >= 0.5 - 1e-4


def test_a_resized_crop_is_what_torchvision_cuts_out() -> None:
    from torchvision.transforms.v2 import functional as tv

    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))

    class Fixed:
        def uniform(self, images: int, count: int) -> torch.Tensor:
            return torch.tensor([[0.0, 0.5, 0.75, 0.25]])  # a quarter of the area, square, three quarters down

    ours = augment.resized_crop(image, (0.25, 1.0), Fixed())
    theirs = tv.resized_crop(image, 6, 2, 8, 8, [16, 16], antialias=False)
    # theirs repeats the border of the part, ours reads the pixels beside it
    torch.testing.assert_close(ours[:, :, 1:-1, 1:-1], theirs[:, :, 1:-1, 1:-1], rtol=1e-4, atol=1e-5)


def test_processes_draw_what_one_would() -> None:
    together = [Draws(torch.device("cpu"), torch.Generator().manual_seed(5), World(rank, 2)) for rank in range(2)]
    alone = draws(5)
    for _ in range(3):
        assert torch.equal(torch.cat([one.uniform(4, 2) for one in together]), alone.uniform(8, 2))
        assert torch.equal(torch.cat([one.integers(9, 3) for one in together]), alone.integers(9, 6))
