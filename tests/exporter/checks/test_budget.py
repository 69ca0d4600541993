from __future__ import annotations

from pathlib import Path

import pytest
from zoo.errors import UsageError
from zoo.exporter.checks.budget import Budget, read_budget

GOOD = """
[default.accuracy]
max_drop = 0.01
[int8.accuracy]
max_drop = 0.02
min_top1 = 0.8
[onnx.accuracy]
max_drop = 0.03
[onnx-int8.accuracy]
max_drop = 0.04
[onnx-int8.latency]
max_p99_ms = 20
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "budget.toml"
    path.write_text(text)
    return path


def test_the_more_special_table_wins_key_by_key(tmp_path: Path) -> None:
    budget = read_budget(write(tmp_path, GOOD))
    drops = {
        name: budget.limits(*name.split("-")).accuracy for name in ("trt-fp16", "trt-int8", "onnx-fp32", "onnx-int8")
    }
    assert {name: one.max_drop for name, one in drops.items()} == {
        "trt-fp16": 0.01, "trt-int8": 0.02, "onnx-fp32": 0.03, "onnx-int8": 0.04,
    }  # fmt: skip
    assert drops["onnx-int8"].min_top1 == 0.8, "what a special table leaves open the general one says"
    assert drops["onnx-fp32"].min_top1 is None
    assert budget.latency
    assert budget.limits("onnx", "int8").latency.max_p99_ms == 20


def test_nothing_is_asked_for_by_an_empty_one(tmp_path: Path) -> None:
    assert read_budget(write(tmp_path, "")) == Budget()
    assert not read_budget(write(tmp_path, "[default.accuracy]\nmax_drop = 0.1")).latency


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[onx-int8.accuracy]\nmax_drop = 1", 'unknown table .onx-int8., did you mean "onnx-int8"'),
        ("[default.acuracy]\nmax_drop = 1", 'unknown key `acuracy`, did you mean "accuracy"'),
        ("[default.accuracy]\nmaxdrop = 1", 'unknown key `accuracy.maxdrop`, did you mean "max_drop"'),
        ("[default.accuracy]\nmax_drop = 'x'", "accuracy.max_drop"),
        ("[default.accuracy]\nmax_drop = 5", "between 0 and 1"),
        ("[default.accuracy]\nmax_drop = nan", "between 0 and 1"),
        ("[default.latency]\nmargin = -0.1", "between 0 and inf"),
        ("[default.latency]\nmax_p50_ms = inf", "between 0 and inf"),
        ("default = 3", "is no table"),
        ("[default", "cannot be read as TOML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        read_budget(write(tmp_path, text))


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        read_budget(tmp_path / "none.toml")
