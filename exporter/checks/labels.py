"""Gate `labels`: do the names in artifact.json stand in the order of the outputs?

An artifact agrees with its reference on exchanged labels as on right ones. The reference's own confusion matrix does
not: where two names are exchanged, most images of each are answered as the other, and where all are shifted, as the
next. A bad model confuses classes too, but not one for the other and the other for the one, each by far more often than
it is right. So what is looked for is a ring: classes of which each one's images are certainly mostly answered as the
next of the ring, and far more often than as itself. It is what the best assignment of answers to labels consists of
where that is not the labels' own, with certainty for every class that takes part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .accuracy import certainly_more
from .gate import Gate

Ints = npt.NDArray[np.int64]
# Each with 95 % certainty, of every class by itself: a ring takes two at least.
MOST = 0.5  # of a class's images
FAR_MORE = (
    0.8  # of those answered as one of the two: four times as many, which no guessing gives by half of its answers
)
NAMED = 5  # labels that a reason names
WITHOUT_DATA = "labels are untested without data (--data)"


@dataclass(frozen=True)
class Named:
    """Of one class, as what its images are mostly answered; None where that is not certain."""

    label: int
    answer: int | None
    count: int
    images: int


def judge_labels(answers: Ints, labels: Ints, names: Sequence[str]) -> Gate:
    """Fails for a ring, passes where classes are certainly answered as themselves, and tells which are untested.

    A model that has each class right as often as guessing would, and errors in any shares, is failed in fewer than 1 %
    of all cases (tests/exporter/checks/test_labels.py).

    Args:
        answers: the reference's, N, as indices into names.
        labels: the data's, N, as indices into names: by their names.
        names: the model's.
    """
    found = [_named(answers[labels == label], label, len(names)) for label in range(len(names))]
    rings = find_rings({one.label: one.answer for one in found if one.answer is not None})
    wrong = [label for ring in rings for label in ring]
    right = [one.label for one in found if one.answer == one.label]
    untested = [names[one.label] for one in found if one.label not in {*wrong, *right}]
    numbers = {
        "images": len(labels),
        "right": [names[label] for label in right],
        "rings": [[names[label] for label in ring] for ring in rings],
        "untested": untested,
    }
    if rings:
        told = [
            f"{one.count} of {one.images} images of {names[one.label]} are answered as {names[one.answer]}"
            for one in (found[label] for label in wrong[:NAMED])
            if one.answer is not None
        ]
        more = f", and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
        how = "exchanged" if all(len(ring) == 2 for ring in rings) else "shifted or in another order"
        return Gate("labels", "fail", f"{len(wrong)} labels look {how}: {', '.join(told)}{more}", numbers)
    if not right:
        reason = f"untested: no class of {len(names)} is certainly answered as one of them on {len(labels)} images"
        return Gate("labels", "skipped", reason, numbers)
    reason = f"{len(right)} of {len(names)} classes are certainly answered as themselves on {len(labels)} images"
    if untested:
        few = ", ".join(untested[:NAMED]) + (f" and {len(untested) - NAMED} more" if len(untested) > NAMED else "")
        reason = f"{reason}; untested, for too few images or too many errors: {few}"
    return Gate("labels", "pass", reason, numbers)


def find_rings(answered: dict[int, int]) -> list[tuple[int, ...]]:
    """Rings of two or more labels, each answered as the next, from the smallest on.

    >>> find_rings({0: 1, 1: 0, 2: 2, 3: 0})
    [(0, 1)]
    """
    found: list[tuple[int, ...]] = []
    for first in answered:
        ring, label = [first], answered[first]
        while label != first and label in answered and label not in ring:
            ring.append(label)
            label = answered[label]
        if label == first and len(ring) > 1 and first == min(ring):
            found.append(tuple(ring))
    return found


def _named(answers: Ints, label: int, classes: int) -> Named:
    """As what the images of a class are certainly mostly answered, and far more often than as its rival.

    The rival of another answer is the label itself, that of the label the next most frequent answer.
    """
    counts = np.bincount(answers, minlength=classes)
    top = int(counts.argmax())
    others = np.delete(counts, top)
    rival = int(counts[label]) if top != label else int(others.max(initial=0))
    count = int(counts[top])
    certain = certainly_more(count, len(answers), MOST) and certainly_more(count, count + rival, FAR_MORE)
    return Named(label, top if certain else None, count, len(answers))
