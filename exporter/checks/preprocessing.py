"""Gate `preprocessing`: do the answers to the probes look like the source's, or like those that a usual mistake gives?

The artifact answers each probe through artifact.json's preprocessing, and through it with one mistake after the other
made (mistakes.py). Where a mistake brings the answers clearly nearer to the source's than the artifact's own are, the
artifact makes the opposite one, wherever: in artifact.json, in the graph, or in how the source was read. Where it takes
them clearly farther away, the artifact does not make it. Rounding decides neither: a mistake that moves the answers no
farther than rounding does is untested, and said to be.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .faithful import RULES, relative_distance
from .gate import Gate

Answers = npt.NDArray[np.floating[Any]]
CLEARLY = 2.0  # times as far, the middle one of the probes, and all of them but one in the same direction
NO_PROBES = "untested: exported before probes were kept, or the source cannot answer them"
BETWEEN = " in place of "
OPPOSITES = {"resized without antialiasing": "resized with antialiasing, which the source does not"}


@dataclass(frozen=True)
class Made:
    """What a mistake gives.

    Attributes:
        mistake: in words.
        distance: of its answers to the source's, the middle one of the probes.
        farther: how many times as far from the source's as the artifact's own, the middle one of the probes.
        all_but_one: whether at least all probes but one agree which of the two is farther.
    """

    mistake: str
    distance: float
    farther: float
    all_but_one: bool

    @property
    def ruled_out(self) -> bool:
        """Whether the artifact certainly does not make it."""
        return self.all_but_one and self.farther >= CLEARLY

    @property
    def explains(self) -> bool:
        """Whether the answers are clearly nearer to the source's with it than without."""
        return self.all_but_one and self.farther <= 1 / CLEARLY


def measure_made(truth: Answers, own: Answers, others: Mapping[str, Answers], precision: str) -> list[Made]:
    """How far each mistake's answers N x K are from the truth, beside the artifact's own.

    Args:
        truth: the source's logits.
        own: the artifact's, through artifact.json's preprocessing.
        others: the artifact's by mistake.
        precision: row of `RULES`, whose floor counts as no distance.
    """
    floor = RULES[precision].floor
    right = np.maximum(relative_distance(own, truth), floor)
    found: list[Made] = []
    for mistake, answers in others.items():
        wrong = np.maximum(np.nan_to_num(relative_distance(answers, truth), nan=np.inf, posinf=1e9), floor)
        ratio = wrong / right
        agreed = max(int((ratio > 1).sum()), int((ratio < 1).sum()))
        found.append(Made(mistake, float(np.median(wrong)), float(np.median(ratio)), agreed >= len(ratio) - 1))
    return found


def judge_preprocessing(truth: Answers, own: Answers, others: Mapping[str, Answers], precision: str) -> Gate:
    """Fails where a mistake explains the answers, passes where any is ruled out, and names those that are not.

    Args: as of `measure_made`.
    """
    if not np.isfinite(own).all():
        return Gate("preprocessing", "skipped", "untested: NaN or infinity in the answers to the probes")
    far = float(np.median(relative_distance(own, truth)))
    found = measure_made(truth, own, others, precision)
    rows = [{**asdict(one), "ruled_out": one.ruled_out} for one in found]
    numbers = {"probes": len(truth), "distance": far, "mistakes": rows}
    guilty = min((one for one in found if one.explains), key=lambda one: one.farther, default=None)
    if guilty is not None:
        reason = (
            f"{far:.1e} from the source's answers to {len(truth)} probes, and {guilty.distance:.1e} with "
            f"{guilty.mistake}: it answers as with {opposite(guilty.mistake)}"
        )
        return Gate("preprocessing", "fail", reason, numbers)
    ruled_out, rest = ([one for one in found if one.ruled_out is which] for which in (True, False))
    if not ruled_out:
        reason = f"untested: in {precision} rounding moves the answers to the probes as far as each usual mistake does"
        return Gate("preprocessing", "skipped", f"{reason} ({far:.1e} from the source's)", numbers)
    untested = f"; untested in {precision}: {', '.join(one.mistake for one in rest)}" if rest else ""
    nearest = min(ruled_out, key=lambda one: one.farther)
    reason = (
        f"{len(ruled_out)} of {len(found)} usual mistakes are ruled out over {len(truth)} probes, {far:.1e} from the "
        f"source's answers; the nearest gives {nearest.distance:.1e} ({nearest.mistake})"
    )
    return Gate("preprocessing", "pass", f"{reason}{untested}", numbers)


def opposite(mistake: str) -> str:
    """What an artifact does wrong that is right with a mistake: one filter, or order, in place of the other.

    >>> opposite("resized by bilinear in place of nearest")
    'resized by nearest in place of bilinear'
    """
    if mistake in OPPOSITES:
        return OPPOSITES[mistake]
    before, between, after = mistake.partition(BETWEEN)
    if not between:
        return f"the opposite of that, or the source with it: {mistake}"
    *words, one = before.split(" ")
    if not words:
        return f"red and blue exchanged, {after}{between}{one}"
    return " ".join([*words, after]) + f"{between}{one}"
