from __future__ import annotations

import numpy as np
from zoo.models.evaluation.metrics import measure


def test_a_single_class_is_measured() -> None:
    found = measure(np.zeros((4, 1), np.float32), np.zeros(4, np.int64), ("only",))
    assert (found.accuracy, found.macro_precision, found.macro_recall) == (1, 1, 1)
    assert (found.confusion, found.per_class, found.top5) == ([[4]], {"only": 1.0}, None)


def test_classes_that_the_data_lacks_do_not_count() -> None:
    logits = np.eye(3, dtype=np.float32)[[0, 0, 1]]
    found = measure(logits, np.asarray([0, 0, 1]), ("a", "b", "c"))
    assert (found.accuracy, found.macro_recall) == (1, 1)
    assert found.confusion == [[2, 0, 0], [0, 1, 0], [0, 0, 0]]
