"""Which images a step sees: a pure function of the seed, the epoch and the step, split between processes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...errors import UsageError
from .world import ALONE, World

RARE = 0.1  # of the commonest class


@dataclass(frozen=True)
class Order:
    """Shuffled batches over a split; the rest that fills no batch is left out.

    Attributes:
        count: images of the split.
        batch: images of a step, of all processes together.
        seed: of the shuffling.
        world: the processes.
        weights: how often an image is drawn beside the others, with replacement; None for each once an epoch.
    """

    count: int
    batch: int
    seed: int
    world: World = ALONE
    weights: npt.NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        if self.size % self.world.size or self.size // self.world.size < 1:
            raise UsageError(
                f"a batch of {self.size} images cannot be shared by {self.world.size} processes",
                fix=f"--set batch_size={max(1, round(self.batch / self.world.size)) * self.world.size}",
            )

    @property
    def size(self) -> int:
        """Images of a step, where the split has so many."""
        return min(self.batch, self.count)

    @property
    def steps(self) -> int:
        """Of an epoch."""
        return self.count // self.size

    def epoch(self, number: int) -> Tensor:
        """Indices of an epoch's images in the order in which they are seen."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
        if self.weights is None:
            return torch.randperm(self.count, generator=generator)
        return torch.multinomial(torch.from_numpy(self.weights), self.count, replacement=True, generator=generator)

    def step(self, epoch: Tensor, step: int) -> Tensor:
        """The part of `epoch` that this process sees in a step."""
        mine = self.world.own(self.size)
        return epoch[step * self.size + mine.start : step * self.size + mine.stop]


def class_weights(labels: npt.NDArray[np.int64], classes: int) -> npt.NDArray[np.float64]:
    """What makes each class count alike: the inverse of its images, 1 in the mean over images, 0 without images."""
    counts = np.bincount(labels, minlength=classes)
    present = np.count_nonzero(counts)
    return np.divide(len(labels) / present, counts, out=np.zeros(classes), where=counts > 0)


def rare_classes(labels: npt.NDArray[np.int64], names: tuple[str, ...], share: float = RARE) -> str | None:
    """The classes with fewer than a tenth of the images of the commonest one, in words; None where there are none."""
    if len(names) == 1:
        return f"all images are of one class, {names[0]}: there is nothing to tell apart"
    counts = np.bincount(labels, minlength=len(names))
    most = int(counts.max(initial=0))
    rare = sorted((int(counts[i]), name) for i, name in enumerate(names) if counts[i] < share * most)
    if not rare:
        return None
    told = ", ".join(f"{name} {count:,}" for count, name in rare[:5])
    more = f", and {len(rare) - 5} more" if len(rare) > 5 else ""
    times = "unseen" if rare[0][0] == 0 else f"{math.floor(most / rare[0][0])} times rarer"
    return (
        f"{len(rare)} of {len(names)} classes are rare beside the commonest with {most:,} images, up to {times}: "
        f"{told}{more}; --set balance=loss or balance=sampling makes them count alike, and macro_recall shows them"
    )
