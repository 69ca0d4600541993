from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from zoo.errors import UsageError
from zoo.models.data.dataset import Dataset
from zoo.models.data.labels import Matched, Unmatched, match_classes, match_labels, named_by_data, read_labels
from zoo.models.spec import ModelSpec, numbered_labels


def places(model: tuple[str, ...], data: tuple[str, ...]) -> list[int]:
    matched = match_labels(model, data)
    assert isinstance(matched, Matched)
    return matched.index.tolist()


def test_labels_are_matched_by_name() -> None:
    assert places(("tench", "Ankle boot", "great white shark"), ("great_white  shark", "tench")) == [2, 0]
    assert isinstance(match_labels(("a", "b"), ("c",)), Unmatched)
    with pytest.raises(UsageError, match="1 of 2 classes.*: c"):
        match_labels(("a", "b"), ("a", "c"))


def test_the_same_name_counts_before_the_same_letters() -> None:
    """EMNIST's classes are A and a, and many more that differ by case alone."""
    assert places(("A", "a", "B", "b"), ("a", "A", "b", "B")) == [1, 0, 3, 2]
    assert places(("A b", "a_b"), ("a_b", "A b")) == [1, 0]
    assert places(("A b", "a b"), ("a_b",)) == [1]
    assert places(("Ankle boot", "bag"), ("ankle_boot", "Bag")) == [0, 1]


def test_what_stays_ambiguous_is_named() -> None:
    with pytest.raises(UsageError, match="more than one class named a: outputs 0, 1 are a, a"):
        match_labels(("a", "a", "b"), ("a", "b"))
    with pytest.raises(UsageError, match="more than one class named Crane: outputs 0, 2 are crane, CRANE"):
        match_labels(("crane", "b", "CRANE"), ("Crane",))
    with pytest.raises(UsageError, match="classes A, a of the data are one class of the model, a"):
        match_labels(("a", "b"), ("A", "a", "b"))


@pytest.fixture
def unnamed(tiny_spec: ModelSpec) -> ModelSpec:
    return replace(tiny_spec, labels=numbered_labels(10), has_class_names=False)


def test_stand_ins_match_nothing_whatever_the_folders_are_called(unnamed: ModelSpec) -> None:
    for names in (unnamed.labels, tuple("0123456789")):
        matched = match_classes(unnamed, names)
        assert isinstance(matched, Unmatched)
        assert "--labels" in matched.reason
    named = unnamed.with_labels(tuple("0123456789"))
    assert isinstance(match_classes(named, tuple("0123456789")), Matched), "names that a user really wrote"


def test_stand_ins_take_the_names_of_data_with_as_many_classes(unnamed: ModelSpec, few_digits: Dataset) -> None:
    named, notes = named_by_data(unnamed, few_digits)
    assert (named.labels, named.has_class_names) == (few_digits.classes, True)
    assert "brings no class names: took the 10 of few-digits" in notes[0]
    for spec in (named, replace(unnamed, labels=numbered_labels(9))):
        assert named_by_data(spec, few_digits) == (spec, ())


def test_class_names_are_read_from_a_file_or_a_list(tmp_path: Path) -> None:
    file = tmp_path / "names"
    file.write_bytes("\ufeffcat\r\nbig dog, brown \nÄhre\n\n".encode())
    assert read_labels(str(file)) == ("cat", "big dog, brown", "Ähre")
    assert read_labels("cat, dog") == ("cat", "dog")
    for given, words in (("nowhere.txt", "neither a file nor a list"), ("a,,b", "name 2 of 3 is empty")):
        with pytest.raises(UsageError, match=words):
            read_labels(given)
    file.write_bytes(b"caf\xe9\n")
    with pytest.raises(UsageError, match="cannot be read as text"):
        read_labels(str(file))
