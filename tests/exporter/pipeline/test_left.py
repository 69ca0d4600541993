"""What a step left is the same by its bytes: a file's times only say whether they must be read."""

from __future__ import annotations

import json
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from zoo.exporter.pipeline import left
from zoo.exporter.pipeline.cache_keys import digest_of, hash_of
from zoo.exporter.pipeline.left import Mark, difference, take, untouched
from zoo.exporter.pipeline.state import Record, State

OLD = time.time() - 3600


def sealed(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    listed = {name: {"sha256": hash_of(folder / name), "bytes": len(text)} for name, text in files.items()}
    (folder / "artifact.json").write_text(json.dumps({"files": listed}))
    return folder


@pytest.fixture
def grown(monkeypatch: pytest.MonkeyPatch) -> None:
    """No file is too young for its times to be trusted."""
    monkeypatch.setattr(left, "YOUNG", -(10**18))


def forged(path: Path, content: bytes, record: Record) -> Record:
    """Change a file behind zoo's back: its size and mtime stay, and a record that would not notice by any time."""
    before = path.stat()
    assert before.st_size == len(content)
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    mark = record.files[path.name]
    return replace(record, files={**record.files, path.name: replace(mark, ctime_ns=path.stat().st_ctime_ns)})


def record_of(folder: Path, name: str) -> Record:
    found = take(folder / name)
    return Record("key", found.digest, name, files=found.marks)


def test_a_byte_that_flips_is_seen_by_a_look_though_size_and_mtime_are_as_they_were(
    tmp_path: Path, grown: None
) -> None:
    state = State(tmp_path, "out")
    model = sealed(tmp_path / "a", **{"model.onnx": "abc", "weights": "w"}) / "model.onnx"
    record = record_of(tmp_path, "a")
    assert untouched(tmp_path / "a", record.files)
    assert state.look(record) == state.look(record, read=True)
    assert state.look(record).changed == ""
    forged(model, b"abd", record)
    assert state.look(record).changed == "model.onnx was changed, as artifact.json says", "its ctime is another"


def test_where_even_ctime_is_the_same_reading_sees_it(tmp_path: Path, grown: None) -> None:
    state = State(tmp_path, "out")
    model = sealed(tmp_path / "a", **{"model.onnx": "abc"}) / "model.onnx"
    blind = forged(model, b"abd", record_of(tmp_path, "a"))
    assert state.look(blind).changed == "", "what no look can see"
    assert "model.onnx was changed" in state.look(blind, read=True).changed
    (tmp_path / "p.zoo").write_text("abc")
    blind = forged(tmp_path / "p.zoo", b"abd", record_of(tmp_path, "p.zoo"))
    assert state.look(blind, read=True).changed == "p.zoo was changed"


def test_other_times_with_the_same_bytes_are_no_change_and_are_remembered(tmp_path: Path, grown: None) -> None:
    state = State(tmp_path, "out")
    model = sealed(tmp_path / "a", **{"model.onnx": "abc"}) / "model.onnx"
    record = record_of(tmp_path, "a")
    os.utime(model, (OLD, OLD))
    found = state.look(record)
    assert found.changed == ""
    assert found.record.files["model.onnx"].mtime_ns == model.stat().st_mtime_ns
    assert untouched(tmp_path / "a", found.record.files)
    (tmp_path / "a").rename(tmp_path / "b")
    assert untouched(tmp_path / "b", found.record.files), "a folder that was moved is not read again"


def test_a_file_that_was_just_written_is_read_the_next_time(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    marks = take(tmp_path / "a").marks
    assert not untouched(tmp_path / "a", marks), "a second write in the same tick would not show"


def test_reading_is_spared_where_times_are_the_same(
    tmp_path: Path, grown: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealed(tmp_path / "a", model="abc")
    record = record_of(tmp_path, "a")

    def read(_path: Path) -> str:
        raise AssertionError("it was read")

    monkeypatch.setattr(left, "hash_of", read)
    assert State(tmp_path, "out").look(record).changed == ""


@pytest.mark.parametrize(("harm", "said"), [
    (lambda a: (a / "model").unlink(), "model is gone"),
    (lambda a: (a / "notes").write_text("x"), "notes is new"),
    (lambda a: (a / "model").write_text("longer"), "model was changed"),
    (lambda a: (a / "artifact.json").write_text("{"), "artifact.json cannot be read"),
    (lambda a: (a / "artifact.json").write_text("[]"), "artifact.json cannot be read"),
    (lambda a: (a / "artifact.json").write_text('{"files": {}}'), "model is new"),
    (lambda a: (a / "artifact.json").unlink(), "artifact.json is gone"),
    (lambda a: [one.unlink() for one in a.iterdir()], "a is empty"),
])  # fmt: skip
def test_what_is_not_whole_is_said(tmp_path: Path, harm, said: str) -> None:
    record = None
    sealed(tmp_path / "a", model="abc")
    record = record_of(tmp_path, "a")
    harm(tmp_path / "a")
    assert State(tmp_path, "out").look(record).changed.startswith(said)


def test_a_run_is_its_weights_and_facts_and_not_its_log(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for name, text in (("weights.safetensors", "w"), ("run.json", '{"created": 1, "spec": 2}'), ("log.csv", "x")):
        (run / name).write_text(text)
    record, state = record_of(tmp_path, "run"), State(tmp_path, "out")
    (run / "log.csv").write_text("longer")
    (run / "run.json").write_text('{"created": 2, "spec": 2}')
    assert state.look(record).changed == ""
    (run / "run.json").write_text('{"created": 2, "spec": 3}')
    assert state.look(record).changed == "run.json was changed"
    (run / "weights.safetensors").unlink()
    assert state.look(record).changed == "weights.safetensors is gone"


def test_records_of_an_older_zoo_are_judged_by_the_hashes_that_there_are(tmp_path: Path) -> None:
    state = State(tmp_path, "out")
    model = sealed(tmp_path / "a", model="abc") / "model"
    older = Record("key", hash_of(tmp_path / "a" / "artifact.json"), "a")
    found = state.look(older)
    assert found.changed == "", "the artifact's own seal has all of its hashes"
    assert found.record.files.keys() == {"artifact.json", "model"}, "and from now on the record has them too"
    model.write_text("abd")
    assert "model was changed" in state.look(older).changed
    (tmp_path / "profile").mkdir()
    (tmp_path / "profile" / "profile.json").write_text("{}")
    older = Record("key", digest_of({"profile.json": 2}), "profile")
    assert "older zoo, which kept no hashes" in state.look(older).changed, "of this there were only sizes"


def test_a_pipe_is_not_read_for_ever(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_text("x")
    os.mkfifo(tmp_path / "a" / "pipe")
    assert take(tmp_path / "a").marks.keys() == {"x"}


trees = st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), st.binary(max_size=4), min_size=1)


@settings(max_examples=80, deadline=None)
@given(trees, trees)
def test_two_folders_are_the_same_where_their_files_are(one: dict[str, bytes], other: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as place:
        found = []
        for name, files in (("one", one), ("other", other)):
            (Path(place) / name).mkdir()
            for inner, content in files.items():
                (Path(place) / name / inner).write_bytes(content)
            found.append(take(Path(place) / name))
        assert (found[0].digest == found[1].digest) == (one == other)
        assert (difference(found[0].marks, found[1].marks) == "") == (one == other)


def test_differences_in_words() -> None:
    marks = {name: Mark(1, 1, 1, name) for name in ("a", "b", "c")}
    assert difference(marks, {"a": marks["a"]}) == "b is gone, and 1 more"
    assert difference({"a": marks["b"]}, marks) == "a was changed"
    assert difference({"a": marks["a"]}, marks) == "b is new, and 1 more"
    assert difference(marks, marks) == ""
