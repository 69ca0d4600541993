"""Is an artifact faithful: does it compute what was planned, as nearly as its precision allows?

Three answers to the same golden images are compared. The *truth* is the source's in float64. The *yardstick* is the
source computed in torch at the artifact's own precision, for int8 as its plan rounds. The third is the artifact's.
Distances are relative L2 norms of an image's logits, with each image's mean taken away, for softmax does not see it.
How far the yardstick is from the truth is what rounding does to this network and this image; an artifact that computes
the same is about as far, wherever its own roundings fall. docs/decisions/0018 says what the limits rest on.

numpy alone: packages judge by this file too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .gate import Gate

Answers = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class FaithfulRule:
    """Limits of a precision.

    Attributes:
        farther: how many times as far from the truth as its yardstick an artifact may be, the median over the images.
        apart: how far from its yardstick it may be, in the yardstick's own distances, the median over the images;
            farther where two right computations of the yardstick are farther apart, see JITTER.
        floor: a distance that counts as none: below it no rounding of this precision is told from another.
        reason: why that much.
    """

    farther: float
    apart: float
    floor: float
    reason: str


RULES = {
    "fp32": FaithfulRule(5.0, 6.0, 1e-6, "other orders of the same sums, folded batch norms, other kernels"),
    "fp16": FaithfulRule(3.0, 3.5, 5e-4, "10 bits of mantissa, rounded at other places"),
    "bf16": FaithfulRule(3.0, 3.5, 4e-3, "7 bits of mantissa, rounded at other places"),
    "int8": FaithfulRule(1.3, 0.35, 1e-3, "the same integers, but for values that lie between two of them"),
}


WORST = 10.0  # times as far as the median may be, a single image may be apart: more is not the same computation
JITTER = 2.0  # times as far apart as two right computations of a yardstick: clearly another computation


@dataclass(frozen=True)
class Distances:
    """Of N images, each relative to the norm of the truth's logits.

    Attributes:
        artifact: from the artifact to the truth.
        yardstick: from the yardstick to the truth.
        apart: from the artifact to the yardstick.
        constant: from the truth's mean answer, whatever the image, to the truth.
    """

    artifact: npt.NDArray[np.float64]
    yardstick: npt.NDArray[np.float64]
    apart: npt.NDArray[np.float64]
    constant: npt.NDArray[np.float64]

    def farther(self, floor: float) -> float:
        """How many times as far from the truth as the yardstick the artifact is."""
        return self._median(self.artifact, floor)

    def moved(self, floor: float) -> float:
        """How far from the yardstick the artifact is, in the yardstick's distances to the truth."""
        return self._median(self.apart, floor)

    def worst(self, floor: float) -> float:
        """The same of the image that moved most, in the median distance where its own yardstick is nearer."""
        known = self.known
        unit = np.maximum(self.yardstick[known], max(floor, float(np.median(self.yardstick[known]))))
        return float((self.apart[known] / unit).max())

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        """Which images can be judged: true logits that are all the same have no norm to compare with."""
        return np.isfinite(self.yardstick) & np.isfinite(self.apart)

    def _median(self, distance: npt.NDArray[np.float64], floor: float) -> float:
        known = self.known
        return float(np.median(distance[known] / np.maximum(self.yardstick[known], floor)))


def relative_distance(one: Answers, other: Answers) -> npt.NDArray[np.float64]:
    """For each image the norm of the difference of two rows of logits N x K over the norm of the second, both centred.

    A row whose logits are all the same has no norm to compare with: its distance is 0 to itself and infinite else. So
    is that of NaN.
    """
    a, b = (np.asarray(rows, np.float64) for rows in (one, other))
    return _over(_norms(a - b), _norms(b))


def measure_distances(truth: Answers, yardstick: Answers, artifact: Answers) -> Distances:
    """Distances between three answers N x K; raises ValueError for shapes that differ."""
    if not truth.shape == yardstick.shape == artifact.shape:
        raise ValueError(f"logits of shapes {truth.shape}, {yardstick.shape} and {artifact.shape} cannot be compared")
    centred = np.asarray(truth, np.float64)
    centred = centred - centred.mean(1, keepdims=True)
    return Distances(
        relative_distance(artifact, truth),
        relative_distance(yardstick, truth),
        _over(_norms(np.asarray(artifact, np.float64) - np.asarray(yardstick, np.float64)), _norms(centred)),
        relative_distance(np.broadcast_to(centred.mean(0), centred.shape), centred),
    )


