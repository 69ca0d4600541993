"""Augmentation on batches that are on the device already: tensors in, tensors out, no host sync."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .draws import Draws


def mirror(images: Tensor, draws: Draws) -> Tensor:
    """Flip each image left to right with probability 1/2. N x C x H x W, any dtype."""
    return _flipped(images, draws.uniform(len(images)) < 0.5)


def alternate(images: Tensor, indices: Tensor, epoch: int, seed: int) -> Tensor:
    """Flip half of the images in even epochs and the other half in odd ones; a hash of its index says which.

    Two epochs show both sides of every image, where chance shows one of them twice to half of the images. Source:
    Jordan 2024, arXiv 2404.00498, section 3.6; the hash is Knuth's multiplicative one.

    Args:
        images: N x C x H x W, any dtype.
        indices: N, int64, of the images in the data set.
        epoch: from 0.
        seed: which half begins.
    """
    hashed = ((indices + seed) * 2654435761 % 2**32) >> 31
    return _flipped(images, (hashed + epoch) % 2 == 1)


def _flipped(images: Tensor, chosen: Tensor) -> Tensor:
    return torch.where(chosen[:, None, None, None], images.flip(-1), images)


def shift(images: Tensor, most: int, draws: Draws) -> Tensor:
    """Move each image by up to `most` pixels in both directions; what comes in is zero. N x C x H x W.

    The classic "pad and crop" of small images (He et al. 2015, section 4.2), as one gather.
    """
    if most == 0:
        return images
    n, _, height, width = images.shape
    padded = F.pad(images, (most, most, most, most))
    offsets = draws.integers(2 * most + 1, n, 2, 1)
    rows = offsets[:, 0] + torch.arange(height, device=images.device)
    columns = offsets[:, 1] + torch.arange(width, device=images.device)
    index = torch.arange(n, device=images.device)
    return padded[index[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def normalise(images: Tensor, factor: Tensor, offset: Tensor) -> Tensor:
    """uint8 N x C x H x W -> float32 pixel * factor + offset; both are 1 x C x 1 x 1 on the device.

    In place after the first pass, for new memory costs more than the arithmetic: (pixel * scale - mean) / std takes
    twice as long.
    """
    made = images.to(torch.float32)
    made = made.mul_(factor) if made.shape[1] == factor.shape[1] else made * factor
    return made.add_(offset)


def resized_crop(images: Tensor, area: tuple[float, float], draws: Draws) -> Tensor:
    """A random part of each image, enlarged to its size: a share of its area, an aspect ratio of 3/4 to 4/3.

    Bilinear, between pixels; a part that would be longer than the image is cut to it, where torchvision draws again.
    Source: Szegedy et al. 2014, arXiv 1409.4842, section 6.

    Args:
        images: float N x C x H x W.
        area: smallest and largest share.
        draws: of the images.
    """
    drawn = draws.uniform(len(images), 4)
    share = area[0] + (area[1] - area[0]) * drawn[:, 0]
    ratio = ((2 * drawn[:, 1] - 1) * math.log(4 / 3)).exp()
    high, wide = (share / ratio).sqrt().clamp(max=1), (share * ratio).sqrt().clamp(max=1)
    # grid_sample's coordinates: -1 is the first border, 1 the last; the centre of the part lies within what is left
    down, right = (1 - high) * (2 * drawn[:, 2] - 1), (1 - wide) * (2 * drawn[:, 3] - 1)
    zero = torch.zeros_like(share)
    places = torch.stack([torch.stack([wide, zero, right], 1), torch.stack([zero, high, down], 1)], 1)
    grid = F.affine_grid(places, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid.to(images.dtype), padding_mode="border", align_corners=False)


def cutout(images: Tensor, size: int, draws: Draws) -> Tensor:
    """Set a square of each image to 0, its centre anywhere, so that it may be cut by the border. N x C x H x W.

    Source: DeVries and Taylor 2017, arXiv 1708.04552.
    """
    n, _, height, width = images.shape
    centres = draws.uniform(n, 2, 1)
    rows = torch.arange(height, device=images.device) - (centres[:, 0] * height).floor()
    columns = torch.arange(width, device=images.device) - (centres[:, 1] * width).floor()
    low, high = -(size // 2), size - size // 2
    inside = ((rows >= low) & (rows < high))[:, :, None] & ((columns >= low) & (columns < high))[:, None, :]
    return images.masked_fill(inside[:, None], 0.0)


def mixup(images: Tensor, labels: Tensor, classes: int, share: float) -> tuple[Tensor, Tensor]:
    """Each image with `share` of itself and the rest of another one, and the targets N x classes alike.

    The other one is its neighbour, which is as random as the order of the batch. Source: Zhang et al. 2017, arXiv
    1710.09412.
    """
    return images.lerp(images.roll(1, 0), 1 - share), _mixed_targets(labels, classes, share)


def cutmix(
    images: Tensor, labels: Tensor, classes: int, share: float, centre: tuple[float, float]
) -> tuple[Tensor, Tensor]:
    """A rectangle of each image replaced by that of its neighbour; it has 1 - `share` of the area before it is cut.

    Targets are mixed by the area that it has inside the image. Source: Yun et al. 2019, arXiv 1905.04899.

    Args:
        images: N x C x H x W.
        labels: N.
        classes: of the targets.
        share: of the area that stays.
        centre: of the rectangle, as shares of height and width.
    """
    height, width = images.shape[-2:]
    half = (1 - share) ** 0.5 / 2
    top, bottom = (_clamp(round((centre[0] + sign * half) * height), height) for sign in (-1, 1))
    left, right = (_clamp(round((centre[1] + sign * half) * width), width) for sign in (-1, 1))
    mixed = images.clone()
    mixed[:, :, top:bottom, left:right] = images.roll(1, 0)[:, :, top:bottom, left:right]
    return mixed, _mixed_targets(labels, classes, 1 - (bottom - top) * (right - left) / (height * width))


def _clamp(value: int, most: int) -> int:
    return min(max(value, 0), most)


def _mixed_targets(labels: Tensor, classes: int, share: float) -> Tensor:
    targets = F.one_hot(labels, classes).to(torch.float32)
    return targets.lerp(targets.roll(1, 0), 1 - share)
