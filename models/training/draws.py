"""Random numbers for the images of a batch, drawn on the device."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from .world import ALONE, World


class Draws:
    """One number or more for each image.

    Each of several processes draws for the whole batch and keeps what is for its own images, so that a training does
    the same to an image in whatever number of processes it runs.

    Args:
        device: where the numbers are made.
        generator: on that device; None for torch's own.
        world: the processes that share a batch.
    """

    def __init__(self, device: torch.device, generator: Generator | None = None, world: World = ALONE) -> None:
        self._device, self._generator, self._world = device, generator, world

    def uniform(self, images: int, *shape: int) -> Tensor:
        """From [0, 1): images x shape."""
        count = images * self._world.size
        drawn = torch.rand((count, *shape), device=self._device, generator=self._generator)
        return drawn[self._world.own(count)]

    def integers(self, below: int, images: int, *shape: int) -> Tensor:
        """From 0 to below - 1: images x shape, int64."""
        count = images * self._world.size
        drawn = torch.randint(below, (count, *shape), device=self._device, generator=self._generator)
        return drawn[self._world.own(count)]
