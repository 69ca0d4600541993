"""The input that suits a folder's pictures: small ones are not blown up to the size a network was published for.

A picture of 64x64 has nothing more to show at 224x224, where each step costs twelve times as much and a stem that was
made for photographs loses what is there. Named data sets bring their input (`Dataset.preprocess`); of a folder the
sizes are read from the files' headers.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from ..data.dataset import Dataset, FileSplit
from ..registry import MODELS, native_size

MOST = 256  # files that are looked at
STRIDE = 32  # networks halve the input five times
USUAL = 224  # of networks that are not zoo's own

Size = tuple[int, int]


@dataclass(frozen=True)
class SmallInput:
    """An input that is smaller than the network's own.

    Attributes:
        shape: C, H, W.
        note: why, and how to have the network's own.
    """

    shape: tuple[int, int, int]
    note: str


def small_input(source: str, data: Dataset) -> SmallInput | None:
    """Return the input for pictures that are smaller than what the network was published for; None for others."""
    native = native_size(source) if source in MODELS else USUAL
    if not isinstance(data.train, FileSplit) or data.preprocess.crop != (USUAL, USUAL):
        return None
    sizes = read_sizes(data.train.paths)
    size = suited(sizes, native) if sizes else None
    if size is None:
        return None
    if len(set(sizes)) == 1:
        pictures = f"the pictures are {sizes[0][0]}x{sizes[0][1]}"
    else:
        side = statistics.median(min(size) for size in sizes)
        pictures = f"the pictures are small (shorter side {side:.0f} pixels, the median of {len(sizes)})"
    own = f"--input 3x{native}x{native} for the network's own size"
    return SmallInput((3, *size), f"{pictures}: trains at 3x{size[0]}x{size[1]} ({own})")


def suited(sizes: Sequence[Size], native: int) -> Size | None:
    """Return height and width for pictures of these sizes; None where the network's own size suits.

    Pictures of one size with fewer pixels than the network's own input are shown at that size; of others the median of
    the shorter sides makes a square. Both are rounded to the next multiple of 32, and are 32 at least.

    >>> suited([(64, 64)], 224), suited([(60, 130)], 224), suited([(90, 300), (110, 100)], 224)
    ((64, 64), (64, 128), (96, 96))
    """
    height, width = sizes[0]
    if len(set(sizes)) > 1 or height * width > native * native:
        height = width = int(statistics.median(min(size) for size in sizes))
    size = _rounded(height), _rounded(width)
    return size if size[0] * size[1] < native * native else None


def read_sizes(paths: Sequence[Path]) -> list[Size]:
    """Return height and width of at most 256 files that are spread over all; what cannot be read is left out."""
    step = max(1, -(-len(paths) // MOST))
    sizes: list[Size] = []
    for path in paths[::step]:
        try:
            with Image.open(path) as image:  # reads the header alone
                sizes.append((image.height, image.width))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            continue  # the training names it when its turn comes
    return sizes


def _rounded(side: int) -> int:
    return max(STRIDE, STRIDE * round(side / STRIDE))
