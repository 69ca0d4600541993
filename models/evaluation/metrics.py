"""Accuracy, macro_precision, macro_recall and the confusion matrix, by torchmetrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import UnavailableError


@dataclass(frozen=True)
class Metrics:
    """Of one model on one split.

    Attributes:
        images: how many.
        accuracy: share of right top answers.
        top5: share with the right answer among the first five; None with fewer than six classes.
        macro_precision: mean over classes of right answers among those given that class.
        macro_recall: mean over classes of right answers among those that are that class.
        confusion: counts, rows are the true class, columns the answer.
        per_class: recall by class name.
    """

    images: int
    accuracy: float
    top5: float | None
    macro_precision: float
    macro_recall: float
    confusion: list[list[int]]
    per_class: dict[str, float]


def measure(logits: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], classes: tuple[str, ...]) -> Metrics:
    """Metrics of logits N x K against labels N, K classes."""
    try:
        import torchmetrics.functional.classification as tm
    except ImportError as error:
        raise UnavailableError("metrics are computed by torchmetrics", fix='pip install "zoo-export[full]"') from error
    import torch

    count = max(len(classes), 2)  # torchmetrics knows no fewer: a single class gets one beside it, never seen
    scores, truth = torch.from_numpy(logits), torch.from_numpy(labels)
    answers = scores.argmax(1)

    def of(function: Any, **options: Any) -> float:
        return float(function(answers, truth, num_classes=count, **options))

    matrix = tm.multiclass_confusion_matrix(answers, truth, num_classes=count).numpy()
    matrix = matrix[: len(classes), : len(classes)]
    totals = matrix.sum(1)
    recall = {name: float(matrix[i, i] / totals[i]) for i, name in enumerate(classes) if totals[i]}
    top5 = float((scores.topk(5, 1).indices == truth[:, None]).any(1).float().mean()) if count > 5 else None
    return Metrics(
        images=len(labels),
        accuracy=of(tm.multiclass_accuracy, average="micro"),
        top5=top5,
        macro_precision=of(tm.multiclass_precision, average="macro"),
        macro_recall=of(tm.multiclass_recall, average="macro"),
        confusion=matrix.tolist(),
        per_class=recall,
    )
