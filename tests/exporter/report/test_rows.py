"""Short names that are unique, and a sentence that never passes what did not pass."""

from __future__ import annotations

from typing import Any

import pytest
from zoo.exporter.report.rows import elsewhere, labels, problems, read_rows, shares_of_macs, standing


def row(*verdicts: str, **more: object) -> dict[str, Any]:
    gates = [{"name": f"gate {index}", "verdict": verdict} for index, verdict in enumerate(verdicts)]
    return {"artifact": "a", "gates": gates, **more}


UNAVAILABLE = {"kind": "unavailable", "message": "no TensorRT", "fix": ""}
BROKEN = {"kind": "integrity", "message": "a hash does not fit", "fix": ""}
STANDINGS = [
    ([row("pass", "pass"), row("pass", "skipped")], {}, "Passed: 3 gates of 2 artifacts", "1 skipped"),
    ([row("pass", "fail")], {}, "Failed: 1 of 2 gates failed", "1 gate of 1 artifact passed"),
    ([row("pass", "perhaps")], {}, "Failed: 1 of 2 gates failed", "1 gate of 1 artifact passed"),
    ([row("fail", "inconclusive")], {}, "Failed: 1 of 2 gates failed, 1 cannot be judged", "no gate passed"),
    ([row("inconclusive")], {}, "Cannot tell: 1 of 1 gate cannot be judged", "no gate passed"),
    (
        [row("pass"), row(error=UNAVAILABLE)],
        {},
        "Cannot tell: 1 of 2 artifacts cannot run here",
        "1 gate of 1 artifact",
    ),
    ([row("pass"), row(error=BROKEN)], {}, "Failed: 1 of 2 artifacts could not be checked", "1 gate of 1 artifact"),
    ([row()], {}, "Failed: 1 of 1 artifact could not be checked", "no gate passed"),
    ([row("skipped")], {}, "Cannot tell: no gate was judged", "no gate passed, 1 skipped"),
    ([], {}, "Failed: no gate was judged", "no gate passed"),
    ([row("pass")], {"ok": False, "exit_code": 2}, "Failed: the command ended with exit code 2", "1 gate of 1"),
    ([row("pass")], {"ok": False, "exit_code": 6}, "Cannot tell: the command ended with exit code 6", "1 gate of 1"),
]


@pytest.mark.parametrize(("rows", "more", "sentence", "rest"), STANDINGS)
def test_standing(rows: list[dict[str, Any]], more: dict[str, Any], sentence: str, rest: str) -> None:
    verdict, said, besides = standing(more, read_rows({"artifacts": rows}))
    assert said == sentence
    assert besides.startswith(rest)
    assert {"pass": "Passed", "fail": "Failed", "inconclusive": "Cannot tell"}[verdict] == said.split(":")[0]


def test_problems_are_the_hardest_first_and_name_their_place() -> None:
    found = problems(read_rows({"artifacts": [row("inconclusive", "pass", "skipped", "fail"), row(error=BROKEN)]}))
    assert [(one.verdict, one.place) for one in found] == [
        ("error", "a1"),
        ("fail", "a0-g3"),
        ("inconclusive", "a0-g0"),
    ]


def named(artifact: str, model: str = "m", backend: str = "onnx", precision: str = "fp32") -> dict[str, str]:
    return {"artifact": artifact, "model": model, "backend": backend, "precision": precision}


@pytest.mark.parametrize(
    ("artifacts", "expected"),
    [
        ([named("x"), named("y", precision="int8")], ["onnx-fp32", "onnx-int8"]),
        ([named("x"), named("y", model="n")], ["m/onnx-fp32", "n/onnx-fp32"]),
        ([named("x"), named("y"), named("z", precision="int8")], ["x", "y", "onnx-int8"]),
        ([{"artifact": "x"}, {}], ["x", "artifact"]),
    ],
)
def test_labels_are_as_short_as_they_are_unique(artifacts: list[dict[str, str]], expected: list[str]) -> None:
    assert labels(artifacts) == expected


def test_shares_of_macs_say_what_was_only_planned() -> None:
    layers = [{"precision": "int8", "ran": "int8", "macs": 3}, {"precision": "fp32", "ran": None, "macs": 1}]
    assert shares_of_macs(layers) == {"int8": 0.75, "fp32, planned": 0.25}
    layers[1]["macs"] = None
    assert shares_of_macs(layers) == {"int8": 0.5, "fp32, planned": 0.5}, "where shapes are missing every layer counts"


def test_layers_in_another_precision(sample) -> None:
    rows = read_rows(sample)
    assert [len(elsewhere(one)) for one in rows] == [0, 0, 2, 0]
    assert {layer["name"] for layer in elsewhere(rows[2])} == {"node_conv2d_0", "node_conv2d_12"}
