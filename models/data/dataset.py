"""A data set: class names, and a training and a validation split of labelled images."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..preprocess import Pixels, as_image, batch_to_pixels, decode, to_pixels
from ..spec import Preprocess

Labels = npt.NDArray[np.int64]


class Split(Protocol):
    """Labelled images in a fixed order."""

    @property
    def labels(self) -> Labels:
        """One index into the data set's classes per image."""
        ...

    def __len__(self) -> int: ...

    def image(self, index: int) -> Image.Image:
        """The image as a decoder gives it, before any preprocessing."""
        ...

    def pixels(self, indices: npt.NDArray[np.int64], preprocess: Preprocess) -> Pixels:
        """The images of `indices`, resized and cropped: uint8 N x C x H x W."""
        ...

    def take(self, indices: npt.NDArray[np.int64]) -> Split:
        """Only these images, in this order."""
        ...


@dataclass(frozen=True)
class ArraySplit:
    """Images of one size, in memory: uint8 N x H x W x C with one or three channels."""

    array: Pixels
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> Image.Image:
        """See Split."""
        return as_image(self.array[index])

    def pixels(self, indices: npt.NDArray[np.int64], preprocess: Preprocess) -> Pixels:
        """See Split."""
        return batch_to_pixels(self.array[indices], preprocess)

    def take(self, indices: npt.NDArray[np.int64]) -> ArraySplit:
        """See Split."""
        return ArraySplit(self.array[indices], self.labels[indices])


@dataclass(frozen=True)
class FileSplit:
    """Image files, decoded when they are needed. Pillow decodes and resizes outside the GIL, so threads suffice."""

    paths: tuple[Path, ...]
    labels: Labels
    threads: int = 8

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> Image.Image:
        """See Split. Raises UsageError that names a file that cannot be decoded."""
        return decode(self.paths[index])

    def pixels(self, indices: npt.NDArray[np.int64], preprocess: Preprocess) -> Pixels:
        """See Split."""
        with ThreadPoolExecutor(self.threads) as pool:
            return np.stack(list(pool.map(lambda i: to_pixels(self.image(int(i)), preprocess), indices)))

    def take(self, indices: npt.NDArray[np.int64]) -> FileSplit:
        """See Split."""
        return FileSplit(tuple(self.paths[int(i)] for i in indices), self.labels[indices], self.threads)


@dataclass(frozen=True)
class Dataset:
    """Named, split, labelled images.

    Attributes:
        name: as it was asked for.
        classes: class names; labels index them.
        train: what a model learns from; empty where only validation images are there.
        val: what it is judged on, never seen in training.
        preprocess: what a model that is trained on it from scratch takes.
        mirror: whether an image flipped left to right keeps its label (a digit does not).
        notes: what a person should know, such as a split that was made here.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    val: Split
    preprocess: Preprocess
    mirror: bool
    notes: tuple[str, ...] = ()


def batches(
    split: Split, preprocess: Preprocess, size: int, limit: int | None = None
) -> Iterator[tuple[Pixels, Labels]]:
    """Uint8 batches N x C x H x W with their labels, in order; the last one may be smaller."""
    count = len(split) if limit is None else min(limit, len(split))
    for start in range(0, count, size):
        indices = np.arange(start, min(start + size, count))
        yield split.pixels(indices, preprocess), split.labels[indices]
