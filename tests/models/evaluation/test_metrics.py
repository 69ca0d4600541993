from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sklearn
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


@given(st.integers(2, 9), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_all_as_scikit_learn_says(count: int, images: int, seed: int) -> None:
    drawn = np.random.default_rng(seed)
    logits = drawn.normal(size=(images, count)).astype(np.float32)
    labels = drawn.integers(0, count, images)
    answers = logits.argmax(1)
    found = measure(logits, labels, tuple(f"class {index}" for index in range(count)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # classes without an answer
        assert found.accuracy == pytest.approx(sklearn.accuracy_score(labels, answers))
        assert found.macro_precision == pytest.approx(
            sklearn.precision_score(labels, answers, average="macro", zero_division=0)
        )
        assert found.macro_recall == pytest.approx(
            sklearn.recall_score(labels, answers, average="macro", zero_division=0)
        )
        assert found.confusion == sklearn.confusion_matrix(labels, answers, labels=range(count)).tolist()
        if count > 5:
            best = sklearn.top_k_accuracy_score(labels, logits, k=5, labels=range(count))
            assert found.top5 == pytest.approx(best)
