"""What people see: tables, notes and progress on stderr; colours follow NO_COLOR and non-terminals."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import IO

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from ..artifact import Receipt

PROGRESS = "ZOO_PROGRESS"
COLOURS = {
    "pass": "green",
    "fail": "bold red",
    "error": "bold red",
    "inconclusive": "yellow",
    "warning": "yellow",
    "skipped": "dim",
    "unavailable": "yellow",
}


@lru_cache(maxsize=1)
def console() -> Console:
    """One for the process, so that a line goes above a running bar; 120 columns wide where there is no terminal."""
    made = Console(stderr=True, highlight=False)
    return made if made.is_terminal else Console(stderr=True, highlight=False, width=120)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; cells that are a verdict are coloured."""
    made = Table(title=title, title_justify="left", header_style="bold")
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        made.add_row(*(_cell(text) for text in row))
    console().print(made)


def say(text: str, style: str = "") -> None:
    """Print one line."""
    console().print(escape(text), style=style, soft_wrap=True)


def notes(lines: Sequence[str]) -> None:
    """What was assumed or done on the way."""
    for line in lines:
        say(f"note: {line}", "dim")


def ran_as(receipt: Receipt) -> str:
    """A receipt in few words: `cpu, fp32 x21`."""
    return f"{receipt.device}, {', '.join(f'{name} x{count}' for name, count in receipt.layers.items())}"


def megabytes(size: int) -> str:
    """Bytes for people."""
    return f"{size / 1e6:.1f} MB"


@contextmanager
def progress(unit: str, *, silent: bool = False) -> Iterator[Callable[[str, int, int], None]]:
    """A bar with rate and time left, told by (what, done, all); silent when asked, and where stderr is no terminal.

    `zoo run` shows the bars of the commands that it runs: it names a file in ZOO_PROGRESS that each tells its progress.
    """
    out = console()
    told = os.environ.get(PROGRESS)
    if told and not silent:
        with open(told, "w", encoding="utf-8", buffering=1) as file:  # noqa: PTH123 - append-only, a line at a time
            yield _lines_into(file)
        return
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(unit),
        TimeRemainingColumn(),
        console=out,
        transient=True,
        disable=silent or not out.is_terminal,
    ) as bar:
        tasks: dict[str, TaskID] = {}

        def update(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done, total=total)

        yield update


def _lines_into(file: IO[str]) -> Callable[[str, int, int], None]:
    """Writes a line at most ten times a second, and the last of each kind."""
    last = 0.0

    def update(what: str, done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= 0.1 or done >= total:
            last = now
            file.write(f"{json.dumps([what, done, total])}\n")

    return update


class _Rate(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        """Units per second since the start of the task."""
        speed = task.completed / task.elapsed if task.elapsed else 0
        return Text(f"{speed:,.1f} {self._unit}/s" if speed else "")


def _cell(text: str) -> str:
    word = text.split(":")[0].split(" ")[0]
    return f"[{COLOURS[word]}]{escape(text)}[/]" if word in COLOURS else escape(text)
