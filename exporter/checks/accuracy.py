"""Gate `accuracy`: what does the precision cost in answers, on the same images?

With labels it is the drop of top-1, without them the share of answers that differ from the reference's. Judged by
statistics alone: a gate fails where the whole 95 % interval lies beyond the limit, passes where all of it lies within,
and else cannot tell, with the number of images that it takes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
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
# The largest share of answers that may differ where there are no labels: a flip may be for the better too.
MAX_FLIPS = {"fp32": 0.001, "fp16": 0.01, "bf16": 0.05, "int8": 0.07}


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
    return paired_answers(reference.argmax(1), got.argmax(1), labels)


def paired_answers(
    reference: npt.NDArray[np.int64], got: npt.NDArray[np.int64], labels: npt.NDArray[np.int64]
) -> Paired:
    """The same of answers N, as indices like the labels."""
    was, now = reference == labels, got == labels
    count = len(labels)
    return Paired(
        images=count,
        reference=float(was.mean()) if count else 0.0,
        artifact=float(now.mean()) if count else 0.0,
        lost=int((was & ~now).sum()),
        gained=int((now & ~was).sum()),
    )


def without_ties(
    reference: npt.NDArray[np.float32], got: npt.NDArray[np.float32], margin: float
) -> npt.NDArray[np.int64]:
    """The artifact's answers N, with the reference's own wherever that hardly prefers it.

    Args:
        reference: logits N x K.
        got: the artifact's.
        margin: logits of the reference that are no farther apart than this are a tie: rounding alone decides it.
    """
    top, answer = reference.argmax(1), got.argmax(1)
    rows = np.arange(len(reference))
    tie = reference[rows, top] - reference[rows, answer] <= margin
    return np.where(tie, top, answer)


def certainly_more(count: int, images: int, share: float) -> bool:
    """Whether the lower bound of `share_interval` is above a share: one tail instead of the search for the bound."""
    return count > 0 and 1 - _at_most(count - 1, images, share) < 0.05


def share_interval(count: int, images: int) -> Interval:
    """A share with its exact interval, each bound with 95 % certainty by itself (Clopper and Pearson 1934)."""

    def where(beyond: Callable[[float], bool]) -> float:
        """The share at which `beyond` begins to hold."""
        low, high = 0.0, 1.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (low, middle) if beyond(middle) else (middle, high)
        return (low + high) / 2

    low = 0.0 if count == 0 else where(lambda share: 1 - _at_most(count - 1, images, share) > 0.05)
    high = 1.0 if count == images else where(lambda share: _at_most(count, images, share) < 0.05)
    return Interval(low, high)


def _at_most(k: int, n: int, p: float) -> float:
    """P(X <= k) of a binomial of n at p; scipy has it, and takes a fifth of a second to import."""
    if p <= 0 or p >= 1:
        return 1.0 if p <= 0 or k >= n else 0.0
    j = np.arange(k + 1)
    logs = np.cumsum(np.concatenate([[0.0], np.log((n - j[:-1]) / (j[:-1] + 1))]))
    return float(np.exp(logs + j * math.log(p) + (n - j) * math.log1p(-p)).sum())


def images_for_none(limit: float) -> int:
    """How many images show that a share is at most `limit`, with 95 % certainty, when none of them counts."""
    return math.ceil(math.log(0.05) / math.log1p(-limit))


def judge_agreement(
    reference: npt.NDArray[np.int64], got: npt.NDArray[np.int64], precision: str, why: str = ""
) -> Gate:
    """Judge the share of answers that differ from the reference's: what can be said without labels.

    Args:
        reference: answers N.
        got: the artifact's, ties settled.
        precision: row of `MAX_FLIPS`.
        why: no accuracy is judged.
    """
    images, limit = len(reference), MAX_FLIPS[precision]
    if not images:
        return Gate("accuracy", "fail", "nothing was compared: no images", {"images": 0})
    flips = int((reference != got).sum())
    bounds = share_interval(flips, images)
    numbers = {"images": images, "flips": flips, "flips_low": bounds.low, "flips_high": bounds.high, "max": limit}
    shown = f"{flips} of {images} answers differ from the reference's, at most {bounds.high:.2%} do (95 % certainty)"
    shown = f"{shown}; {why}" if why else shown
    if bounds.low > limit:
        return Gate("accuracy", "fail", f"more than the {limit:.1%} allowed: {shown}", numbers)
    if bounds.high <= limit or flips == 0:
        return Gate("accuracy", "pass", shown, numbers)
    rate = flips / images
    advice = f"probably more than the {limit:.1%} allowed, not certainly"
    if rate < limit:
        needed = math.ceil(Z95**2 * rate * (1 - rate) / (limit - rate) ** 2)
        advice = f"it takes about {max(needed, images_for_none(limit), images + 1):,} images to tell"
    return Gate("accuracy", "inconclusive", f"{shown}; allowed {limit:.1%}: {advice}", numbers)


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
    shown = f"top-1 {paired.artifact:.2%}, reference {paired.reference:.2%}"
    beyond = _beyond(paired, limits, classes)
    if beyond:
        return Gate("accuracy", "fail", f"{shown}; {beyond}", numbers)
    flips = paired.lost + paired.gained
    if flips == 0 and numerics_passed and (asked is None or bounds.high <= asked):
        reason = f"{shown}; no answer flipped in {paired.images}, so fewer than {bounds.high:.2%} do (95 % certainty)"
        if bounds.high > limit:
            needed = f"{images_for_none(limit):,} images"
            reason = f"{reason}; to show that the drop is within {100 * limit:g} points takes {needed}"
        return Gate("accuracy", "pass", reason, numbers)
    within = f"drop {100 * paired.drop:.2f} points, at most {100 * bounds.high:.2f} with 95 % certainty"
    if bounds.high <= limit:
        return Gate("accuracy", "pass", f"{shown}; {within}", numbers)
    if bounds.low > limit:
        reason = f"{shown}; drop {100 * paired.drop:.2f} points, more than the {100 * limit:g} allowed"
        return Gate("accuracy", "fail", reason, numbers)
    needed = images_needed(paired, limit)
    advice = (
        f"it takes about {needed:,} images to tell"
        if needed
        else f"probably more than the {100 * limit:g} allowed, not certainly"
    )
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
    if paired.lost == paired.gained == 0:
        return max(images_for_none(limit), paired.images + 1)
    rate = (paired.lost + paired.gained) / paired.images
    by_rate = math.ceil((Z95**2) * (rate - paired.drop**2) / (limit - paired.drop) ** 2)
    return max(by_rate, images_for_none(limit), paired.images + 1)
