"""The page of a pipeline is written once, told as it is, and left alone while nothing is another."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from page_help import check_outline, embedded
from played_report import evidence, profile
from zoo.errors import UnavailableError
from zoo.exporter.pipeline.report import write_report
from zoo.exporter.pipeline.scheduler import Run, run
from zoo.exporter.pipeline.serialize import as_mapping

PROFILED = '\n[steps.boards]\ndo = "profile"\nfrom = "bundle"\non = "ssh://pi@board"\n'
Ended = Callable[[], tuple[Run, dict[str, Any]]]


@pytest.fixture
def ended(engine, stage) -> Ended:
    """Runs the whole pipeline, played, with evidence and profiles; the run and what it said."""
    stage.evidence, stage.profile = evidence, profile
    text = Path(engine().pipeline.path).read_text() + PROFILED

    def go() -> tuple[Run, dict[str, Any]]:
        made = engine(text)
        run(made)
        payload = as_mapping(made)
        return made, payload | write_report(made, payload)

    return go


def test_it_holds_what_the_pipeline_left(ended: Ended, tmp_path: Path) -> None:
    made, told = ended()
    page = (tmp_path / "out/report.html").read_text()
    check_outline(page)
    held = embedded(page)
    assert told["report"].endswith("out/report.html")
    assert told["notes"] == []
    assert [one["id"] for one in held["nodes"]] == [one.id for one in made.nodes]
    assert held["picks"] == told["picks"]
    assert {one["device"] for one in told["picks"]} == {"AMD EPYC, 2 threads", "pi, profiled", "cellar, profiled"}
    checks = [one for one in told["nodes"] if one["kind"] == "check" and one["state"] == "done"]
    assert {one["label"] for one in held["artifacts"]} == {f"{one['variant']}/{one['form']}" for one in checks}
    for one in told["picks"]:
        assert one["sentence"] in page
    assert " checks passed on " in told["proven"], "which the terminal says too"
    assert [one["artifact"] for one in told["front"]] == [
        point["artifact"] for front in held["fronts"] for point in front["points"] if point["front"]
    ]  # fmt: skip


def test_a_package_can_be_traced_to_its_data(ended: Ended, tmp_path: Path) -> None:
    import hashlib

    ended()
    nodes = {one["id"]: one for one in embedded((tmp_path / "out/report.html").read_text())["nodes"]}
    package = nodes["packages/resnet18-small"]
    assert package["digest"] == hashlib.sha256((tmp_path / package["path"]).read_bytes()).hexdigest()
    artifact = nodes["exports/resnet18-small/onnx-fp32"]
    seal = (tmp_path / artifact["path"] / "artifact.json").read_bytes()
    assert artifact["digest"] == hashlib.sha256(seal).hexdigest()
    assert nodes["runs/resnet18-small"]["weights_sha256"] == json.loads(seal)["weights_sha256"]
    assert "data_sha256" not in nodes["runs/resnet18"], "digits has a name, no folder"
    page = (tmp_path / "out/report.html").read_text()
    for text in (package["digest"][:12], artifact["digest"][:12]):
        assert page.count(text) > 1


def test_nothing_is_written_again_while_nothing_is_another(ended: Ended, tmp_path: Path, monkeypatch) -> None:
    _, first = ended()
    place = tmp_path / "out/report.html"
    before = place.stat().st_mtime_ns
    monkeypatch.setattr("zoo.exporter.pipeline.report._render", lambda *_: pytest.fail("it was made again"))
    second, again = ended()
    assert {second.outcome(one.id).state for one in second.nodes} <= {"cached", "lacking", "blocked"}
    assert place.stat().st_mtime_ns == before
    assert {key: again[key] for key in ("report", "picks", "front")} == {
        key: first[key] for key in ("report", "picks", "front")
    }


def test_a_second_run_imports_no_plotly_and_no_jinja(ended: Ended, tmp_path: Path) -> None:
    ended()
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from zoo.exporter.pipeline.config import read_pipeline\n"
        "from zoo.exporter.pipeline.requirements import Facts, modules\n"
        "from zoo.exporter.pipeline.report import write_report\n"
        "from zoo.exporter.pipeline.scheduler import prepare\n"
        "from zoo.exporter.pipeline.serialize import as_mapping\n"
        "facts = Facts(frozenset(modules()) - {'tensorrt'}, 0, 2, 8.0)\n"
        f"made = prepare(read_pipeline(Path({str(tmp_path / 'pipeline.toml')!r})), None, facts)\n"
        "made.settle_all()\n"
        "told = write_report(made, as_mapping(made))\n"
        "assert told['picks'] and told['report'], told\n"
        "print([name for name in ('plotly', 'jinja2', 'torch') if name in sys.modules])\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("what", ["page", "evidence", "kept"])
def test_what_was_changed_is_written_again(ended: Ended, stage, tmp_path: Path, what: str) -> None:
    ended()
    place = tmp_path / "out/report.html"
    whole = place.read_text()
    if what == "page":
        place.write_text(whole[:4000])
    elif what == "kept":
        (tmp_path / "out/.zoo/report.json").write_text("{")
    else:
        next((tmp_path / "out/exports/resnet18").rglob("onnx-fp32.check.json")).unlink()
        stage.salt = "another"
    before = place.stat().st_mtime_ns
    ended()
    assert place.stat().st_mtime_ns > before
    check_outline(place.read_text())


def test_without_plotly_the_run_does_not_fail(ended: Ended, tmp_path: Path, monkeypatch) -> None:
    def lacks() -> None:
        raise UnavailableError("the page needs plotly and jinja2", fix='pip install "zoo-export[full]"')

    monkeypatch.setattr("zoo.exporter.report.skeleton.require_libraries", lacks)
    _, told = ended()
    assert "report" not in told
    (note,) = told["notes"]
    assert note == 'report.html is not written: the page needs plotly and jinja2; pip install "zoo-export[full]"'
    assert told["picks"], "what to take is known without a page"
    assert not (tmp_path / "out/report.html").exists()


def test_somebody_elses_page_is_left_alone(ended: Ended, tmp_path: Path) -> None:
    ended()
    (tmp_path / "out/report.html").write_text("my thesis")
    _, told = ended()
    assert "report" not in told
    assert "no report of zoo" in told["notes"][0]
    assert (tmp_path / "out/report.html").read_text() == "my thesis"


def test_a_place_that_cannot_be_written_is_a_note(ended: Ended, monkeypatch) -> None:
    import zoo.atomic

    real = zoo.atomic.write_file

    def full(path: Path, data: bytes) -> None:
        if path.name == "report.html":
            raise OSError(28, "No space left on device", str(path))
        real(path, data)

    monkeypatch.setattr(zoo.atomic, "write_file", full)
    _, told = ended()
    assert "could not be written: No space left on device" in told["notes"][0]
    assert "report" not in told


def test_evidence_that_cannot_be_read_is_a_note(ended: Ended, stage, tmp_path: Path, monkeypatch) -> None:
    made, _ = ended()
    evidence_ = next((tmp_path / "out/exports/resnet18").rglob("onnx-fp32.check.json"))
    evidence_.write_text("[1]")
    (tmp_path / "out/report.html").unlink()
    told = write_report(made, as_mapping(made))
    assert len(told["notes"]) == 1
    assert told["notes"][0].endswith("onnx-fp32.check.json cannot be read")
    assert told["report"]


def test_nothing_made_is_said(engine, stage, tmp_path: Path) -> None:
    made = engine()
    told = write_report(made, as_mapping(made))
    assert told == {"picks": [], "front": [], "notes": ["report.html is not written: nothing was made yet"]}
    assert not (tmp_path / "out/report.html").exists()


def test_a_pipeline_without_checks_has_a_page_too(engine, stage, tmp_path: Path) -> None:
    made = engine('[pipeline]\nout = "out"\ndata = "digits"\n[steps.base]\ndo = "train"\nsource = "resnet18"\n')
    run(made)
    told = write_report(made, as_mapping(made))
    page = (tmp_path / "out/report.html").read_text()
    check_outline(page)
    assert told["picks"] == []
    assert "plotly.js v" not in page, "no figure, no plotly"
    assert "runs/resnet18" in page
