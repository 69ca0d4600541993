"""What is made again when somebody changes code or results behind zoo's back, and what is said of it."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest
from zoo.exporter.cli.run import _look
from zoo.exporter.pipeline import left
from zoo.exporter.pipeline.again import why
from zoo.exporter.pipeline.scheduler import run
from zoo.exporter.pipeline.serialize import as_mapping, exit_code, standing
from zoo.exporter.pipeline.whole import inputs_are_whole

ONE = """
[pipeline]
out = "out"
data = "digits"

[steps.base]
do = "source"
source = "net:make"
weights = "w.pth"

[steps.again]
do = "train"
from = "base"

[steps.exports]
do = "export"
from = ["base", "again"]
to = ["torchscript", "onnx"]

[steps.proof]
do = "check"
from = "exports"
limit = 10

[steps.speed]
do = "profile"
from = "proof"

[steps.bundle]
do = "package"
from = "proof"
"""
MODEL = "out/exports/make/model/onnx-fp32/model"


def states(engine) -> dict[str, str]:
    return {node.id: engine.outcome(node.id).state for node in engine.nodes}


def redone(engine) -> set[str]:
    return {name for name, state in states(engine).items() if state == "done"}


@pytest.fixture(autouse=True)
def grown(monkeypatch: pytest.MonkeyPatch) -> None:
    """No file is too young for its times to be trusted."""
    monkeypatch.setattr(left, "YOUNG", -(10**18))


@pytest.fixture
def done(engine, tmp_path: Path):
    """A pipeline of a user's factory that has run."""
    for name, text in {"w.pth": "w", "net.py": "from lab import blocks", "lab/__init__.py": "",
                       "lab/blocks.py": "import lab.far, net", "lab/far.py": "x = 1",
                       "unused.py": ""}.items():  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    made = engine(ONE)
    run(made)
    assert set(states(made).values()) == {"done", "cached"}
    assert {outcome.again for outcome in made.outcomes.values()} == {""}, "for the first time"
    return made


def flip(path: Path) -> None:
    """Change a byte, and give the file its size and its time back."""
    before = path.stat()
    content = path.read_bytes()
    path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def blind(folder: Path, node: str, name: str) -> None:
    """Make a record that no time tells of the change of a file."""
    place = folder / f"out/.zoo/steps/{node}.json"
    record = json.loads(place.read_text())
    record["files"][name]["ctime_ns"] = (folder / record["path"] / name).stat().st_ctime_ns
    place.write_text(json.dumps(record))


