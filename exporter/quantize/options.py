"""How an int8 export is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...calibration.images import DEFAULT_IMAGES
from ...errors import UsageError


@dataclass(frozen=True)
class Int8Options:
    """How an int8 export is made.

    Attributes:
        images: for calibration.
        never_slower: turn layers back to float until the runtime at hand is not slower than with the float graph.
        weight_bits: 8 or 7; None for what suits this CPU.
        plan: artifact.json of an earlier int8 export: the same choices again, without measuring.
        max_drop: the largest drop of top-1 that is accepted, as a share of the images; layers are given back to float
            until it holds. None: the gate's own limit judges, and no layer is given back.
    """

    images: int = DEFAULT_IMAGES
    never_slower: bool = True
    weight_bits: int | None = None
    plan: Path | None = None
    max_drop: float | None = None

    def __post_init__(self) -> None:
        if self.max_drop is not None and not 0 < self.max_drop < 1:
            raise UsageError(
                f"max_drop must be above 0 and below 100 points, got {100 * self.max_drop:g}", fix="for example 0.5"
            )
        if self.max_drop is not None and self.plan is not None:
            raise UsageError("max_drop measures, a plan repeats without measuring", fix="give one of them")
        if self.images < 1 or self.weight_bits not in (None, 7, 8):
            raise UsageError(f"images must be at least 1 and weight_bits 7 or 8, got {self}")
