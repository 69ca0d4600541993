"""Gate `consistency`: is an image's answer its own, whatever it is batched with, and the same every time?

Needs no labels. A graph that was traced with one batch size, that normalises over the batch, or that reads past its
rows answers its golden images rightly and fails in production; so does a runtime that is not the same twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import ZooError
from ..artifact.folder import Golden
from .batch_sizes import Sizes
from .gate import Gate
from .numerics import tolerance_of

Logits = npt.NDArray[np.float32]
Run = Callable[[Logits], Logits]
BIT_EQUAL_ON = ("cpu",)  # where the same file, batch and threads give the same bits; GPUs may choose other kernels
FARTHER = 4  # times the yardstick's rounding: of two results that are rounded otherwise
FEWEST = 3  # rows that have a middle one
# Of the spread, what the middle row of an int8 artifact may move on a CPU: its integers are the same in any batch. Of
# 16 right exports none moved at all.
INTEGERS = 1e-3
ROWS = 5  # of a batch: odd, so that kernels that take rows by two, four or eight have a rest


@dataclass(frozen=True)
class Look:
    """One comparison of logits that should be the same.

    Attributes:
        name: in words.
        difference: the largest of a logit, over the spread of all; infinite where it could not run.
        allowed: what passes; 0 for equal bits.
        problem: why it could not run.
        shift: how far the middle row moved, of the class that moved most, over the spread; 0 where that is not looked
            at. Rounding moves rows to either side, a fault moves all of them.
        allowed_shift: what passes of it.
    """

    name: str
    difference: float
    allowed: float
    problem: str = ""
    shift: float = 0.0
    allowed_shift: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether the answers are the same."""
        return not self.problem and self.difference <= self.allowed and self.shift <= self.allowed_shift


def measure_consistency(
    run: Run,
    images: Logits,
    *,
    allowed: float,
    device: str = "cpu",
    again: Run | None = None,
    sizes: Sizes | None = None,
    allowed_shift: float | None = None,
) -> list[Look]:
    """Look at the same images in different company.

    Args:
        run: logits of a batch, in any number.
        images: normalised, N x C x H x W, at least two that differ.
        allowed: the difference that passes where the runtime does not promise equal bits.
        device: where it runs.
        again: the same artifact, loaded a second time.
        sizes: of batches to be tried, filled with the images over and over, each time from another one on.
        allowed_shift: what the middle row of such a batch may move; None for `allowed`.
    """
    images = images[np.arange(max(ROWS, len(images))) % len(images)]  # few images are repeated
    exact = 0.0 if device in BIT_EQUAL_ON else allowed
    try:
        alone = np.concatenate([run(images[index : index + 1]) for index in range(len(images))])
    except ZooError as error:
        return [Look("a batch of one", np.inf, allowed, str(error))]
    spread = float(np.ptp(alone)) or 1.0

    def look(name: str, limit: float, first: Callable[[], Logits], second: Callable[[], Logits]) -> Look:
        try:
            one, other = first(), second()
        except ZooError as error:
            return Look(name, np.inf, limit, str(error))
        difference = float(np.abs(one.astype(np.float64) - other).max())
        return Look(name, difference / spread if np.isfinite(difference) else np.inf, limit)

    count, fewer = len(images), len(images) - 2
    order = np.random.default_rng(0).permutation(count)
    twins = np.repeat(images[:1], count, axis=0)
    found = [
        look(f"one by one and {count} at once", allowed, lambda: alone, lambda: run(images)),
        look("identical rows of a batch", allowed, lambda: run(twins)[:1], lambda: run(twins)),
        look("a reordered batch", allowed, lambda: run(images)[order], lambda: run(images[order])),
        look("a last batch with fewer rows", allowed, lambda: run(images)[:fewer], lambda: run(images[:fewer])),
        look("a repeated run", exact, lambda: run(images), lambda: run(images)),
    ]
    if again is not None:
        found.append(look("loaded twice", exact, lambda: run(images), lambda: again(images)))
    limit = allowed if allowed_shift is None else allowed_shift
    for size in sizes.tried if sizes is not None else ():
        rows = (np.arange(size) + size) % count
        name, wanted = f"a batch of {size}", alone[rows]
        try:
            moved = run(images[rows]).astype(np.float64) - wanted
        except ZooError as error:
            found.append(Look(name, np.inf, allowed, str(error)))
            continue
        middle = np.abs(np.median(moved, axis=0)).max() / spread if size >= FEWEST else 0.0
        found.append(Look(name, _number(np.abs(moved).max() / spread), allowed, "", _number(middle), limit))
    return found


def allowed_difference(
    backend: str, precision: str, *, trained: bool, asked: float | None = None, golden: Golden | None = None
) -> float:
    """What passes where bits may differ: the numerics table's, but for int8 fp16's.

    The scales of an int8 export are constants, so that batches change only what its float layers round. A network that
    amplifies rounding may differ by what it does to the yardstick's, whatever the table says.

    Args:
        backend: of the artifact.
        precision: of the artifact.
        trained: False for random weights.
        asked: a budget's limit, which counts alone.
        golden: truth and yardstick.
    """
    if asked is not None:
        return asked
    row = "fp16" if precision == "int8" else precision
    allowed = tolerance_of(row, backend=backend, trained=trained).relative
    if golden is None or golden.truth is None or golden.yardstick is None:
        return allowed
    rounding = float(np.abs(golden.yardstick - golden.truth).max() / (np.ptp(golden.truth) or 1.0))
    return max(allowed, FARTHER * rounding if precision != "int8" else rounding)


def allowed_shift(precision: str, allowed: float, *, device: str = "cpu", asked: float | None = None) -> float:
    """What the middle row of a batch may move: less than one row may, where all are rounded by integers on a CPU.

    Args:
        precision: of the artifact.
        allowed: of a single logit.
        device: where it runs.
        asked: a budget's limit, which counts alone.
    """
    exact = precision == "int8" and device in BIT_EQUAL_ON and asked is None
    return min(allowed, INTEGERS) if exact else allowed


def judge_consistency(looks: Sequence[Look], sizes: Sizes | None = None) -> Gate:
    """All must agree; which does not is in the reason, and so are the sizes that were tried and those that were not."""
    rows = [
        {**asdict(one), "difference": _finite(one.difference), "shift": _finite(one.shift), "passed": one.passed}
        for one in looks
    ]
    numbers: dict[str, Any] = {"checks": rows}
    if sizes is not None:
        numbers["batch_sizes"] = asdict(sizes)
    if not looks:
        return Gate("consistency", "fail", "nothing was compared", numbers)
    bad = [one for one in looks if not one.passed]
    if bad:
        told = "; ".join(f"{one.name}: {_told(one)}" for one in bad[:2])
        more = f", and {len(bad) - 2} more" if len(bad) > 2 else ""
        return Gate("consistency", "fail", f"{told}{more}", numbers)
    most = max(looks, key=lambda one: one.difference)
    told = "bit for bit" if most.difference == 0 else f"within {most.difference:.1g} of the spread ({most.name})"
    tried = f"; {sizes.told}" if sizes is not None else ""
    return Gate("consistency", "pass", f"{len(looks)} comparisons agree {told}{tried}", numbers)


def _told(look: Look) -> str:
    """Why a look did not pass."""
    if look.problem:
        return look.problem
    if look.difference > look.allowed:
        return f"differ by {look.difference:.2g} of the spread"
    return f"all rows are shifted by {look.shift:.2g} of the spread, more than rounding explains"


def _number(value: float) -> float:
    return float(value) if np.isfinite(value) else np.inf


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
