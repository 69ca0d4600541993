"""What is done, what is not done again, what waits, what is lacking: with commands that are played."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))
from zoo.errors import UsageError
from zoo.exporter.pipeline.expand import expand
from zoo.exporter.pipeline.requirements import Facts, modules
from zoo.exporter.pipeline.scheduler import run
from zoo.exporter.pipeline.serialize import as_mapping, exit_code
from zoo.exporter.pipeline.state import State

THERE = Facts(frozenset(modules()), 1, 2, 8.0)


def states(engine) -> dict[str, str]:
    return {node.id: engine.outcome(node.id).state for node in engine.nodes}


def test_the_matrix(engine) -> None:
    nodes = {node.id: node for node in expand(engine().pipeline)}
    assert len(nodes) == 4 + 4 * (4 + 2 * 2) + 4 * 6 + 4
    assert nodes["runs/resnet18-small"].needs == ("runs/resnet18",)
    assert nodes["exports/resnet18-small/trt-int8"].needs == ("graphs/resnet18-small/trt-int8",)
    assert len(nodes["packages/mobilenet_v2"].needs) == 6
    order = list(nodes)
    assert all(order.index(one) < order.index(node.id) for node in nodes.values() for one in node.needs)


def test_all_is_made_once_and_the_rest_is_said(engine, stage) -> None:
    first = engine()
    run(first)
    found = states(first)
    assert {found[name] for name in found if "trt" not in name} == {"done"}
    assert found["exports/resnet18/trt-fp32"] == "lacking"
    assert found["checks/resnet18/trt-fp32"] == "blocked"
    assert found["graphs/resnet18/trt-fp32"] == "done", "what can be made here is"
    assert exit_code(first.outcomes) == 3
    assert len(stage.seen) == 4 + 4 * 2 * 2 + 4 * 2 + 4, "exports, and checks, of one model are one command"
    assert sum(" --to torchscript,onnx " in line for line in stage.seen) == 8
    stage.seen.clear()
    second = engine()
    run(second)
    assert stage.seen == []
    assert {states(second)[name] for name in found if "trt" not in name} == {"cached"}


def test_the_right_machine_finishes_only_what_was_lacking(engine, stage) -> None:
    run(engine())
    stage.seen.clear()
    there = engine(facts=THERE)
    run(there)
    assert set(states(there).values()) <= {"done", "cached"}
    assert exit_code(there.outcomes) == 0
    commands = [line.split("zoo ")[1].split(" ")[0] for line in stage.seen]
    assert sorted(commands) == sorted(["build"] * 8 + ["check"] * 4 + ["package"] * 4)
    assert all(line.startswith("cp -r out/graphs/") for line in stage.seen if " build " in line)


def test_a_change_redoes_only_what_hangs_on_it(engine, stage) -> None:
    text = (Path(engine().pipeline.path)).read_text()
    run(engine())
    stage.seen.clear()
    stage.salt = "smaller"
    changed = engine(text.replace("macs = 0.5", "macs = 0.4"))
    run(changed)
    assert stage.seen, "nothing was done again"
    redone = [name for name, state in states(changed).items() if state == "done"]
    assert all("-small" in name for name in redone), redone
    assert {"runs/resnet18-small", "packages/resnet18-small"} <= set(redone)


def test_the_same_result_stops_a_change(engine, stage) -> None:
    """A training that is done again and gives the same leaves the rest as it is."""
    run(engine())
    stage.seen.clear()
    text = (Path(engine().pipeline.path)).read_text()
    again = engine(text.replace("epochs = 2", "epochs = 3"))
    run(again)
    assert [line.split("zoo ")[1].split(" ")[0] for line in stage.seen] == ["train", "train"]
    stage.seen.clear()
    stage.salt = "other"
    other = engine(text.replace("epochs = 2", "epochs = 4"))
    run(other)
    assert "cached" not in states(other).values()


def test_what_was_removed_or_changed_is_made_again(engine, stage, tmp_path: Path) -> None:
    run(engine())
    stage.seen.clear()
    (tmp_path / "out/exports/resnet18/model/onnx-fp32/model").unlink()
    (tmp_path / "out/packages/mobilenet_v2.zoo").write_text("another")
    again = engine()
    run(again)
    redone = {name for name, state in states(again).items() if state == "done"}
    assert redone == {"exports/resnet18/onnx-fp32", "packages/mobilenet_v2"}


def test_a_failure_stops_what_hangs_on_it_and_nothing_else(engine, stage) -> None:
    stage.fail["exports/resnet18/onnx-int8"] = {"kind": "gate", "message": "golden images disagree", "fix": "x"}
    made = engine()
    run(made)
    found = states(made)
    assert found["exports/resnet18/onnx-int8"] == "failed"
    assert found["checks/resnet18/onnx-int8"] == "blocked"
    assert found["packages/resnet18"] == "done", "of those that could be had"
    line = next(one for one in stage.seen if "zoo package" in one and "packages/resnet18.zoo" in one)
    assert "onnx-int8" not in line
    assert "onnx-fp32" in line
    assert exit_code(made.outcomes) == 4, "the gate before what is lacking"
    row = next(one for one in as_mapping(made)["nodes"] if one["id"] == "exports/resnet18/onnx-int8")
    assert row["command"].endswith("--to onnx --int8 --data digits --out out/exports/resnet18"), "that one alone"
    stage.seen.clear()
    again = engine()
    run(again)
    assert stage.seen == [], "a gate that failed fails again"
    assert exit_code(again.outcomes) == 4


def test_wrong_usage_is_tried_again(engine, stage) -> None:
    stage.fail["runs/resnet18"] = {"kind": "usage", "message": "no such data", "fix": "x"}
    made = engine()
    run(made)
    assert exit_code(made.outcomes) == 2
    assert states(made)["packages/resnet18"] == "blocked"
    stage.fail.clear()
    again = engine()
    run(again)
    assert states(again)["packages/resnet18"] == "done"


def test_choices_by_timing_are_kept_and_given_back(engine, stage, tmp_path: Path) -> None:
    run(engine())
    plans = list((tmp_path / "out/.zoo/plans").glob("*.json"))
    assert len(plans) == 12
    for one in (tmp_path / "out/.zoo/steps/exports").rglob("*.json"):
        one.unlink()
    stage.seen.clear()
    run(engine())
    again = [line for line in stage.seen if "--int8" in line]
    assert len(again) == 8, "each by itself, for its own choices"
    assert all("--plan out/.zoo/plans/" in line for line in again)


def test_a_training_that_was_stopped_is_gone_on_with(engine, stage, tmp_path: Path) -> None:
    first = engine()
    node = next(one for one in first.nodes if one.id == "runs/resnet18")
    first.state.begin(node.id, first.key(node))
    place = tmp_path / "out/runs/resnet18"
    place.mkdir(parents=True)
    (place / "checkpoint.safetensors").write_text("x")
    run(engine())
    line = next(one for one in stage.seen if "zoo train resnet18" in one)
    assert line.endswith("--resume")


def test_a_training_of_other_options_is_begun_again(engine, stage, tmp_path: Path) -> None:
    first = engine()
    first.state.begin("runs/resnet18", "another key")
    place = tmp_path / "out/runs/resnet18"
    place.mkdir(parents=True)
    (place / "checkpoint.safetensors").write_text("x")
    run(engine())
    assert next(one for one in stage.seen if "zoo train resnet18" in one).endswith("--overwrite")


def test_a_run_that_finished_before_the_kill_is_taken_as_it_is(engine, stage, tmp_path: Path) -> None:
    first = engine()
    node = next(one for one in first.nodes if one.id == "runs/resnet18")
    first.state.begin(node.id, first.key(node))
    stage.leave(node, None)
    run(engine())
    assert not any("zoo train resnet18" in one for one in stage.seen)


def test_a_run_that_somebody_changed_is_trained_again(engine, stage, tmp_path: Path) -> None:
    run(engine())
    (tmp_path / "out/runs/resnet18/weights.safetensors").write_text("other weights")
    stage.seen.clear()
    run(engine())
    assert stage.seen[0].endswith("--overwrite"), "not taken for one that had just finished"
    assert len(stage.seen) == 1, "and the same came of it"


def test_times_in_a_run_are_no_change(engine, stage, tmp_path: Path) -> None:
    run(engine())
    facts = tmp_path / "out/runs/resnet18/run.json"
    facts.write_text('{"created": "later"}')
    stage.seen.clear()
    run(engine())
    assert stage.seen == []
    facts.write_text('{"reached": {"accuracy": 0.5}}')
    run(engine())
    assert stage.seen, "what an export holds of it is"


def test_somebody_elses_folder_is_refused(engine, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("x")
    with pytest.raises(UsageError, match="holds no pipeline"):
        engine()


def test_one_run_at_a_time(engine) -> None:
    first, second = engine(), engine()
    with first.state.locked(), pytest.raises(UsageError, match="another zoo run is writing"), second.state.locked():
        pass


def test_clean_removes_what_was_made_and_nothing_else(engine, stage, tmp_path: Path) -> None:
    made = engine()
    run(made)
    mine = tmp_path / "out/exports/resnet18/notes.txt"
    mine.write_text("x")
    assert made.state.clean() == [mine]
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == [mine]
    mine.unlink()
    made.state.clean()
    assert not (tmp_path / "out").exists()


def test_clean_removes_evidence_that_no_record_holds(engine, stage, tmp_path: Path) -> None:
    """Of a check that was inconclusive, which is tried again."""
    made = engine()
    run(made)
    for record in (tmp_path / "out/.zoo/steps/checks").rglob("*.json"):
        record.unlink()
    assert list((tmp_path / "out").rglob("*.check.json"))
    assert made.state.clean() == []


def test_a_folder_is_one_files(engine, stage, tmp_path: Path) -> None:
    made = engine()
    run(made)
    other = State(tmp_path, "out", "other.toml")
    with pytest.raises(UsageError, match=r"holds what pipeline.toml wrote, not other.toml"):
        other.refuse()
    (tmp_path / "pipeline.toml").rename(tmp_path / "other.toml")
    other.claim()
    other.refuse()


@pytest.mark.parametrize("out", ["file", "file/below", "loop"])
def test_a_place_that_cannot_be_is_said_by_a_look(out: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UsageError, match="give another out"):
        State(tmp_path, out).refuse()
    assert (tmp_path / "file").read_text() == "x"


def test_clean_removes_nothing_outside(engine, stage, tmp_path: Path) -> None:
    made = engine()
    run(made)
    other = tmp_path / "thesis"
    other.mkdir()
    (other / "thesis.tex").write_text("x")
    record = tmp_path / "out/.zoo/steps/runs/resnet18.json"
    record.write_text(record.read_text().replace("out/runs/resnet18", "thesis"))
    assert made.state.read("runs/resnet18").path == "thesis"
    made.state.clean()
    assert (other / "thesis.tex").is_file()


def test_a_record_that_is_broken_is_no_record(engine, stage, tmp_path: Path) -> None:
    run(engine())
    record = tmp_path / "out/.zoo/steps/runs/resnet18.json"
    record.write_text(record.read_text()[:40])
    stage.seen.clear()
    run(engine())
    assert [line.split("zoo ")[1].split(" ")[0] for line in stage.seen] == []
    assert json.loads(record.read_text())["key"], "the run was whole, and its key was the one that it was begun with"
