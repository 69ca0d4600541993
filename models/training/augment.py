"""Augmentation on batches that are on the device already: tensors in, tensors out, no host sync."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor


def mirror(images: Tensor, generator: Generator) -> Tensor:
    """Flip each image left to right with probability 1/2. N x C x H x W, any dtype."""
    chosen = torch.rand(len(images), device=images.device, generator=generator) < 0.5
    return torch.where(chosen[:, None, None, None], images.flip(-1), images)


def shift(images: Tensor, most: int, generator: Generator) -> Tensor:
    """Move each image by up to `most` pixels in both directions; what comes in is zero. N x C x H x W.

    The classic "pad and crop" of small images (He et al. 2015, section 4.2), as one gather.
    """
    if most == 0:
        return images
    n, _, height, width = images.shape
    padded = F.pad(images, (most, most, most, most))
    offsets = torch.randint(0, 2 * most + 1, (2, n, 1), device=images.device, generator=generator)
    rows = offsets[0] + torch.arange(height, device=images.device)
    columns = offsets[1] + torch.arange(width, device=images.device)
    index = torch.arange(n, device=images.device)
    return padded[index[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def normalise(images: Tensor, scale: float, mean: Tensor, std: Tensor) -> Tensor:
    """uint8 N x C x H x W -> float32 (pixel * scale - mean) / std; mean and std are 1 x C x 1 x 1 on the device."""
    return (images.to(torch.float32) * scale - mean) / std
