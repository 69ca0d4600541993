from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from zoo.exporter.checks.answer_statistics import BINS, calibration_error, compare_answers, softmax

NAMES = ("ant", "bee", "cat", "dog", "elk", "fox", "gnu")


@given(st.integers(1, 40), st.integers(2, 7), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_all_of_it_against_loops(count: int, classes: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    reference = draw.normal(size=(count, classes)).astype(np.float32)
    got = (reference + draw.normal(scale=0.7, size=reference.shape)).astype(np.float32)
    labels = draw.integers(0, classes, count)
    names = NAMES[:classes]
    found = compare_answers(reference, got, labels, names)

    ranks = [list(np.argsort(-row)[:5]) for row in got]
    assert found["top5"] == sum(label in five for label, five in zip(labels, ranks, strict=True)) / count
    for one in found["classes"]:
        index = names.index(one["label"])
        mine = [int(row.argmax()) == index for row, label in zip(got, labels, strict=True) if label == index]
        assert (one["images"], one["artifact"]) == (len(mine), sum(mine) / len(mine))
    assert sum(one["images"] for one in found["classes"]) == count
    wrong = [(int(label), int(row.argmax())) for row, label in zip(got, labels, strict=True)]
    for cell in found["confusion"]:
        where = names.index(cell["label"]), names.index(cell["answer"])
        assert where[0] != where[1]
        assert cell["artifact"] == wrong.count(where) != cell["reference"]
    flipped = {index for index in range(count) if reference[index].argmax() != got[index].argmax()}
    assert found["flips_in_all"] == len(flipped)
    assert {flip["index"] for flip in found["flips"]} == flipped, "at most 60, here fewer than that"
    assert sum(found["margins"]["artifact"]) == count


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60))
def test_calibration_error_against_its_definition(pairs: list[tuple[float, bool]]) -> None:
    confidence = np.array([one for one, _ in pairs])
    right = np.array([one for _, one in pairs])
    expected = 0.0
    for index in range(BINS):
        inside = [i for i, c in enumerate(confidence) if min(int(c * BINS), BINS - 1) == index]
        if inside:
            expected += len(inside) / len(pairs) * abs(right[inside].mean() - confidence[inside].mean())
    np.testing.assert_allclose(calibration_error(confidence, right), expected, atol=1e-12)


def test_large_logits_do_not_overflow() -> None:
    np.testing.assert_allclose(softmax(np.array([[1e4, 0, -1e4]], np.float32)), [[1, 0, 0]])


def test_the_most_certain_flip_comes_first() -> None:
    reference = np.array([[1.0, 0], [5, 0], [3, 0]], np.float32)
    found = compare_answers(reference, -reference, np.array([0, 0, 1]), ("no", "yes"))
    assert [flip["index"] for flip in found["flips"]] == [1, 2, 0]
    assert found["flips"][0]["label"] == "no"


def test_no_images() -> None:
    assert (
        compare_answers(np.empty((0, 2), np.float32), np.empty((0, 2), np.float32), np.empty(0, int), ("a", "b")) == {}
    )
