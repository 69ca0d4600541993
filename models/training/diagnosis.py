"""What an epoch's two accuracies say when they drift apart, and which of two reasons it has."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
from torch import nn

DRIFT = 0.10  # points of accuracy that training images may be ahead of others
NORMS = 0.10  # that statistics of a batch may be ahead of the running ones


@contextmanager
def batch_statistics(module: nn.Module) -> Iterator[bool]:
    """The block in which batch norms use the statistics of each batch and remember nothing; whether there are any."""
    norms = [part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    before = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.train()
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield bool(norms)
    finally:
        for norm, momentum, seen in before:
            norm.momentum, norm.num_batches_tracked = momentum, seen
            norm.eval()


def drifted(train: float, val: float) -> bool:
    """Whether the accuracy on training images, augmented as they are, is far ahead."""
    return train - val > DRIFT


def commonest(labels: npt.NDArray[np.int64]) -> float:
    """Return the accuracy of always answering the commonest class."""
    return float(np.bincount(labels).max() / len(labels)) if len(labels) else 0.0


def no_better(val: float, images: int, chance: float) -> bool:
    """Return whether an accuracy may as well be that of always answering the commonest class.

    Args:
        val: the accuracy.
        images: that it was measured on.
        chance: of `commonest`.
    """
    return val <= chance + 2 * math.sqrt(chance * (1 - chance) / max(images, 1))


def learned_little(train: float, val: float, images: int, chance: float) -> bool:
    """Return whether so little was learned that there is nothing yet to be known by heart."""
    return no_better(val, images, chance) and train < (1 + chance) / 2


def why_little(val: float, images: int, chance: float) -> str:
    """Return the warning that a model answers as if it had learned nothing."""
    return (
        f"{val:.1%} of {images} validation images are right, and always answering the commonest class gives "
        f"{chance:.1%}: it has learned next to nothing; train longer (--epochs), try another --set lr, or see with "
        "--overfit-batch whether it can learn at all"
    )


def why_drifted(train: float, val: float, with_batches: float | None, *, little: bool = False) -> str:
    """Return the warning with the likelier reason; "" where none of the two is likely.

    Args:
        train: accuracy on the epoch's training images.
        val: on validation images.
        with_batches: on validation images with the statistics of their batches; None without batch norms.
        little: whether next to nothing was learned, so that nothing can be known by heart (`learned_little`).
    """
    ahead = f"{train:.1%} of the training images are right, {val:.1%} of the validation images"
    if with_batches is not None and with_batches - val > NORMS:
        return (
            f"{ahead}, {with_batches:.1%} with the statistics of their own batches: the running statistics of the "
            "batch norms do not fit the weights; train longer, with larger batches, or at a lower lr"
        )
    if little:
        return ""
    return (
        f"{ahead}: the model learns its training images by heart, or the two are not alike; more data, augmentation "
        "(cutout, mixup, cutmix) or weight_decay help"
    )
