"""`zoo check` with its reports, budgets and baselines."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from conftest import as_json, reseal, zoo
from zoo.errors import GATE, INCONCLUSIVE, UNAVAILABLE, UsageError
from zoo.exporter.artifact.folder import record
from zoo.exporter.cli.check import check
from zoo.exporter.cli.main import Outcome


def run(folders: list[Path], **options: Any) -> Outcome:
    """The command in this process; what typer would fill in is filled in."""
    usual: dict[str, Any] = {
        "data": None, "reference": None, "limit": None, "budget": None, "latency": False, "against": None,
        "rounds": None, "batch_sizes": "", "threads": None, "baseline": None, "html": None, "junit": None,
        "data_root": None, "device": "cpu", "seed": 0,
    }  # fmt: skip
    return check(folders, **{**usual, **options})


def test_all_reports_of_one_check(exported, tmp_path: Path) -> None:
    folders = [str(exported["onnx"]), str(exported["torchscript"])]
    done = zoo(
        "check",
        *folders,
        "--data",
        "digits",
        "--limit",
        "60",
        "--html",
        "r.html",
        "--junit",
        "r.xml",
        "--json",
        cwd=tmp_path,
    )
    result = as_json(done)
    assert result["exit_code"] == 0, done.stderr
    assert [row["artifact"] for row in result["artifacts"]] == folders
    assert result["data"] == {"name": "digits", "images": 60}
    assert {gate["name"] for gate in result["artifacts"][0]["gates"]} == {
        "numerics",
        "accuracy",
        "consistency",
        "preprocessing",
        "labels",
        "precision",
    }
    assert (tmp_path / "r.html").read_text().lower().startswith("<!doctype html")
    assert "<testsuite" in (tmp_path / "r.xml").read_text()
    for row in result["artifacts"]:
        folder = Path(row["artifact"])
        kept = json.loads(folder.with_name(f"{folder.name}.check.json").read_text())
        assert kept["gates"] == row["gates"]
        assert kept["artifact_sha256"] == record(folder / "artifact.json").sha256
        assert kept["command"] == result["command"]
        assert kept["command"].startswith("zoo check ")


def test_evidence_beside_artifacts_is_no_artifact(exported) -> None:
    """`exports/resnet18/*` matches it the second time."""
    run([exported["onnx"]])
    evidence = exported["onnx"].with_name("onnx.check.json")
    assert evidence.is_file()
    assert [row["artifact"] for row in run([exported["onnx"], evidence]).payload["artifacts"]] == [
        str(exported["onnx"])
    ]


def test_the_next_command_can_be_typed(exported) -> None:
    spaced = exported["onnx"].rename(exported["onnx"].with_name("an artifact"))
    assert run([spaced]).next == f"zoo predict '{spaced}' IMAGE"


def test_what_a_present_runtime_cannot_run_is_for_another_machine(exported, tmp_path: Path) -> None:
    """`zoo doctor` would show that all is well."""
    half = tmp_path / "onnx-bf16"
    exported["onnx"].rename(half)
    reseal(half, precision="bf16")
    outcome = run([half, exported["torchscript"]])
    assert outcome.exit_code == UNAVAILABLE
    assert outcome.next == f"judge {half} on a machine that runs it; the other 1 is judged"
    assert run([half]).next == f"judge {half} on a machine that runs it"
    assert run([tmp_path / "trt-fp16"]).next == "zoo doctor"


def test_evidence_that_cannot_be_written_is_a_note(exported) -> None:
    exported["onnx"].with_name("onnx.check.json").mkdir()
    assert run([exported["onnx"]]).exit_code == 0


def test_a_budget_and_a_baseline(exported, tmp_path: Path) -> None:
    before = run([exported["onnx"]])
    (tmp_path / "before.json").write_text(json.dumps(before.payload))
    again = run([exported["onnx"]], baseline=tmp_path / "before.json")
    assert again.payload["artifacts"][0]["gates"][-1]["name"] == "regression"
    assert again.exit_code == 0

    other = {**before.payload, "artifacts": [{**before.payload["artifacts"][0], "backend": "trt"}]}
    (tmp_path / "other.json").write_text(json.dumps(other))
    nothing = run([exported["onnx"]], baseline=tmp_path / "other.json")
    assert nothing.exit_code == INCONCLUSIVE, "asked for, and nothing could be compared"

    (tmp_path / "strict.toml").write_text("[onnx.numerics]\nrelative = 1e-12\n")
    worse = run([exported["onnx"]], baseline=tmp_path / "before.json", budget=tmp_path / "strict.toml")
    verdicts = {gate["name"]: gate["verdict"] for gate in worse.payload["artifacts"][0]["gates"]}
    assert (verdicts["numerics"], verdicts["regression"], worse.exit_code) == ("fail", "fail", GATE)


def test_a_row_in_error_does_not_spoil_the_reports(exported, tmp_path: Path) -> None:
    reseal(exported["onnx"], backend="nonsense")
    html, junit = tmp_path / "r.html", tmp_path / "r.xml"
    outcome = run([exported["onnx"], tmp_path / "trt-fp16", exported["torchscript"]], html=html, junit=junit)
    assert outcome.exit_code in (2, 5)
    assert html.is_file()
    assert junit.is_file()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"html": "folder"}, "is a folder"),
        ({"html": "none/r.html"}, "no such folder"),
        ({"junit": "thesis.txt"}, "is there and no report"),
        ({"html": "site.html"}, "is there and no report of zoo"),
        ({"junit": "pom.xml"}, "is there and no report of zoo"),
        ({"html": "both.x", "junit": "both.x"}, "are both both.x"),
        ({"html": "onnx/report.html"}, "inside of the artifact"),
        ({"html": "pipe"}, "is no ordinary file"),
        ({"limit": 3}, "--limit: only with --data"),
        ({"against": "eager"}, "--against: only with --latency"),
        ({"batch_sizes": "1,8"}, "--batch-sizes: only with --latency"),
        ({"rounds": 20}, "--rounds: only with --latency"),
        ({"latency": True, "batch_sizes": "1,x"}, "are not batch sizes"),
        ({"latency": True, "batch_sizes": "0"}, "at least 1"),
        ({"latency": True, "against": "nowhere"}, "no such artifact"),
        ({"budget": "none.toml"}, "no such file"),
        ({"baseline": "thesis.txt"}, "cannot be read as JSON"),
    ],
)
def test_wrong_options_are_refused_and_nothing_is_lost(
    exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("thesis.txt").write_text("years of work")
    Path("site.html").write_text("<!DOCTYPE html><title>my site</title>")
    Path("pom.xml").write_text('<?xml version="1.0"?><pom/>')
    os.mkfifo("pipe")
    paths = {name: Path(value) for name, value in options.items() if name in ("html", "junit", "budget", "baseline")}
    with pytest.raises(UsageError, match=words):
        run([exported["onnx"]], **{**options, **paths})
    assert Path("thesis.txt").read_text() == "years of work"
    assert "my site" in Path("site.html").read_text()
    assert "pom" in Path("pom.xml").read_text()
    assert not Path("onnx/report.html").exists()


def test_a_report_is_replaced_by_the_next_one(exported, tmp_path: Path) -> None:
    html, junit = tmp_path / "r.html", tmp_path / "r.xml"
    (tmp_path / "link.html").symlink_to(html)
    for _ in range(2):
        assert run([exported["onnx"]], html=html, junit=junit).exit_code == 0
    before = html.stat().st_ino
    run([exported["onnx"]], html=tmp_path / "link.html")
    assert (tmp_path / "link.html").is_symlink(), "written through, not replaced"
    assert html.stat().st_ino != before


def test_a_report_that_cannot_be_written_does_not_lose_the_check(exported, tmp_path: Path, monkeypatch) -> None:
    def full(_path: Path, _data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("zoo.exporter.cli.check.atomic.write_file", full)
    outcome = run([exported["onnx"]], html=tmp_path / "r.html")
    assert outcome.exit_code == outcome.payload["exit_code"] == 2
    assert outcome.payload["ok"] is False
    assert outcome.payload["artifacts"][0]["gates"]
    assert any("r.html could not be written: No space left" in note for note in outcome.payload["notes"])


def test_a_file_of_that_name_that_is_not_ours_stays(exported) -> None:
    place = exported["onnx"].with_name("onnx.check.json")
    place.write_text("hello")
    outcome = run([exported["onnx"]])
    assert place.read_text() == "hello"
    assert any("no evidence of zoo" in note for note in outcome.payload["notes"])


def test_an_artifact_that_is_named_twice_is_checked_once(exported, tmp_path: Path) -> None:
    too_long = tmp_path / ("x" * 5000)
    rows = run([exported["onnx"], exported["onnx"], too_long]).payload["artifacts"]
    assert [row["artifact"][:400] for row in rows] == [str(exported["onnx"]), str(too_long)[:400]]
    assert "File name too long" in rows[1]["error"]["message"]
