from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from zoo.config import to_json
from zoo.errors import UsageError
from zoo.models.source_options import SourceOptions, asked_spec, count_of_classes, read_spec, remembered_spec
from zoo.models.spec import ModelSpec, numbered_labels

TOML = """name = "net"
input = [3, 32, 32]
labels = [{labels}]
[preprocess]
crop = [32, 32]
resize = 36
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "spec.toml"
    path.write_text(TOML.format(labels='"a", "b", "c"'))
    return path


def test_labels_override_those_of_a_spec_where_the_count_fits(file: Path, tiny_spec: ModelSpec) -> None:
    options = SourceOptions(spec=file, labels=("x", "y", "z"))
    assert read_spec(options).labels == asked_spec(tiny_spec, options).labels == ("x", "y", "z")
    assert count_of_classes(options) == count_of_classes(SourceOptions(spec=file)) == 3
    with pytest.raises(UsageError, match="--labels: net has 3 outputs, and 2 labels are given"):
        read_spec(replace(options, labels=("x", "y")))
    with pytest.raises(UsageError, match="control characters"):
        read_spec(replace(options, labels=("x", "y", "z\n")))
    with pytest.raises(UsageError, match="--input 3x8x8 contradicts .*, which has 3x32x32"):
        read_spec(replace(options, input=(3, 8, 8)))


def test_input_and_labels_change_the_spec_that_a_source_brings(tiny_spec: ModelSpec) -> None:
    names = tuple("abcdefghij")
    made = asked_spec(tiny_spec, SourceOptions(input=(3, 48, 64), labels=names))
    assert (made.input, made.preprocess.crop, made.labels) == ((3, 48, 64), (48, 64), names)
    assert asked_spec(tiny_spec, SourceOptions(input=tiny_spec.input)) == tiny_spec
    with pytest.raises(UsageError, match="takes 3 channels, --input has 1"):
        asked_spec(tiny_spec, SourceOptions(input=(1, 32, 32)))


def test_a_run_remembers_its_spec_and_contradictions_are_refused(file: Path, tiny_spec: ModelSpec) -> None:
    own = file.with_name("own.toml")
    kept = tiny_spec.preprocess
    own.write_text(
        f"name = 'mine'\ninput = [3, 32, 32]\nlabels = {list(tiny_spec.labels)}\n[preprocess]\ncrop = [32, 32]\n"
        f"resize = 32\nmean = {list(kept.mean)}\nstd = {list(kept.std)}\n"
    )
    for options in (SourceOptions(spec=own), SourceOptions(labels=tiny_spec.labels), SourceOptions(input=(3, 32, 32))):
        assert remembered_spec("run", tiny_spec, options) == tiny_spec
    for options, words in (
        (SourceOptions(spec=file), "contradicts run, which remembers its own: preprocess and labels differ"),
        (SourceOptions(labels=tuple("abcdefghij")), "--labels contradicts run"),
        (SourceOptions(input=(3, 8, 8)), "--input 3x8x8 contradicts run, which takes 3x32x32"),
    ):
        with pytest.raises(UsageError, match=words):
            remembered_spec("run", tiny_spec, options)


def test_classes_without_names_may_be_named_later(file: Path) -> None:
    spec = replace(read_spec(SourceOptions(spec=file)), labels=numbered_labels(3), has_class_names=False)
    for options in (SourceOptions(spec=file), SourceOptions(labels=("a", "b", "c"))):
        named = remembered_spec("artifact", spec, options)
        assert (named.labels, named.has_class_names) == (("a", "b", "c"), True)
    with pytest.raises(UsageError, match="3 outputs, and 2 labels"):
        remembered_spec("artifact", spec, SourceOptions(labels=("a", "b")))


def test_specs_that_were_written_before_are_read(tiny_spec: ModelSpec) -> None:
    import json

    from zoo.config import from_mapping

    unnamed = replace(tiny_spec, labels=numbered_labels(10), has_class_names=False)
    for spec in (tiny_spec, unnamed):
        assert from_mapping(ModelSpec, json.loads(to_json(spec)), "run.json") == spec
    old = json.loads(to_json(tiny_spec))
    del old["has_class_names"]
    assert from_mapping(ModelSpec, old, "run.json") == tiny_spec
    with pytest.raises(UsageError, match="has_class_names is false"):
        from_mapping(ModelSpec, json.loads(to_json(tiny_spec)) | {"has_class_names": False}, "run.json")
