"""The gate latency in a check: what is held against what."""

from __future__ import annotations

from typing import Any

import pytest
from zoo.errors import UsageError
from zoo.exporter.artifact.folder import read_manifest
from zoo.exporter.checks.budget import Budget, LatencyLimits, Limits
from zoo.exporter.checks.measure_latency import Candidate, LatencyOptions, compare
from zoo.exporter.checks.run import check


@pytest.mark.slow
def test_throughput_at_batch_sizes_that_it_takes(exported) -> None:
    mine = Candidate(str(exported["onnx"]), read_manifest(exported["onnx"]), str(exported["onnx"]))
    found = compare(mine, mine, LatencyOptions(rounds=1, batch_sizes=(1, 4, 5000), threads=1), "cpu")
    assert [one["batch"] for one in found.throughput] == [1, 4]
    assert found.notes == ("a batch of 5000 is more than it takes",)
    assert found.against == "onnx-fp32"


@pytest.mark.parametrize("options", [{"rounds": 0}, {"images": 0}, {"threads": -1}, {"batch_sizes": (8, 0)}])
def test_options_that_make_no_sense(options: dict[str, Any]) -> None:
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
    assert gate.numbers["machine"]["threads"] == gate.numbers["threads"] == 1
