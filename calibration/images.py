"""Which images to calibrate with: drawn at random with a seed, as many of each class where there are labels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..errors import UsageError

DEFAULT_IMAGES = 512
FEW = 100


def choose_images(
    labels: npt.NDArray[np.int64], count: int = DEFAULT_IMAGES, seed: int = 0
) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    """Indices of `count` images (or of all, where there are fewer), in random order, and what a person should know.

    Classes take turns, each in a random order of its own, until there are enough: no class has more than one image more
    than another that still had some left.

    Raises:
        UsageError: no images, or images of one class only, which cannot show what the activations of the others are.
    """
    if count < 1:
        raise UsageError(f"calibration needs at least 1 image, got {count}")
    if not len(labels):
        raise UsageError("calibration needs images, got none", fix="give --data")
    classes = np.unique(labels)
    if len(classes) == 1:
        raise UsageError(
            f"all {len(labels)} images for calibration are of one class ({classes[0]})",
            fix="give images of all classes",
        )
    random = np.random.default_rng(seed)
    order = random.permutation(len(labels))
    turn = np.zeros(len(labels), np.int64)
    for one in classes:
        own = order[labels[order] == one]
        turn[own] = np.arange(len(own))
    chosen = order[np.argsort(turn[order], kind="stable")][:count]
    notes: list[str] = []
    if len(chosen) < count:
        notes.append(f"calibrated with all {len(chosen)} images; {count} were requested")
    if len(chosen) < FEW:
        notes.append(
            f"calibrated with {len(chosen)} images only: fewer than {FEW} give ranges that vary from draw to draw"
        )
    return random.permutation(chosen), tuple(notes)
