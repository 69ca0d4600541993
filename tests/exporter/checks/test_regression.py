from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from zoo.errors import UsageError
from zoo.exporter.checks.regression import judge_regression, read_baseline


def row(
    verdict: str = "pass", top1: float = 0.9, ratio: float = 0.5, spread: float = 0.01, **more: Any
) -> dict[str, Any]:
    latency = {"ratio": ratio, "ratio_low": ratio * (1 - spread), "ratio_high": ratio * (1 + spread)}
    return {
        "artifact": "exports/m/onnx-int8", "model": "m", "backend": "onnx", "precision": "int8",
        "gates": [
            {"name": "numerics", "verdict": verdict},
            {"name": "accuracy", "verdict": "pass", "top1": top1},
            {"name": "latency", "verdict": "pass", "against": "onnx-fp32", "margin": 0.03, **latency},
        ],
    } | more  # fmt: skip


def judge(now: dict[str, Any], *before: dict[str, Any], same_data: bool = True) -> tuple[str, str]:
    gate = judge_regression(now, before or (row(),), same_data=same_data)
    return gate.verdict, gate.reason


@pytest.mark.parametrize(
    ("now", "verdict", "words"),
    [
        (row(), "pass", "top-1 90.00%, in the baseline 90.00%"),
        (row("fail"), "fail", "numerics passed in the baseline, now it says fail"),
        (row("inconclusive"), "inconclusive", "now it says inconclusive"),
        (row(top1=0.89), "fail", "1.00 points less"),
        (row(top1=0.896), "pass", ""),
        (row(ratio=0.55), "fail", "slower than in the baseline: 1.100"),
        (row(ratio=0.4), "pass", "0.800"),
        (row(ratio=0.51, spread=0.05), "inconclusive", "cannot tell whether it is slower"),
    ],
)
def test_verdicts(now: dict[str, Any], verdict: str, words: str) -> None:
    found = judge(now)
    assert found[0] == verdict, found
    assert words in found[1]


def test_other_images_say_nothing_of_top1() -> None:
    assert judge(row(top1=0.5), same_data=False)[0] == "pass"


def test_another_reference_says_nothing_of_the_ratio() -> None:
    before = row()
    before["gates"][2]["against"] = "the eager reference"
    assert judge(row(ratio=5.0), before)[0] == "pass"


def test_what_failed_before_is_no_regression() -> None:
    assert judge(row("fail"), row("fail"))[0] == "pass"


def test_found_by_folder_then_by_model_backend_and_precision() -> None:
    moved = row("fail", artifact="elsewhere")
    assert judge(moved)[0] == "fail"
    assert judge(moved, row(artifact="a"), row(artifact="b"))[0] == "skipped", "which of the two it was is not known"
    assert judge(row(precision="fp16", artifact="x"))[0] == "skipped"


@pytest.mark.parametrize(
    "content",
    [
        "{", "[]", '{"artifacts": 3}', '{"artifacts": [1]}', '{"artifacts": [{"gates": [2]}]}', '{"artifacts": []}',
        '{"artifacts": [{"gates": [{"name": ["x"], "verdict": "pass"}]}]}',
        '{"artifacts": [{"gates": [{"name": "x", "verdict": ["pass"]}]}]}',
        '{"artifacts": [{"gates": [], "top1": NaN}]}', '{"x": ' + "1" * 5000 + "}", '{"x": 1e999}', "[" * 100_000,
    ],
)  # fmt: skip
def test_what_is_no_result_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "b.json").write_text(content)
    with pytest.raises(UsageError):
        read_baseline(tmp_path / "b.json")


@pytest.mark.parametrize("strange", [10**400, -1, 2.0, "much", None, True])
def test_numbers_that_cannot_be_say_nothing(strange: object) -> None:
    before = row()
    before["gates"][1]["top1"] = strange
    for key in ("ratio", "ratio_low", "ratio_high"):
        before["gates"][2][key] = strange if strange != 2.0 else 1e-300
    assert judge(row(), before)[0] in ("pass", "inconclusive", "fail")


def test_what_could_not_be_compared_is_said() -> None:
    now = row()
    now["gates"] = now["gates"][:2]
    verdict, reason = judge(now, row(), same_data=False)
    assert verdict == "pass"
    assert "not compared: latency, which was measured then, top-1, on None images then" in reason
    assert "not compared" not in judge(row())[1]
    assert judge(row(), row(gates=[])) == ("skipped", "nothing was judged of this artifact in the baseline")
    assert judge(row(), row(), row())[1] == "the baseline holds 2 of this artifact"
    other = row(precision="fp32")
    assert judge(row(), other)[0] == "skipped", "the same folder, but another thing"


def test_reading(tmp_path: Path) -> None:
    (tmp_path / "b.json").write_text(json.dumps({"artifacts": [row()]}))
    assert judge_regression(row(), read_baseline(tmp_path / "b.json")["artifacts"], same_data=True).verdict == "pass"
