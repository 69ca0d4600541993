"""Real processes around a real artifact; few rounds, for speeds are no matter of a test."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from zoo.errors import UnavailableError, UsageError
from zoo.exporter.checks.budget import Budget, LatencyLimits, Limits
from zoo.exporter.checks.run import check
from zoo.exporter.timing.engine import WORKER, LatencyOptions, Task, Worker, as_reference, compare

SLOWED = (sys.executable, "-P", str(Path(__file__).parent / "slowed_worker.py"))


@pytest.mark.slow
def test_a_round_of_processes(exported) -> None:
    told: list[tuple[int, int]] = []
    task = Task("onnx-fp32", str(exported["onnx"]))
    options = LatencyOptions(rounds=2, batch_sizes=(1, 4, 5000), threads=1)
    found = compare(task, task, options, "cpu", lambda *done: told.append(done), largest=1024)
    assert told == [(1, 2), (2, 2)]
    for side in (found.artifact, found.reference, found.control):
        assert len(side.rounds) == 2
        assert min(side.times) > 0
        assert side.load_ms > 0
        assert side.first_ms > 0
        assert side.peak_memory_mb is not None
    assert [one["batch"] for one in found.throughput] == [1, 4]
    assert found.notes == ("a batch of 5000 is more than it takes",)
    for order in found.order:
        assert order.split() == order.split()[::-1], "mirrored, so that drift cancels"
        assert sorted(order.split()[:3]) == ["a", "c", "r"]


def test_a_copy_slowed_threefold_is_seen(exported) -> None:
    task = Task("onnx-fp32", str(exported["onnx"]))
    slow = Task("slow", task.folder, command=(*SLOWED, "3.0"))
    found = compare(slow, task, LatencyOptions(rounds=1, threads=1), "cpu", lambda *_: None)
    assert found.artifact.rounds[0] > 1.5 * found.reference.rounds[0]


def test_the_eager_reference(exported) -> None:
    with Worker(as_reference(Task("onnx-fp32", str(exported["onnx"]))), "cpu", 1, 1) as worker:
        worker.imported()
        assert worker.ready()["stable"] in (True, False)
        assert len(worker.block(1.0, 3)) >= 3


@pytest.mark.parametrize(
    ("task", "words"),
    [
        (Task("gone", "/nowhere"), "gone: UsageError: /nowhere: no such artifact"),
        (
            Task("dead", "x", command=(sys.executable, "-c", "import sys; sys.exit('out of memory')")),
            "1: out of memory",
        ),
    ],
)
def test_a_process_that_fails_says_why(task: Task, words: str) -> None:
    with pytest.raises(UnavailableError, match=words):
        compare(task, task, LatencyOptions(rounds=1), "cpu", lambda *_: None)


def test_one_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoo.exporter.timing.engine.READY_S", 0.2)
    task = Task("asleep", "x", command=(sys.executable, "-c", "import time; time.sleep(60)"))
    with pytest.raises(UnavailableError, match="asleep did not answer in 0 s"):
        compare(task, task, LatencyOptions(rounds=1), "cpu", lambda *_: None)


@pytest.mark.parametrize("options", [{"rounds": 0}, {"images": 0}, {"threads": -1}, {"batch_sizes": (8, 0)}])
def test_options_that_make_no_sense(options) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        LatencyOptions(**options)


def test_the_gate_in_a_check(exported) -> None:
    budget = Budget({"onnx": Limits(latency=LatencyLimits(max_load_ms=1e-6))})
    options = LatencyOptions(rounds=1, threads=1, against=str(exported["onnx"]))
    row = check(exported["onnx"], latency=options, budget=budget)[0]
    assert [gate.name for gate in row.gates] == [
        "numerics", "accuracy", "consistency", "preprocessing", "labels", "latency", "precision",
    ]  # fmt: skip
    gate = row.gate("latency")
    assert gate is not None
    assert gate.verdict == "fail", "the load takes longer than the budget allows, whatever the few rounds say"
    assert gate.numbers["against"] == "onnx-fp32"
    assert gate.numbers["machine"]["threads"] == 1


@pytest.mark.gpu
def test_a_gpu_tells_transfers_from_runs(exported) -> None:
    for name in ("torchscript", "onnx"):
        task = Task(f"{name}-fp32", str(exported[name]))
        options = LatencyOptions(rounds=2, batch_sizes=(1, 64))
        found = compare(task, as_reference(task), options, "cuda", lambda *_: None)
        assert found.artifact.upload_ms is not None
        assert found.artifact.fetch_ms is not None
        assert min(found.artifact.times) > 0


def test_users_folders_do_not_shadow_the_worker() -> None:
    assert "-P" in WORKER