def judge_faithful(
    truth: Answers,
    yardstick: Answers,
    artifact: Answers,
    precision: str,
    what: str = "golden images",
    jitter: float = 0.0,
) -> Gate:
    """Gate `numerics` by truth and yardstick.

    Fails on NaN, and where the artifact is clearly farther than its precision explains, from the truth or from the
    yardstick, in the median of the images; and where a single image is `WORST` times as far from the yardstick as that.
    Inconclusive for a single image, and where the same answer to every image would pass too: then it cannot be seen
    that the answers depend on the images.

    Args:
        truth: the source's logits in float64, N x K.
        yardstick: the source's at the precision.
        artifact: what is judged.
        precision: row of `RULES`.
        what: the images are, in words.
        jitter: how far two right computations of the yardstick are apart, in its distances to the truth.
    """
    rule = RULES[precision]
    if len(truth) == 0:
        return Gate("numerics", "fail", f"nothing was compared: no {what}", {"images": 0})
    if not np.isfinite(artifact).all():
        bad = int((~np.isfinite(artifact)).any(1).sum())
        reason = f"NaN or infinity in the logits of {bad} of {len(truth)} {what}"
        return Gate("numerics", "fail", reason, {"images": len(truth)})
    found = measure_distances(truth, yardstick, artifact)
    if not found.known.any():
        reason = f"on each of {len(truth)} {what} the true logits are all the same"
        return Gate("numerics", "inconclusive", reason, {"images": len(truth)})
    farther, moved, worst = found.farther(rule.floor), found.moved(rule.floor), found.worst(rule.floor)
    middle = float(np.median(found.artifact))
    most_moved = max(rule.apart, JITTER * jitter)
    numbers = {
        "images": len(truth),
        "distance": middle,
        "yardstick_distance": float(np.median(found.yardstick)),
        "apart": float(np.median(found.apart)),
        "farther": farther,
        "moved": moved,
        "worst_distance": float(found.artifact.max()),
        "max_farther": rule.farther,
        "max_moved": most_moved,
        "worst_moved": worst,
        "max_worst_moved": WORST * most_moved,
        "jitter": jitter,
        "rule": rule.reason,
    }
    shown = f"{middle:.1e} from the truth, the yardstick {np.median(found.yardstick):.1e}, over {len(truth)} {what}"
    if farther > rule.farther:
        reason = f"unfaithful: {farther:.2g} times as far from the truth as {precision} explains ({shown})"
        return Gate("numerics", "fail", reason, numbers)
    if moved > most_moved:
        reason = f"unfaithful: {np.median(found.apart):.1e} away from what the {precision} plan gives ({shown})"
        return Gate("numerics", "fail", reason, numbers)
    if worst > WORST * most_moved:
        farthest = float(found.apart[found.known].max())
        reason = f"unfaithful: {farthest:.1e} away from what the {precision} plan gives on one image, near it on most"
        return Gate("numerics", "fail", f"{reason} ({shown})", numbers)
    if len(truth) == 1:
        return Gate("numerics", "inconclusive", "one image cannot show that the answer depends on it", numbers)
    mute = float(np.median(found.constant[found.known] / np.maximum(found.yardstick[found.known], rule.floor)))
    if mute <= rule.farther:
        reason = f"rounding hides what tells the {len(truth)} {what} apart: the same answer to each would be as near"
        return Gate("numerics", "inconclusive", f"{reason} ({shown})", numbers)
    return Gate("numerics", "pass", f"faithful: {shown}", numbers)


def other_plan(precision: str, planned: int, rounded: int) -> str:
    """Why a yardstick does not belong to an int8 plan: it rounds other layers; "" where it does.

    Args:
        precision: of the artifact.
        planned: layers of its plan in int8; 0 where it has no plan.
        rounded: layers of the yardstick that run on integers.
    """
    if precision != "int8" or not planned or planned == rounded:
        return ""
    return f"the plan has {planned} layers in int8, the yardstick {rounded}"


def _norms(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.linalg.norm(rows - rows.mean(1, keepdims=True), axis=1)


def _over(noise: npt.NDArray[np.float64], signal: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    found = np.divide(noise, signal, out=np.where(noise == 0, 0.0, np.inf), where=signal > 0)
    return np.where(np.isnan(found), np.inf, found)
