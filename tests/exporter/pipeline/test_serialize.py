"""What a pipeline says of itself before it runs: the command of everything that would be made."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
from zoo.exporter.pipeline.scheduler import run
from zoo.exporter.pipeline.serialize import heading, planned


def test_every_command_is_known_before_anything_is_made(engine) -> None:
    fresh = engine()
    fresh.settle_all()
    plan = planned(fresh)
    assert set(plan.commands) == {node.id for node in fresh.nodes}
    assert all(line for line in plan.commands.values())
    artifact = "out/exports/resnet18-small/resnet18-pruned/onnx-int8"
    assert "zoo prune out/runs/resnet18 " in plan.commands["runs/resnet18-small"]
    assert "zoo export out/runs/resnet18-small --to onnx --int8" in plan.commands["exports/resnet18-small/onnx-int8"]
    assert f"zoo check {artifact} " in plan.commands["checks/resnet18-small/onnx-int8"]
    package = plan.commands["packages/resnet18-small"]
    assert artifact in package
    assert "trt" not in package, "of which nothing can be made here"
    assert "zoo build out/exports/resnet18/trt-fp32" in plan.commands["exports/resnet18/trt-fp32"], "elsewhere it can"


def test_the_lines_are_what_will_run(engine, stage) -> None:
    fresh = engine()
    fresh.settle_all()
    lines = planned(fresh).lines
    assert not any(" build " in line for line in lines), "no TensorRT is here"
    run(engine())

    def artifacts(commands: Iterable[str]) -> set[tuple[str, str]]:
        """Each command's name with each path in it; what was ready earlier ran by a command of its own."""
        words = [line.removeprefix("OMP_NUM_THREADS=1 ").split() for line in commands]
        return {(line[1], word) for line in words for word in line[2:] if "/" in word}

    played = [re.sub(r"/(exports|graphs)/([^/ ]+)/[^/ ]+/", r"/\1/\2/model/", line) for line in lines]
    assert artifacts(played) == artifacts(stage.seen)
    assert len(lines) <= len(stage.seen)


def test_what_is_done_runs_no_more(engine) -> None:
    run(engine())
    again = engine()
    again.settle_all()
    assert planned(again).lines == ()


def test_a_check_that_is_tried_again_is_counted(engine, stage) -> None:
    """It is neither made nor was it done, and it took its time."""
    doubt = {"name": "accuracy", "verdict": "inconclusive", "reason": "60 images are too few"}
    passed = {**doubt, "verdict": "pass"}
    stage.evidence = lambda node: {"gates": [doubt if node.id == "checks/resnet18/onnx-fp32" else passed]}
    first = engine()
    run(first)
    assert heading(first).endswith(" made, 0 were done, 1 ran and is inconclusive")
    again = engine()
    run(again)
    assert heading(again).startswith("0 made, ")
    assert heading(again).endswith(" were done, 1 ran and is inconclusive")