def test_a_second_run_reads_no_result(done, engine, stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.seen.clear()
    run(engine(ONE))  # remembers the times of what had been read before it was judged
    monkeypatch.setattr(left, "hash_of", lambda path: pytest.fail(f"{path} was read"))
    again = engine(ONE)
    run(again)
    assert set(states(again).values()) == {"cached"}
    assert stage.seen == []


@pytest.mark.parametrize("name", ["lab/far.py", "lab/blocks.py", "net.py", "lab/__init__.py"])
def test_a_module_however_far_away_makes_all_anew(done, engine, stage, tmp_path: Path, name: str) -> None:
    stage.seen.clear()
    (tmp_path / "unused.py").write_text("changed")
    unchanged = engine(ONE)
    run(unchanged)
    assert stage.seen == [], "nothing imports it"
    (tmp_path / name).write_text((tmp_path / name).read_text() + "\ny = 2")
    look = engine(ONE)
    look.settle_all()
    train = next(node for node in look.nodes if node.id == "runs/make-again")
    assert standing(look, train) == f"to run; again: {name}, sources/make changed"
    again = engine(ONE)
    run(again)
    assert {"runs/make-again", "exports/make/onnx-fp32", "exports/make-again/onnx-fp32"} <= redone(again)
    assert {"checks/make/onnx-fp32", "checks/make-again/torchscript-fp32"} <= redone(again), "which build it too"
    assert name in again.outcome("checks/make-again/onnx-fp32").again


def test_what_a_training_left_as_it_was_is_exported_anew_by_other_code(done, engine, stage, tmp_path: Path) -> None:
    """The same weights of another forward are another model."""
    stage.seen.clear()
    (tmp_path / "lab/far.py").write_text("x = 2")
    run(engine(ONE))
    assert sum("zoo export out/runs/make-again" in line for line in stage.seen) == 1


def test_a_flipped_byte_with_its_old_time_is_made_again_and_said(done, engine, stage, tmp_path: Path) -> None:
    stage.seen.clear()
    flip(tmp_path / MODEL)
    look = engine(ONE)
    look.settle_all()
    node = next(one for one in look.nodes if one.id == "exports/make/onnx-fp32")
    assert "again: model was changed" in standing(look, node)
    assert "model was changed" in next(one for one in as_mapping(look)["nodes"] if one["id"] == node.id)["again"]
    again = engine(ONE)
    run(again)
    assert redone(again) == {"exports/make/onnx-fp32"}, "the same came of it, so that nothing behind it changes"
    assert (tmp_path / MODEL).read_text() == "onnx-fp32"
    assert standing(again, node).startswith("done; again: model was changed")
    stage.seen.clear()
    run(engine(ONE))
    assert stage.seen == []


@pytest.mark.parametrize(("before", "after", "kind"), [
    ("limit = 10", "limit = 20", "check"),
    ('do = "package"', 'do = "package"\nrequire_checked = true', "package"),
    ('do = "profile"', 'do = "profile"\nthreads = 1', "profile"),
])  # fmt: skip
def test_what_is_judged_measured_or_packaged_is_read_though_no_time_tells(
    done, engine, stage, tmp_path: Path, before: str, after: str, kind: str
) -> None:
    flip(tmp_path / MODEL)
    blind(tmp_path, "exports/make/onnx-fp32", "model")
    stage.seen.clear()
    unseen = engine(ONE)
    run(unseen)
    assert stage.seen == [], "a look cannot see it"
    again = engine(ONE.replace(before, after))
    run(again)
    commands = [line.partition("zoo ")[2].split(" ")[0] for line in stage.seen]
    assert commands.index("export") < len(commands) - 1 - commands[::-1].index(kind)
    assert (tmp_path / MODEL).read_text() == "onnx-fp32", "made again before anything was said of it"
    assert again.outcome("exports/make/onnx-fp32").again.startswith("model was changed")
    assert set(states(again).values()) <= {"done", "cached"}
    assert exit_code(again.outcomes) == 0


def test_evidence_that_somebody_changed_is_not_packaged(done, engine, stage, tmp_path: Path) -> None:
    evidence = tmp_path / f"{Path(MODEL).parent}.check.json"
    flip(evidence)
    place = tmp_path / "out/.zoo/steps/checks/make/onnx-fp32.json"
    record = json.loads(place.read_text())
    record["files"][evidence.name]["ctime_ns"] = evidence.stat().st_ctime_ns
    place.write_text(json.dumps(record))
    stage.seen.clear()
    again = engine(ONE.replace('do = "package"', 'do = "package"\nrequire_checked = true'))
    run(again)
    assert "checks/make/onnx-fp32" in redone(again)
    assert evidence.read_text().startswith("{")


def test_what_is_changed_again_and_again_ends_the_step_and_not_in_a_circle(done, engine, stage, tmp_path: Path) -> None:
    stage.salt = "other"
    text = ONE.replace("weights = ", 'labels = "a,b"\nweights = ')
    made, harmed = engine(text), []

    def told(engine_) -> None:
        if engine_.outcome("exports/make/onnx-fp32").state == "done" and not harmed:
            harmed.append(True)
            flip(tmp_path / MODEL)

    made.told = told
    run(made)
    outcome = made.outcome("exports/make/onnx-fp32")
    assert (outcome.state, outcome.exit_code) == ("failed", 5)
    assert "after it was made" in outcome.reason
    assert states(made)["checks/make/onnx-fp32"] == "blocked"
    assert states(made)["packages/make"] == "done", "of those that could be had"
    assert exit_code(made.outcomes) == 5
    run(again := engine(text))
    assert exit_code(again.outcomes) == 0
    assert set(states(again).values()) <= {"done", "cached"}


def test_a_step_that_was_running_on_what_was_changed_is_run_again(done, engine, stage, tmp_path: Path) -> None:
    """A check of one artifact runs while the package finds another artifact of it changed, or it itself."""
    made = engine(ONE.replace("limit = 10", "limit = 20"))
    ready = made.settle()
    check = next(node for node in ready if node.id == "checks/make/onnx-fp32")
    made.begin([check])
    assert made.outcome(check.id).state == "running"
    flip(tmp_path / MODEL)
    profile = next(node for node in made.nodes if node.id == "profiles/make/onnx-fp32")
    made.begin([profile])
    assert made.outcome(profile.id).state == "waiting", "its check runs"
    assert not inputs_are_whole(made, [check])
    assert made.outcome(check.id).state == "running"
    assert made.collect()
    assert made.outcome(check.id).state == "waiting", "what it found may be of the changed file"
    run(made)
    assert set(states(made).values()) <= {"done", "cached"}
    assert exit_code(made.outcomes) == 0


def test_other_times_of_the_same_bytes_change_nothing_and_are_written_by_a_run_only(
    done, engine, stage, tmp_path: Path
) -> None:
    stage.seen.clear()
    os.utime(tmp_path / MODEL, (time.time() - 99, time.time() - 99))
    place = tmp_path / "out/.zoo/steps/exports/make/onnx-fp32.json"
    before = place.read_bytes()
    look = engine(ONE)
    _look(look, planning=True)
    assert set(states(look).values()) == {"cached"}
    assert place.read_bytes() == before, "a look writes nothing"
    run(engine(ONE))
    assert stage.seen == []
    marks = json.loads(place.read_text())["files"]
    assert marks["model"]["mtime_ns"] == (tmp_path / MODEL).stat().st_mtime_ns


def test_a_folder_that_was_moved_or_copied_stays_done(done, engine, stage, tmp_path: Path) -> None:
    stage.seen.clear()
    (tmp_path / "out").rename(tmp_path / "elsewhere")
    shutil.copytree(tmp_path / "elsewhere", tmp_path / "out")  # all times of change are new, those of content are not
    again = engine(ONE)
    run(again)
    assert stage.seen == []
    assert set(states(again).values()) == {"cached"}


def test_records_of_an_older_zoo(done, engine, stage, tmp_path: Path) -> None:
    """Without hashes: what has a seal of its own is held against it and stays done; the rest is made anew."""
    for place in (tmp_path / "out/.zoo/steps").rglob("*.json"):
        record = json.loads(place.read_text())
        for name in ("files", "parts"):
            del record[name]
        if "profiles" in place.parts:
            record["digest"] = "of sizes"
        place.write_text(json.dumps(record))
    stage.seen.clear()
    again = engine(ONE)
    run(again)
    assert {name.partition("/")[0] for name in redone(again)} == {"profiles"}
    record = json.loads((tmp_path / "out/.zoo/steps/exports/make/onnx-fp32.json").read_text())
    assert record["files"]["model"]["sha256"]
    stage.seen.clear()
    run(engine(ONE))
    assert stage.seen == []


def test_why_in_words() -> None:
    now = {"net.py": "1", "epochs": "2", "seed": "3"}
    assert why({**now, "epochs": "x"}, now) == "epochs changed"
    assert why({"net.py": "1"}, now) == "epochs, seed changed"
    assert why({**now, "a": "1", "b": "1", "seed": "x"}, now) == "seed, a and 1 more changed"
    assert why({}, now) == "what it hangs on changed", "of an older record"
