"""What a training tells, as TensorBoard's event files in the run folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ...errors import UnavailableError
from .epoch import Epoch, Watcher


@contextmanager
def to_tensorboard(watcher: Watcher, folder: Path) -> Iterator[Watcher]:
    """A watcher that writes each epoch to `folder`, and tells the one that is given.

    Loss and accuracies are over epochs, and the loss of the parts of each epoch over hundredths of epochs.

    Raises:
        UnavailableError: tensorboard is not installed.
    """
    try:
        from torch.utils.tensorboard.writer import SummaryWriter
    except ImportError as error:
        raise UnavailableError(
            "event files are written by tensorboard, which is not here", fix='pip install "zoo-export[tensorboard]"'
        ) from error
    writers: list[SummaryWriter] = []  # made with the first epoch: a training that fails before leaves nothing

    def write(done: Epoch) -> None:
        writer = writers[0] if writers else SummaryWriter(str(folder))
        writers[:] = [writer]
        values = {
            "loss/train": done.loss,
            "accuracy/train": done.train_accuracy,
            "accuracy/validation": done.accuracy,
            "rate/lr": done.lr,
            "speed/images per second": done.images_per_second,
        }
        for name, value in values.items():
            writer.add_scalar(name, value, done.epoch)
        for index, value in enumerate(done.curve, start=1):
            place = round(100 * (done.epoch - 1 + index / len(done.curve)))
            writer.add_scalar("loss/within epochs", value, place)
        writer.flush()
        watcher.epoch(done)

    try:
        yield replace(watcher, epoch=write)
    finally:
        for writer in writers:
            writer.close()
