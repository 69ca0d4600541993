"""What people see: tables, notes and progress on stderr; colours follow NO_COLOR and non-terminals."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import IO

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from ...errors import printable
from ..artifact.manifest import Receipt

PROGRESS = "ZOO_PROGRESS"
# What is counted where that is not what the command counts otherwise, by the beginning of what a bar is called.
UNITS = {
    "calibrating": "images",
    "eager reference": "images",
    "evaluating": "images",
    "exporting": "artifacts",
    "latency of": "rounds",
    "timing": "rounds",
    "timing layers": "layers",
    "pruning stages": "stages",
    "drawing": "pictures",
}
UNBROKEN = 24  # letters of a word up to which a table never breaks it; paths and commands are longer
Update = Callable[[str, int, int], None]
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
    """Print a table; cells that are a verdict are coloured.

    No word or number is broken to make room, but for paths and the like: what is wider than the terminal is printed
    with a line for each cell.
    """
    title, rows = printable(title, "\n\t"), [[printable(text, "\n\t") for text in row] for row in rows]
    cells = [(name, *texts) for name, *texts in zip(columns, *rows, strict=True)]
    words = [[cell_len(word) for text in texts for word in text.split()] for texts in cells]
    least = [min(max(lengths, default=1), UNBROKEN) for lengths in words]
    whole = [max(map(cell_len, texts)) for texts in cells]
    room = console().width - 3 * len(columns) - 1  # what the lines and blanks between the columns leave
    if sum(least) > room:
        _table_of_lines(title, columns, rows)
        return
    made = Table(title=escape(title), title_justify="left", header_style="bold")
    for column, width in zip(columns, _widths(least, whole, room), strict=True):
        made.add_column(column, overflow="fold", width=width)
    for row in rows:
        made.add_row(*(_cell(text) for text in row))
    console().print(made)


def _widths(least: Sequence[int], whole: Sequence[int], room: int) -> list[int]:
    """Return how wide each column is: those that lack little are whole, the others share what is left evenly."""
    lacks = [max(most - few, 0) for few, most in zip(least, whole, strict=True)]
    widths, rest = list(least), room - sum(least)
    order = sorted(range(len(lacks)), key=lambda place: lacks[place])
    for done, place in enumerate(order):
        given = min(lacks[place], rest // (len(order) - done))
        widths[place] += given
        rest -= given
    return widths


def _table_of_lines(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table that is too wide with a line for each cell that holds something, and a rule after each row."""
    made = Table(title=title, title_justify="left", show_header=False)
    made.add_column(style="bold")
    made.add_column(overflow="fold")
    for row in rows:
        for column, text in zip(columns, row, strict=True):
            if text:
                made.add_row(column, _cell(text))
        made.add_section()
    console().print(made)


def say(text: str, style: str = "") -> None:
    """Print one line."""
    console().print(escape(printable(text, "\n\t")), style=style, soft_wrap=True)


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


def duration(seconds: float) -> str:
    """Seconds for people: `28.4 s`, `2 min 47 s`, `1 h 5 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


@contextmanager
def progress(unit: str, first: str = "getting ready", *, silent: bool = False) -> Iterator[Update]:
    """A bar for each thing that is done, moved by (what, done, all); an `all` of 0 says that the length is not known.

    What stands behind a tab in `what` changes as the same thing goes on, and makes no other bar.

    Nothing is shown when asked for silence, and where stderr is no terminal.

    `zoo run` shows the bars of the commands that it runs: it names a file in ZOO_PROGRESS that each tells its progress.

    Args:
        unit: what is counted, in the plural; `UNITS` has what is counted otherwise.
        first: what is done until the first bar comes, which is shown at once.
        silent: show nothing.
    """
    told = os.environ.get(PROGRESS)
    if told and not silent:
        with open(told, "w", encoding="utf-8", buffering=1) as file:  # noqa: PTH123 - append-only, a line at a time
            update = _lines_into(file)
            update(first, 0, 0)
            yield update
        return
    out = console()
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        _Count(),
        _Rate(unit),
        _Remaining(elapsed_when_finished=True),
        console=out,
        transient=True,
        disable=silent or not out.is_terminal,
    ) as bar:
        bars = _Bars(bar)
        bars(first, 0, 0)
        yield bars


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Show what goes on while the block lasts, where nobody knows how long that is."""
    with progress("steps", what):
        yield


class _Bars:
    """Makes and moves the bars of a display."""

    def __init__(self, display: Progress) -> None:
        self._display = display
        self._tasks: dict[str, TaskID] = {}
        self._finished: set[str] = set()
        self._endless = ""  # the one bar without a length, which the next one replaces

    def __call__(self, what: str, done: int, total: int) -> None:
        what, _, detail = what.partition("\t")
        if self._endless not in ("", what):
            self._display.remove_task(self._tasks.pop(self._endless))
            self._endless = ""
        if what not in self._tasks:
            self._tasks[what] = self._display.add_task(what, total=total or None)
        if what in self._finished and done < total:  # the same again, for the next artifact
            self._display.reset(self._tasks[what])
            self._finished.remove(what)
        shown = f"{what}: {detail}" if detail else what
        self._display.update(self._tasks[what], completed=done, total=total or None, description=shown)
        if not total:
            self._endless = what
        elif done >= total:
            self._finished.add(what)


TAB = "\t"


def _lines_into(file: IO[str]) -> Update:
    """Writes a line at most ten times a second, and the last of each kind."""
    last = 0.0

    def update(what: str, done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= 0.1 or done >= total:
            last = now
            file.write(f"{json.dumps([what.replace(TAB, ': '), done, total])}\n")

    return update


def seconds_of(task: Task) -> float:
    """How long a task went on: a finished one no longer counts, so that its rate stays what it was."""
    return (task.finished_time if task.finished_time is not None else task.elapsed) or 0.0


def unit_of(what: str, unit: str) -> str:
    """What a bar counts; the longest beginning in `UNITS` decides."""
    fitting = [beginning for beginning in UNITS if what.startswith(beginning)]
    return UNITS[max(fitting, key=len)] if fitting else unit


class _Count(ProgressColumn):
    def render(self, task: Task) -> Text:
        """Done of all; nothing where the length is not known."""
        return Text(f"{task.completed:,.0f}/{task.total:,.0f}" if task.total else "")


class _Rate(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        """Units per second since the start of the task, up to its end."""
        seconds = seconds_of(task)
        if not task.total or not task.completed or not seconds:
            return Text("")
        return Text(f"{task.completed / seconds:,.1f} {unit_of(task.description, self._unit)}/s")


class _Remaining(TimeRemainingColumn):
    def render(self, task: Task) -> Text:
        """The time that is left, or that a finished task took; nothing where the length is not known."""
        return super().render(task) if task.total else Text("")


def _cell(text: str) -> str:
    word = text.split(":")[0].split(" ")[0]
    return f"[{COLOURS[word]}]{escape(text)}[/]" if word in COLOURS else escape(text)
