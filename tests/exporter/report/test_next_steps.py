"""Every gate that did not pass says what to do next, on the page and on the command line."""

from __future__ import annotations

import pytest
from zoo.exporter.report.next_steps import next_step
from zoo.exporter.report.rows import GATES, problems, read_rows


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "int8"])
def test_a_failure_never_ends_without_a_next_step(gate: str, precision: str) -> None:
    told = next_step(gate, "fail", backend="onnx", precision=precision, data="digits")
    assert told
    assert not told.endswith(".")
    assert next_step(gate, "pass") == next_step(gate, "skipped") == ""


def test_int8_that_costs_too_much_is_told_how_to_cost_less() -> None:
    told = next_step("accuracy", "fail", backend="openvino", precision="int8", data="flowers")
    assert "zoo export SOURCE --to openvino --int8 --data flowers --max-drop" in told
    assert "--data DATA" in next_step("accuracy", "fail", precision="int8"), "where no data is known"
    assert "--data 'my flowers' " in next_step("accuracy", "fail", precision="int8", data="my flowers")


@pytest.mark.parametrize("gate", ["accuracy", "latency", "numerics", "consistency", "regression", "precision"])
def test_doubt_has_one_too(gate: str) -> None:
    assert next_step(gate, "inconclusive", data="digits")


def test_it_is_on_the_card_of_the_gate() -> None:
    gates = [{"name": "numerics", "verdict": "fail", "reason": "far"}, {"name": "accuracy", "verdict": "pass"}]
    rows = read_rows({"artifacts": [{"backend": "onnx", "precision": "int8", "gates": gates}]})
    (found,) = problems(rows, "digits")
    assert found.fix == next_step("numerics", "fail", backend="onnx", precision="int8", data="digits")
