"""What an epoch's two accuracies say when they drift apart, and which of two reasons it has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

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


def why_drifted(train: float, val: float, with_batches: float | None) -> str:
    """The warning, with the likelier reason.

    Args:
        train: accuracy on the epoch's training images.
        val: on validation images.
        with_batches: on validation images with the statistics of their batches; None without batch norms.
    """
    ahead = f"{train:.1%} of the training images are right, {val:.1%} of the validation images"
    if with_batches is not None and with_batches - val > NORMS:
        return (
            f"{ahead}, {with_batches:.1%} with the statistics of their own batches: the running statistics of the "
            "batch norms do not fit the weights; train longer, with larger batches, or at a lower lr"
        )
    return (
        f"{ahead}: the model learns its training images by heart, or the two are not alike; more data, augmentation "
        "(cutout, mixup, cutmix) or weight_decay help"
    )
