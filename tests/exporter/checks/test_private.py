"""What is judged is what was hashed, whatever becomes of the folder meanwhile."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from zoo.errors import IntegrityError, UsageError
from zoo.exporter.artifact.folder import attestation_path, evidence_path, load_artifact, record
from zoo.exporter.checks.evidence import write_evidence
from zoo.exporter.checks.private import PREFIX, private_folder
from zoo.exporter.checks.record import parse_record
from zoo.exporter.checks.run import check
from zoo.exporter.report.result import as_result


def judged(folder: Path, progress=None) -> tuple[list, list[str]]:
    rows = check(folder, progress=progress)
    return rows, write_evidence(as_result(rows, None, 0, "zoo check", rows[0].exit_code), rows)


@pytest.mark.parametrize("moment", ["golden images", "loading the reference"])
def test_an_artifact_that_is_replaced_during_its_check(moment: str, exported: dict[str, Path]) -> None:
    folder, seal = exported["onnx"], record(exported["onnx"] / "artifact.json").sha256

    def replace_it(what: str, _done: int, _all: int) -> None:
        if moment in what and record(folder / "artifact.json").sha256 == seal:
            shutil.rmtree(folder)
            shutil.copytree(exported["torchscript"], folder)

    (row,), notes = judged(folder, replace_it)
    assert [gate.verdict for gate in row.gates if gate.name == "numerics"] == ["pass"], "of what was opened"
    assert parse_record(evidence_path(folder).read_bytes()).artifact_sha256 == seal
    assert "was replaced during the check" in notes[0]
    assert record(folder / "artifact.json").sha256 != seal


def test_files_that_change_while_they_are_copied(exported: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = shutil.copyfile

    def torn(source: Path, target: Path) -> object:
        made = whole(source, target)
        if Path(source).name == "model.onnx":
            Path(target).write_bytes(b"another")
        return made

    monkeypatch.setattr(shutil, "copyfile", torn)
    (row,) = check(exported["onnx"])
    assert isinstance(row.error, IntegrityError)
    assert row.error.exit_code == 5


def test_the_statement_is_in_toto_s(exported: dict[str, Path]) -> None:
    from google.protobuf import json_format
    from in_toto_attestation.predicates.test_result.v0 import test_result_pb2
    from in_toto_attestation.v1 import statement_pb2

    rows, notes = judged(exported["onnx"])
    assert (rows[0].exit_code, notes) == (0, [])
    content = attestation_path(exported["onnx"]).read_text()
    statement = json_format.Parse(content, statement_pb2.Statement())
    subjects = {one.name: one.digest["sha256"] for one in statement.subject}
    assert subjects["onnx/model.onnx"] == record(exported["onnx"] / "model.onnx").sha256
    predicate = json_format.ParseDict(json_format.MessageToDict(statement.predicate), test_result_pb2.TestResult())
    assert predicate.result == "PASSED"
    assert "numerics" in predicate.passed_tests


def test_nothing_private_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    abandoned, mine = tmp_path / f"{PREFIX}{ended.pid}-abc", tmp_path / f"{PREFIX}{os.getpid()}-abc"
    for folder in (abandoned, mine, tmp_path / f"{PREFIX}notes"):
        folder.mkdir()
    with private_folder() as folder:
        assert folder.stat().st_mode & 0o77 == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([mine.name, f"{PREFIX}notes"])
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(UsageError, match="takes no private copy"), private_folder():
        pass


def test_a_copy_is_what_is_read(exported: dict[str, Path], tmp_path: Path) -> None:
    artifact = load_artifact(exported["onnx"], tmp_path / "copy")
    (exported["onnx"] / "model.onnx").write_bytes(b"changed")
    assert artifact.model_path.read_bytes() != b"changed"
    assert str(artifact.folder) == str(exported["onnx"])
