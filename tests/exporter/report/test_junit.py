"""The XML is what junitparser reads back: every gate counted once, nothing broken by what a reason holds."""

from __future__ import annotations

from typing import Any

import pytest
from junitparser import Error, Failure, JUnitXml, Skipped, TestSuite
from zoo.exporter.report.junit import junit_xml


def read(result: dict[str, Any]) -> dict[str, TestSuite]:
    xml = JUnitXml.fromstring(junit_xml(result).encode())
    return {str(suite.name): suite for suite in xml}


def one(**gate: object) -> dict[str, Any]:
    row = {"artifact": "a/b", "backend": "onnx", "precision": "int8", "gates": [{"name": "numerics", **gate}]}
    return {"artifacts": [row]}


def test_a_suite_an_artifact_and_a_case_a_gate(sample) -> None:
    suites = read(sample)
    assert list(suites) == [
        f"{name} exports/resnet18/{name}" for name in ("torchscript-fp32", "onnx-fp32", "onnx-int8", "trt-fp16")
    ]
    for row, suite in zip(sample["artifacts"], suites.values()):
        assert sorted(case.name for case in suite) == sorted(gate["name"] for gate in row["gates"]) or ["load"]
    counts = [(suite.tests, suite.failures, suite.errors, suite.skipped) for suite in suites.values()]
    assert counts == [(6, 0, 1, 1), (6, 0, 0, 1), (6, 1, 0, 1), (1, 0, 0, 1)]


@pytest.mark.parametrize(
    ("verdict", "kind", "type_"),
    [("fail", Failure, "fail"), ("inconclusive", Error, "inconclusive"), ("skipped", Skipped, None)],
)
def test_verdicts(verdict: str, kind: type, type_: str | None) -> None:
    (suite,) = read(one(verdict=verdict, reason="so it is")).values()
    (found,) = next(iter(suite)).result
    assert (type(found), found.type, found.message) == (kind, type_, "so it is")


def test_a_pass_tells_its_reason() -> None:
    (suite,) = read(one(verdict="pass", reason="so it is")).values()
    case = next(iter(suite))
    assert (case.result, case.system_out, case.classname) == ([], "so it is", "onnx-int8")


def test_a_word_that_is_not_known_is_a_failure() -> None:
    (suite,) = read(one(verdict="perhaps")).values()
    assert suite.failures == 1


@pytest.mark.parametrize(("kind", "expected"), [("integrity", Error), ("unavailable", Skipped)])
def test_an_artifact_that_was_not_checked(kind: str, expected: type) -> None:
    error = {"kind": kind, "message": "no", "fix": "do this"}
    (suite,) = read({"artifacts": [{"artifact": "a/b", "gates": [], "error": error}]}).values()
    case = next(iter(suite))
    assert (case.name, suite.name) == ("load", "a/b")
    assert (type(case.result[0]), case.result[0].type, case.result[0].message) == (expected, kind, "no; do this")


def test_nothing_judged_is_no_pass() -> None:
    (suite,) = read({"artifacts": [{"artifact": "a/b", "backend": "onnx", "precision": "fp32"}]}).values()
    assert suite.errors == 1


@pytest.mark.parametrize("result", [{}, {"artifacts": None}, {"artifacts": []}])
def test_no_artifacts(result: dict[str, Any]) -> None:
    assert read(result) == {}


@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        ('<b> & "quotes" \' ]]>', '<b> & "quotes" \' ]]>'),
        ("\x1b[31mred\x00\x0b\ufffe", "\\x1b[31mred\\x00\\x0b\\ufffe"),
        ("half \ud83d", "half \\ud83d"),
        ("\U0001f600 größer", "\U0001f600 größer"),
    ],
)
@pytest.mark.parametrize("verdict", ["pass", "fail"])
def test_any_text_can_be_read_back(reason: str, shown: str, verdict: str) -> None:
    (suite,) = read(one(verdict=verdict, reason=reason)).values()
    case = next(iter(suite))
    assert (case.system_out if verdict == "pass" else case.result[0].message) == shown
