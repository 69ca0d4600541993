"""The result of `zoo check` as JUnit XML, for what shows a pipeline's tests: a suite an artifact, a case a gate."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ...errors import UnavailableError
from .rows import Gate, Row, error_word, read_rows, suite_name

if TYPE_CHECKING:
    from junitparser import TestCase, TestSuite

# What XML 1.0 cannot hold, not even escaped.
FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit_xml(result: Mapping[str, Any]) -> str:
    """The whole file. A gate that cannot tell is an error, not a failure; so is an artifact that was not checked.

    Args:
        result: what `zoo check --json` prints.

    Raises:
        UnavailableError: junitparser is missing.
    """
    try:
        from junitparser import JUnitXml
    except ImportError as error:
        raise UnavailableError("JUnit XML is written by junitparser", fix='pip install "zoo-export[full]"') from error
    suites = JUnitXml("zoo check")
    for row in read_rows(result):
        suites.add_testsuite(_suite(row, str(result.get("created") or "")))
    suites.update_statistics()
    return f'<?xml version="1.0" encoding="utf-8"?>\n{suites.tostring().decode("utf-8")}\n'


def _suite(row: Row, created: str) -> TestSuite:
    from junitparser import TestSuite

    name, path = suite_name(row.data), str(row.data.get("artifact") or "")
    suite = TestSuite(_text(name if name == path else f"{name} {path}".strip()))
    if created:
        suite.timestamp = _text(created)
    suite.add_testcases([*([_not_checked(row, name)] if row.error else []), *(_case(one, name) for one in row.gates)])
    return suite


def _not_checked(row: Row, suite: str) -> TestCase:
    """The case `load` of an artifact with an error: skipped where this machine lacks what it needs."""
    from junitparser import Error, Skipped, TestCase

    error = row.error or {}
    said = _text("; ".join(str(error[key]) for key in ("message", "fix") if error.get(key)))
    case = TestCase("load", classname=_text(suite))
    kind = _text(error.get("kind") or "error")
    case.result = [Skipped(said, kind) if error_word(error) == "unavailable" else Error(said, kind)]
    return case


def _case(gate: Gate, suite: str) -> TestCase:
    from junitparser import Error, Failure, Skipped, TestCase

    case = TestCase(_text(gate.name), classname=_text(suite))
    reason = _text(gate.reason)
    match gate.verdict:
        case "pass":
            case.system_out = reason
        case "skipped":
            case.result = [Skipped(reason)]
        case "inconclusive":
            case.result = [Error(reason, "inconclusive")]
        case _:
            case.result = [Failure(reason, "fail")]
    return case


def _text(value: object) -> str:
    """A text that XML can hold: what it cannot is written as its escape."""
    return FORBIDDEN.sub(lambda found: ascii(found.group())[1:-1], str(value))
