"""The 2:4 pattern in plain arrays, for machines that have no torch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def holds_2_4(weight: npt.NDArray[np.generic], inputs_axis: int = 1) -> bool:
    """Whether at least two of every four values that follow each other along the inputs are zero."""
    moved = np.moveaxis(weight, inputs_axis, -1)
    if moved.shape[-1] % 4:
        return False
    return bool((np.count_nonzero(moved.reshape(*moved.shape[:-1], -1, 4), axis=-1) <= 2).all())
