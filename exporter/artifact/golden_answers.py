"""What golden/answers.json holds: the float64 truth and the yardstick of an artifact. It travels in packages."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt


def parse_answers(
    data: Any, shape: tuple[int, ...]
) -> tuple[npt.NDArray[np.float64] | None, npt.NDArray[np.float32] | None, str, float, int]:
    """Truth, yardstick, how it was computed, its jitter and rounded layers, from the content of golden/answers.json.

    Raises:
        ValueError, KeyError, TypeError: it is not what an export writes for golden logits of this shape.
    """
    truth = None if data["truth"] is None else np.asarray(data["truth"], np.float64)
    yardstick = None if data["yardstick"] is None else np.asarray(data["yardstick"], np.float32)
    for name, values in (("truth", truth), ("yardstick", yardstick)):
        if values is not None and (values.shape != shape or not np.isfinite(values).all()):
            raise ValueError(f"{name} is {values.shape}, or not finite, for logits of {shape}")
    jitter = float(data["jitter"])
    if not 0 <= jitter < math.inf:
        raise ValueError(f"jitter is {jitter}")
    return truth, yardstick, str(data["computed"]), jitter, int(data["rounded"])
