"""From a batch of uint8 images and labels on the device to what a step learns from: augmented, normalised, mixed.

What is drawn for each image comes from a generator on the device; what is drawn once a step (how much is mixed) from
the seed and the step's number alone, on the host, so that no step waits for the device and a resumed one is the same.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..spec import Preprocess
from . import augment
from .draws import Draws
from .feed import Batch
from .recipe import WHOLE, Recipe

Prepare = Callable[[Batch, int, int], tuple[Tensor, Tensor]]


def make_prepare(
    preprocess: Preprocess,
    recipe: Recipe,
    classes: int,
    draws: Draws,
    device: torch.device,
    *,
    mirror: bool = True,
    crop: bool = True,
    seed: int = 0,
) -> Prepare:
    """A function of a batch, the epoch and the step's number in the training, to inputs and targets.

    Args:
        preprocess: scale, mean and std.
        recipe: what is drawn.
        classes: of the targets, which are N x classes where images are mixed, else the labels.
        draws: numbers on the device.
        device: of all of it.
        mirror: whether these images may be flipped at all.
        crop: whether a random part is to be taken here, because the feed has not done it.
        seed: of what is drawn once a step.
    """
    factor, offset = constants(preprocess, device)
    flip = recipe.mirror if mirror else "never"
    part = recipe.area if crop and recipe.area != WHOLE else None

    def prepare(batch: Batch, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        images, labels = batch.images, batch.labels
        if flip == "random":
            images = augment.mirror(images, draws)
        elif flip == "alternating":
            images = augment.alternate(images, batch.indices, epoch, seed)
        images = augment.shift(images, recipe.shift, draws)
        inputs = augment.normalise(images, factor, offset)
        if part is not None:
            inputs = augment.resized_crop(inputs, part, draws)
        if recipe.cutout:
            inputs = augment.cutout(inputs, recipe.cutout, draws)
        how = mixing(recipe, seed, step)
        if how is None:
            return inputs, labels
        kind, share, centre = how
        if kind == "cutmix":
            return augment.cutmix(inputs, labels, classes, share, centre)
        return augment.mixup(inputs, labels, classes, share)

    return prepare


def mixing(recipe: Recipe, seed: int, step: int) -> tuple[str, float, tuple[float, float]] | None:
    """What a step mixes: mixup or cutmix (half of the steps each where the recipe has both), the share, the centre."""
    kinds = [name for name in ("mixup", "cutmix") if getattr(recipe, name) > 0]
    if not kinds:
        return None
    random = np.random.default_rng((seed, step))
    kind = kinds[int(random.integers(len(kinds)))]
    alpha = getattr(recipe, kind)
    return kind, float(random.beta(alpha, alpha)), (float(random.random()), float(random.random()))


def constants(preprocess: Preprocess, device: torch.device) -> tuple[Tensor, Tensor]:
    """Factor and offset of a pixel, 1 x C x 1 x 1 on the device, that make (pixel * scale - mean) / std."""
    mean, std = (torch.tensor(one, dtype=torch.float64) for one in (preprocess.mean, preprocess.std))
    both = (preprocess.scale / std, -mean / std)
    factor, offset = (one.float().to(device)[None, :, None, None] for one in both)
    return factor, offset
