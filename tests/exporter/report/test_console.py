"""What a terminal shows: bars that come at once, count what they say, and stop counting when they are done."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.progress import Progress, Task, TaskID
from zoo.exporter.report import console as module
from zoo.exporter.report.console import PROGRESS, UNITS, duration, progress, seconds_of, table, unit_of, waiting


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """A terminal of 80 columns whose text can be read."""
    file = io.StringIO()
    made = Console(file=file, force_terminal=True, width=80, color_system=None)
    monkeypatch.setattr(module, "console", lambda: made)
    monkeypatch.delenv(PROGRESS, raising=False)
    return file


def task(completed: float, total: float | None, started: float, now: list[float], finished: float | None) -> Task:
    made = Task(TaskID(0), "onnx fp32", total, completed, finished_time=finished, _get_time=lambda: now[0])
    made.start_time = started
    return made


def test_the_rate_of_a_finished_bar_stays() -> None:
    now = [12.0]
    done, running = task(100, 100, 2.0, now, finished=10.0), task(50, 100, 2.0, now, finished=None)
    rate = module._Rate("images")
    assert rate.render(done).plain == "10.0 images/s"
    assert rate.render(running).plain == "5.0 images/s"
    now[0] = 102.0
    assert rate.render(done).plain == "10.0 images/s", "it is done, and counts no more"
    assert rate.render(running).plain == "0.5 images/s"
    assert seconds_of(done) == 10.0


@pytest.mark.parametrize(
    ("what", "unit"),
    [("onnx int8", "images"), ("latency of onnx-int8", "rounds"), ("timing layers", "layers"), ("timing", "rounds"),
     ("exporting", "artifacts"), ("eager reference", "images")],
)  # fmt: skip
def test_a_bar_names_what_it_counts(what: str, unit: str) -> None:
    assert unit_of(what, "images") == unit
    assert all(name.endswith("s") for name in UNITS.values())


def test_a_bar_is_there_before_anything_is_counted(screen: io.StringIO) -> None:
    with progress("images", "loading the data") as update:
        assert "loading the data" in screen.getvalue()
        update("onnx fp32", 5, 10)
    with waiting("verifying"):
        assert "verifying" in screen.getvalue()


def display_of(update: Any) -> Progress:
    return update._display


def names(update: Any) -> list[str]:
    return [each.description for each in display_of(update).tasks]


def test_what_has_no_length_gives_way_to_what_comes_next(screen: io.StringIO) -> None:
    with progress("images") as update:
        update("opening onnx-fp32", 0, 0)
        assert names(update) == ["opening onnx-fp32"]
        update("onnx fp32", 10, 10)
        update("opening onnx-int8", 0, 0)
        assert names(update) == ["onnx fp32", "opening onnx-int8"]
        update("onnx fp32", 2, 10)  # of the next model
        (bar,) = display_of(update).tasks
        assert (bar.completed, bar.finished) == (2, False)


def test_a_pipeline_is_told_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PROGRESS, str(tmp_path / "told"))
    with progress("images", "loading") as update:
        update("onnx fp32", 10, 10)
    lines = [json.loads(line) for line in (tmp_path / "told").read_text(encoding="utf-8").splitlines()]
    assert lines == [["loading", 0, 0], ["onnx fp32", 10, 10]]


def test_nothing_of_a_cell_is_cut(screen: io.StringIO) -> None:
    fix = "zoo export resnet18 --to onnx --int8 --data digits --max-drop 0.5 --weights runs/resnet18-digits"
    table("exported", ["artifact", "golden images", "ran", "size"], [["a" * 60, f"fail: wrong; {fix}", "cpu", "1 MB"]])
    text = screen.getvalue()
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80


def test_no_number_is_broken_in_two(screen: io.StringIO) -> None:
    names = [
        "device",
        "batch",
        "p50 ms",
        "95 % interval of the median",
        "p99 ms",
        "first ms",
        "images/s, mean",
        "CPU ms",
    ]
    values = ["local", "8", "1063.32", "1060.12 to 1071.94", "too few", "1060.5", "125,000", "1014.78"]
    table("latency", [*names, "mJ", "MB", "accuracy"], [[*values, "", "143", "98.61% of 1,797"]])
    text = screen.getvalue()
    for word in [*names, *values, "98.61% of 1,797"]:
        assert word in text
    assert "mJ" not in text, "which is empty"
    assert max(map(len, text.splitlines())) <= 80


def test_a_table_that_fits_is_one(screen: io.StringIO) -> None:
    table("gates", ["gate", "verdict"], [["consistency", "pass: " + "6 comparisons agree bit for bit " * 4]])
    lines = screen.getvalue().splitlines()
    assert "gate" in lines[2]
    assert "consistency" in lines[4]
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_table_ends_where_the_terminal_does(width: int, screen: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Console(file=screen, force_terminal=True, width=width, color_system=None)
    monkeypatch.setattr(module, "console", lambda: made)
    golden = "pass: relative error 0.013 <= 0.2, over 8 golden images"
    table(
        "exported",
        ["artifact", "golden images", "ran", "size, time"],
        [
            ["ex/resnet18/onnx-int8", golden, "cpu, int8 x21, 100% of the MACs in int8", "11.3 MB, 22.8 s"],
            ["", "", "", ""],
        ],
    )
    lines = screen.getvalue().splitlines()[1:]
    assert {len(line) for line in lines} == {len(lines[0])}
    assert len(lines[0]) <= width
    assert lines[0][-1] in "┓┐", "the right border is there"
    for word in golden.split():
        assert word in screen.getvalue()


def test_any_text_may_be_in_a_table(screen: io.StringIO) -> None:
    table("", ["", "名前"], [["", ""], ["", "画像" * 60]])
    table("none", ["a", "b"], [])
    assert "画像" in screen.getvalue()


def test_long_times_are_read_at_a_glance() -> None:
    assert [duration(seconds) for seconds in (28.44, 59.9, 167.0, 3900.0)] == [
        "28.4 s",
        "59.9 s",
        "2 min 47 s",
        "1 h 5 min",
    ]


def test_a_detail_behind_a_tab_moves_the_same_bar() -> None:
    from rich.progress import Progress
    from zoo.exporter.report.console import _Bars

    with Progress(disable=True) as display:
        bars = _Bars(display)
        for done, detail in enumerate(("all, 3 left", "dense, 2 left"), 1):
            bars(f"timing int8\t{detail}", done, 4)
        (task,) = display.tasks
    assert task.description == "timing int8: dense, 2 left"
    assert task.completed == 2
