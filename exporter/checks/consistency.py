"""Gate `consistency`: is an image's answer its own, whatever it is batched with, and the same every time?

Needs no labels. A graph that was traced with one batch size, that normalises over the batch, or that reads past its
rows answers its golden images rightly and fails in production; so does a runtime that is not the same twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from ...errors import ZooError
from ..artifact import Golden
from .gate import Gate
from .numerics import tolerance_of

Logits = npt.NDArray[np.float32]
Run = Callable[[Logits], Logits]
BIT_EQUAL_ON = ("cpu",)  # where the same file, batch and threads give the same bits; GPUs may choose other kernels
FARTHER = 4  # times the yardstick's rounding: of two results that are rounded otherwise
ROWS = 5  # of a batch: odd, so that kernels that take rows by two, four or eight have a rest


@dataclass(frozen=True)
class Look:
    """One comparison of logits that should be the same.

    Attributes:
        name: in words.
        difference: the largest of a logit, over the spread of all; infinite where it could not run.
        allowed: what passes; 0 for equal bits.
        problem: why it could not run.
    """

    name: str
    difference: float
    allowed: float
    problem: str = ""

    @property
    def passed(self) -> bool:
        """Whether the answers are the same."""
        return not self.problem and self.difference <= self.allowed


def measure_consistency(
    run: Run, images: Logits, *, allowed: float, device: str = "cpu", again: Run | None = None
) -> list[Look]:
    """Look at the same images in different company.

    Args:
        run: logits of a batch, in any number.
        images: normalised, N x C x H x W, at least two that differ.
        allowed: the difference that passes where the runtime does not promise equal bits.
        device: where it runs.
        again: the same artifact, loaded a second time.
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


def judge_consistency(looks: Sequence[Look]) -> Gate:
    """All must agree; which does not is in the reason."""
    rows = [{**asdict(one), "difference": _finite(one.difference), "passed": one.passed} for one in looks]
    numbers = {"checks": rows}
    if not looks:
        return Gate("consistency", "fail", "nothing was compared", numbers)
    bad = [one for one in looks if not one.passed]
    if bad:
        told = "; ".join(
            f"{one.name}: {one.problem}" if one.problem else f"{one.name}: differ by {one.difference:.2g} of the spread"
            for one in bad[:2]
        )
        more = f", and {len(bad) - 2} more" if len(bad) > 2 else ""
        return Gate("consistency", "fail", f"{told}{more}", numbers)
    most = max(looks, key=lambda one: one.difference)
    told = "bit for bit" if most.difference == 0 else f"within {most.difference:.1g} of the spread ({most.name})"
    return Gate("consistency", "pass", f"{len(looks)} comparisons agree {told}", numbers)


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
