"""Evidence is read strictly: what is no evidence of zoo check is none."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zoo.exporter.checks.record import GATES, parse_record

GOOD: dict[str, Any] = {
    "format": 1, "artifact_sha256": "a" * 64, "reference_sha256": "b" * 64, "backend": "onnx", "precision": "fp32",
    "created": "2026-01-01T00:00:00+00:00", "data": {"name": "digits", "images": 3},
    "gates": [{"name": name, "verdict": "pass", "reason": "so"} for name in ("numerics", "precision")],
}  # fmt: skip


def gate(**change: Any) -> dict[str, Any]:
    return {**GOOD, "gates": [{**GOOD["gates"][0], **change}, GOOD["gates"][1]]}


def test_a_good_one() -> None:
    found = parse_record(json.dumps(GOOD).encode())
    assert found.verdicts == {"numerics": "pass", "precision": "pass"}
    assert (found.unjudged, found.data) == ((), ("digits", 3))


def test_what_was_not_judged_is_named() -> None:
    assert parse_record(json.dumps(gate(verdict="skipped")).encode()).unjudged == ("numerics",)
    alone = {**GOOD, "gates": [{"name": "accuracy", "verdict": "pass", "reason": "so"}]}
    assert parse_record(json.dumps(alone).encode()).unjudged == ("numerics", "precision")


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (gate(verdict="PASS!"), "none that there is"), (gate(name="beauty"), "unknown gate"),
        (gate(name="precision"), "there twice"), (gate(reason=""), "no reason"), (gate(verdict=1), "no verdict"),
        ({**GOOD, "gates": []}, "no gates"), ({**GOOD, "gates": {}}, "no gates"), ({**GOOD, "gates": [1]}, "no object"),
        ({**GOOD, "format": 2}, "format is 2"), ({**GOOD, "format": True}, "format is True"),
        ({**GOOD, "artifact_sha256": "a"}, "no SHA-256"), ({**GOOD, "created": "today"}, "no time"),
        ({**GOOD, "data": 5}, "no object"), ({**GOOD, "data": {"name": "x", "images": -1}}, "number of images"),
        ([], "no JSON object"),
    ],
)  # fmt: skip
def test_what_is_none(record: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_record(json.dumps(record).encode())


@pytest.mark.parametrize("text", ["{", '{"format": 1, "format": 1}', '{"format": NaN}', "\xff", "[" * 9999])
def test_what_is_no_json(text: str) -> None:
    with pytest.raises(ValueError):
        parse_record(text.encode("latin-1"))


@given(st.sampled_from(sorted(GOOD)))
def test_every_field_but_data_is_needed(name: str) -> None:
    less = {key: value for key, value in GOOD.items() if key != name}
    if name == "data":
        assert parse_record(json.dumps(less).encode()).data is None
    else:
        with pytest.raises(ValueError):
            parse_record(json.dumps(less).encode())


def test_all_gates_that_there_are_are_known() -> None:
    assert {"numerics", "accuracy", "consistency", "latency", "precision", "regression"} <= set(GATES)
