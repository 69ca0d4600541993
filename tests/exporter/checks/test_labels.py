"""Exchanged and shifted labels are found, and a bad model is not taken for them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import reseal
from hypothesis import given, settings
from hypothesis import strategies as st
from zoo.errors import GATE
from zoo.exporter.checks.accuracy import certainly_more, share_interval
from zoo.exporter.checks.gate import Gate
from zoo.exporter.checks.labels import judge_labels
from zoo.exporter.checks.run import check
from zoo.models.data.dataset import Dataset

TEN = tuple("abcdefghij")


def answered(share: float, labels: np.ndarray, seed: int = 0, classes: int = 10) -> np.ndarray:
    """So many rightly, the others anyhow."""
    draw = np.random.default_rng(seed)
    return np.where(draw.random(len(labels)) < share, labels, draw.integers(0, classes, len(labels)))


IMAGES = np.arange(400) % 10


def as_named(order: list[int]) -> np.ndarray:
    """The labels that the data has by name where names stand in another order."""
    return np.asarray(order)[IMAGES]


def test_two_that_are_exchanged_are_named() -> None:
    order = list(range(10))
    order[2], order[7] = 7, 2
    gate = judge_labels(answered(0.9, IMAGES), as_named(order), TEN)
    assert gate.verdict == "fail"
    assert gate.reason.startswith("2 labels look exchanged: ")
    assert "images of c are answered as h" in gate.reason
    assert "images of h are answered as c" in gate.reason
    assert gate.numbers["rings"] == [["c", "h"]]


def test_all_shifted_by_one() -> None:
    gate = judge_labels(answered(0.9, IMAGES), as_named([*range(1, 10), 0]), TEN)
    assert gate.verdict == "fail"
    assert "10 labels look shifted or in another order" in gate.reason
    assert gate.reason.endswith("and 5 more")


def test_right_labels_pass_and_those_with_few_images_are_untested() -> None:
    gate = judge_labels(answered(0.97, IMAGES), IMAGES, TEN)
    assert (gate.verdict, gate.numbers["untested"]) == ("pass", [])
    kept = (IMAGES != 3) | (np.arange(len(IMAGES)) < 100)
    gate = judge_labels(answered(0.97, IMAGES)[kept], IMAGES[kept], TEN)
    assert gate.verdict == "pass"
    assert gate.reason.endswith("untested, for too few images or too many errors: d")


def test_a_model_that_has_learnt_nothing_is_untested() -> None:
    gate = judge_labels(answered(0.0, IMAGES), IMAGES, TEN)
    assert (gate.verdict, gate.exit_code) == ("skipped", 0)
    none = np.empty(0, np.int64)
    assert judge_labels(none, none, TEN).verdict == "skipped"


def test_one_class_taken_for_another_is_no_exchange() -> None:
    """All of a class answered as another, and that one too: a model that has not learnt it."""
    answers = np.where(IMAGES == 4, 5, IMAGES)
    assert judge_labels(answers, IMAGES, TEN).verdict == "pass"
    assert judge_labels(np.full_like(IMAGES, 5), IMAGES, TEN).verdict == "pass"


@settings(max_examples=100, deadline=None)
@given(st.integers(2, 12), st.floats(0, 1), st.integers(5, 300), st.integers(0, 2**30), st.floats(0.7, 3))
def test_a_bad_model_is_no_exchange(classes: int, better: float, each: int, seed: int, even: float) -> None:
    """Right as often as guessing or better, errors in any shares: below is how often that may fail."""
    assert _of_random(classes, better, each, seed, even).verdict != "fail"


def _of_random(classes: int, better: float, each: int, seed: int, even: float) -> Gate:
    draw = np.random.default_rng(seed)
    right = 1 / classes + better * (1 - 1 / classes)
    labels = np.repeat(np.arange(classes), each)
    answers = []
    for label in range(classes):
        shares = np.insert(draw.dirichlet(np.full(classes - 1, even)) * (1 - right), label, right)
        answers.append(draw.choice(classes, each, p=shares / shares.sum()))
    return judge_labels(np.concatenate(answers), labels, [str(one) for one in range(classes)])


@pytest.mark.parametrize("classes", [2, 3, 4, 5, 6, 10])
def test_how_often_guessing_fails(classes: int) -> None:
    failed = [_of_random(classes, 0.0, 60, seed, 1.0).verdict == "fail" for seed in range(200)]
    assert np.mean(failed) < 0.01


@given(st.integers(0, 60), st.integers(1, 60), st.floats(0.05, 0.95))
def test_certainly_more_is_the_bound_of_the_interval(count: int, images: int, share: float) -> None:
    low = share_interval(min(count, images), images).low
    if abs(low - share) > 1e-9:
        assert certainly_more(min(count, images), images, share) == (low > share)


def relabel(folder: Path, order: list[int]) -> None:
    spec = json.loads((folder / "artifact.json").read_text())["spec"]
    spec["labels"] = [spec["labels"][index] for index in order]
    reseal(folder, spec=spec)


def test_in_a_real_artifact(exported, digits: Dataset) -> None:
    """Two names exchanged: every other gate sees the artifact agree with its reference."""
    (right,) = (gate for gate in check([exported["onnx"]], digits)[0].gates if gate.name == "labels")
    assert right.verdict == "pass", right
    relabel(exported["onnx"], [1, 0, *range(2, 10)])
    row = check([exported["onnx"]], digits)[0]
    gate = row.gate("labels")
    assert gate is not None
    assert gate.verdict == "fail", gate
    assert gate.numbers["rings"] == [["1", "0"]]
    assert row.exit_code == GATE
    gate = check([exported["onnx"]])[0].gate("labels")
    assert gate is not None
    assert (gate.verdict, gate.reason) == ("skipped", "labels are untested without data (--data)")
