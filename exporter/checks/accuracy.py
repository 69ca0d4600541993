"""Gate `accuracy`: does the artifact answer as rightly as the reference, on the same labelled images?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...models.runs import Reached
from .budget import AccuracyLimits
from .gate import Gate

Z95 = 1.6449  # one-sided 95 %

# The largest drop of top-1 that passes, as a share of the images, with the reason.
FEW = 30  # images, of which nothing is said about labels
MAX_DROP = {
    "fp32": (0.001, "the same arithmetic: only ties may fall to the other side"),
    "fp16": (0.002, "published fp16 exports lose nothing that 50,000 images can show"),
    "bf16": (0.005, "three bits less than fp16"),
    "int8": (0.005, "half a point, what careful int8 loses on ImageNet"),
}


@dataclass(frozen=True)
class Paired:
    """The same images through both.

    Attributes:
        images: how many.
        reference: share the reference has right.
        artifact: share the artifact has right.
        lost: images only the reference has right.
        gained: images only the artifact has right.
    """

    images: int
    reference: float
    artifact: float
    lost: int
    gained: int

    @property
    def drop(self) -> float:
        """Top-1 of the reference minus top-1 of the artifact."""
        return (self.lost - self.gained) / self.images if self.images else 0.0


@dataclass(frozen=True)
class Interval:
    """Of the drop: each bound holds with 95 % certainty by itself."""

    low: float
    high: float


def measure_accuracy(
    reference: npt.NDArray[np.float32], got: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]
) -> Paired:
    """Count right answers and flips. Logits N x K twice, labels N as indices into K."""
    was, now = reference.argmax(1) == labels, got.argmax(1) == labels
    count = len(labels)
    return Paired(
        images=count,
        reference=float(was.mean()) if count else 0.0,
        artifact=float(now.mean()) if count else 0.0,
        lost=int((was & ~now).sum()),
        gained=int((now & ~was).sum()),
    )


def unbelievable(reference: float, images: int, classes: int, reached: float | None) -> str | None:
    """Why the reference's own accuracy says that the labels are not the model's; None where it does not.

    Both sides would agree on wrong labels too, so that no difference between them would show it.

    Args:
        reference: share of the images it has right.
        images: how many; of few nothing is said.
        classes: of the model.
        reached: what training measured on this data, on whatever number of its images.
    """
    if images < FEW:
        return None
    if reached is not None and reference < reached / 2:
        return (
            f"the reference has {reference:.2%} right where training reached {reached:.2%}: the labels or the "
            "preprocessing are not the ones it was trained with"
        )
    if reached is None and reference <= 1 / classes:
        return f"the reference has {reference:.2%} right, no more than guessing: the labels may not be the model's"
    return None


def mcnemar(lost: int, gained: int) -> float:
    """The exact McNemar test: how likely a split of the flips at least this uneven is when neither side is better.

    Two-sided p of a binomial of lost + gained at 1/2 (McNemar 1947); 1 without flips.
    """
    flips = lost + gained
    return min(1.0, 2 * _lower_tail(min(lost, gained), flips)) if flips else 1.0


def _lower_tail(k: int, n: int) -> float:
    """P(X <= k) of a binomial of n at 1/2, k at most n / 2; scipy has it, and takes a fifth of a second to import."""
    term = total = math.exp(math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2))
    while k > 0 and term > 1e-17 * total:
        term *= k / (n - k + 1)
        total += term
        k -= 1
    return total


def interval_of_drop(paired: Paired) -> Interval:
    """The paired difference with its adjusted Wald interval (Agresti and Min 2005: half a count in each cell).

    Without any flip the bound is exact: a flip rate p would have shown none with probability (1 - p)^n.
    """
    n = paired.images
    if paired.lost == paired.gained == 0:
        bound = 1 - 0.05 ** (1 / n)
        return Interval(-bound, bound)
    lost, gained, total = paired.lost + 0.5, paired.gained + 0.5, n + 2
    drop = (lost - gained) / total
    error = math.sqrt(lost + gained - (lost - gained) ** 2 / total) / total
    return Interval(drop - Z95 * error, drop + Z95 * error)


def judge_accuracy(
    paired: Paired,
    precision: str,
    *,
    numerics_passed: bool,
    golden_differ: int = 0,
    reached: Reached | None = None,
    limit: float | None = None,
    limits: AccuracyLimits | None = None,
    classes: Sequence[Mapping[str, Any]] = (),
) -> Gate:
    """Judge the drop against the limit of the precision.

    Args:
        paired: what was measured.
        precision: row of `MAX_DROP`.
        numerics_passed: with it, no flipped answer is a pass; the bound that this many images allow is in the reason.
        golden_differ: golden images, from the raw file on, whose top answer is not the source's.
        reached: what training measured on these very images, or None when it was on others.
        limit: the largest drop that passes, where another than the table's was asked for; it has to be shown even when
            nothing flipped.
        limits: of a budget: its max_drop counts as such a limit, its min_top1 and max_class_drop beside it.
        classes: the recall of each class on both sides (`answers.recalls`).
    """
    limits = limits or AccuracyLimits()
    asked = limit = limits.max_drop if limit is None else limit
    limit, why = MAX_DROP[precision] if limit is None else (limit, "asked for")
    if paired.images == 0:
        return Gate("accuracy", "fail", "nothing was compared: no labelled images", {"images": 0})
    bounds = interval_of_drop(paired)
    numbers = {
        "images": paired.images,
        "reference": paired.reference,
        "top1": paired.artifact,
        "drop": paired.drop,
        "drop_low": bounds.low,
        "drop_high": bounds.high,
        "lost": paired.lost,
        "gained": paired.gained,
        "mcnemar_p": mcnemar(paired.lost, paired.gained),
        "max_drop": limit,
        "max_drop_reason": why,
    }
    if reached is not None:
        numbers["reached"] = reached.accuracy
        if abs(paired.reference - reached.accuracy) > max(0.001, 1.5 / paired.images):
            reason = (
                f"training reached {reached.accuracy:.2%} on these images, the reference gives {paired.reference:.2%}: "
                "the preprocessing or the weights are not the ones it was trained with"
            )
            return Gate("accuracy", "fail", reason, numbers)
    if golden_differ:
        reason = f"{golden_differ} golden images are answered differently from the raw file on: check the preprocessing"
        return Gate("accuracy", "fail", reason, numbers)
    shown = f"top-1 {paired.artifact:.2%}, reference {paired.reference:.2%}"
    beyond = _beyond(paired, limits, classes)
    if beyond:
        return Gate("accuracy", "fail", f"{shown}; {beyond}", numbers)
    flips = paired.lost + paired.gained
    if flips == 0 and numerics_passed and (asked is None or bounds.high <= asked):
        reason = f"{shown}; no answer flipped in {paired.images}, so fewer than {bounds.high:.2%} do (95 % certainty)"
        return Gate("accuracy", "pass", reason, numbers)
    within = f"drop {100 * paired.drop:.2f} points, at most {100 * bounds.high:.2f} with 95 % certainty"
    if bounds.high <= limit:
        return Gate("accuracy", "pass", f"{shown}; {within}", numbers)
    if bounds.low > limit:
        reason = f"{shown}; drop {100 * paired.drop:.2f} points, more than the {100 * limit:g} allowed"
        return Gate("accuracy", "fail", reason, numbers)
    needed = images_needed(paired, limit)
    advice = f"needs about {needed:,} images" if needed else f"it looks like more than the {100 * limit:g} allowed"
    return Gate("accuracy", "inconclusive", f"{shown}; {within}, allowed {100 * limit:g}: {advice}", numbers)


def _beyond(paired: Paired, limits: AccuracyLimits, classes: Sequence[Mapping[str, Any]]) -> str:
    """Which plain limit of the budget is not kept, if any."""
    if limits.min_top1 is not None and paired.artifact < limits.min_top1:
        return f"less than the {limits.min_top1:.2%} that the budget asks for"
    if limits.max_class_drop is not None and classes:
        worst = max(classes, key=lambda one: one["reference"] - one["artifact"])
        drop = worst["reference"] - worst["artifact"]
        if drop > limits.max_class_drop:
            allowed = f"{100 * limits.max_class_drop:g} allowed"
            return f"class {worst['label']} loses {100 * drop:.2f} points of recall, {allowed}"
    return ""


def images_needed(paired: Paired, limit: float) -> int | None:
    """How many images would bring the upper bound under the limit, at these rates; None when the drop is above it."""
    if paired.drop >= limit:
        return None
    rate = max(paired.lost + paired.gained, 1) / paired.images
    return math.ceil((Z95**2) * (rate - paired.drop**2) / (limit - paired.drop) ** 2)
