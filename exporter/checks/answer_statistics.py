"""What lies behind an accuracy: top-5, calibration, each class, each confusion, margins, and the flipped images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Logits = npt.NDArray[np.float32]
BINS = 15  # of the calibration error, as in its paper
MARGIN_BINS = 20
FLIPS = 60  # listed and shown; the rest is counted
CELLS = 50  # of the confusion difference


@dataclass(frozen=True)
class Flip:
    """An image with another top answer.

    Attributes:
        index: of the image in the data.
        label: the class that is right.
        reference, artifact: the answers.
        reference_p, artifact_p: their probabilities.
    """

    index: int
    label: str
    reference: str
    reference_p: float
    artifact: str
    artifact_p: float


@dataclass(frozen=True)
class Answers:
    """One side's answers to N images.

    Attributes:
        top: the first answer, N.
        probability: of it, N.
        margin: that minus the probability of the second, N.
        top5: the share of images with the right class among the first five.
        ece: expected calibration error.
    """

    top: npt.NDArray[np.int64]
    probability: npt.NDArray[np.float64]
    margin: npt.NDArray[np.float64]
    top5: float
    ece: float


def softmax(logits: Logits) -> npt.NDArray[np.float64]:
    """Probabilities N x K in float64; safe for large logits."""
    raised = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    return raised / raised.sum(1, keepdims=True)


def answers_of(logits: Logits, labels: npt.NDArray[np.int64]) -> Answers:
    """Read the answers off logits N x K, N at least 1."""
    probabilities = softmax(logits)
    rows = np.arange(len(logits))
    top: npt.NDArray[np.int64] = logits.argmax(1)
    first = probabilities[rows, top]
    others = probabilities.copy()
    others[rows, top] = 0.0
    few = min(5, logits.shape[1])
    best = np.argpartition(-logits, few - 1, axis=1)[:, :few]
    return Answers(
        top=top,
        probability=first,
        margin=first - others.max(1),
        top5=float((best == labels[:, None]).any(1).mean()),
        ece=calibration_error(first, top == labels),
    )


def calibration_error(confidence: npt.NDArray[np.float64], right: npt.NDArray[np.bool_]) -> float:
    """Expected calibration error: over 15 bins of equal width, the share-weighted gap of accuracy and confidence.

    Source: Guo et al. 2017, On Calibration of Modern Neural Networks, arXiv 1706.04599.
    """
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    # the share of a bin times its gap of means is its gap of sums over all images
    gap = np.bincount(bins, right, BINS) - np.bincount(bins, confidence, BINS)
    return float(np.abs(gap).sum() / len(confidence))


def compare_answers(
    reference: Logits, got: Logits, labels: npt.NDArray[np.int64], names: Sequence[str]
) -> dict[str, Any]:
    """All of it as numbers of the gate accuracy.

    Args:
        reference: logits N x K.
        got: the artifact's.
        labels: N, as indices into K.
        names: of the K classes.
    """
    if not len(labels):
        return {}
    was, now = answers_of(reference, labels), answers_of(got, labels)
    edges = np.linspace(0.0, 1.0, MARGIN_BINS + 1)
    flipped = np.flatnonzero(was.top != now.top)
    # the most certain first: a flip where both were sure is the one to look at
    order = flipped[np.argsort(-np.minimum(was.probability[flipped], now.probability[flipped]), kind="stable")]
    truth: list[int] = labels.tolist()
    before: list[int] = was.top.tolist()
    after: list[int] = now.top.tolist()
    flips = [
        Flip(
            index, names[truth[index]], names[before[index]], float(was.probability[index]),
            names[after[index]], float(now.probability[index]),
        )
        for index in map(int, order[:FLIPS])
    ]  # fmt: skip
    return {
        "reference_top5": was.top5,
        "top5": now.top5,
        "reference_ece": was.ece,
        "ece": now.ece,
        "classes": recalls(was.top, now.top, labels, names),
        "confusion": confusions(was.top, now.top, labels, names),
        "margins": {
            "edges": edges.tolist(),
            "reference": np.histogram(was.margin, edges)[0].tolist(),
            "artifact": np.histogram(now.margin, edges)[0].tolist(),
        },
        "flips": [asdict(flip) for flip in flips],
        "flips_in_all": len(flipped),
    }


def recalls(
    was: npt.NDArray[np.int64], now: npt.NDArray[np.int64], labels: npt.NDArray[np.int64], names: Sequence[str]
) -> list[dict[str, Any]]:
    """The recall of each class that the data holds, on both sides; a name of several classes keeps each."""
    count: npt.NDArray[np.int64] = np.bincount(labels, minlength=len(names))
    before = np.bincount(labels[was == labels], minlength=len(names))
    after = np.bincount(labels[now == labels], minlength=len(names))
    return [
        {
            "label": names[index],
            "images": int(count[index]),
            "reference": float(before[index] / count[index]),
            "artifact": float(after[index] / count[index]),
        }
        for index in np.flatnonzero(count).tolist()
    ]


def confusions(
    was: npt.NDArray[np.int64], now: npt.NDArray[np.int64], labels: npt.NDArray[np.int64], names: Sequence[str]
) -> list[dict[str, Any]]:
    """The cells of the confusion matrix, off its diagonal, that changed; the largest change first, at most 50."""
    classes = len(names)
    cells: dict[int, list[int]] = {}
    for side, answer in enumerate((was, now)):
        wrong = answer != labels
        found, counts = np.unique(labels[wrong] * classes + answer[wrong], return_counts=True)
        for cell, number in zip(found.tolist(), counts.tolist(), strict=True):
            cells.setdefault(cell, [0, 0])[side] = number
    changed = [(cell, both) for cell, both in cells.items() if both[0] != both[1]]
    changed.sort(key=lambda one: (-abs(one[1][1] - one[1][0]), one[0]))
    return [
        {"label": names[cell // classes], "answer": names[cell % classes], "reference": both[0], "artifact": both[1]}
        for cell, both in changed[:CELLS]
    ]
