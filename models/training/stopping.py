"""Ctrl-C and SIGTERM wait for the end of a step, so that what is saved is whole."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stop_after_step() -> Iterator[Callable[[], bool]]:
    """A block in which the first signal is only noted; the same one again does at once what it always did.

    Another one is no second wish: torchrun sends SIGTERM to the processes that had Ctrl-C from the terminal already.

    The function that is given tells whether a signal came. When the block ends it is sent again, to whoever handled it
    before. Outside of the main thread, where Python gives no signals, it never tells of one.
    """
    came: list[int] = []
    before: dict[int, object] = {}

    def note(number: int, _frame: FrameType | None) -> None:
        again = number in came
        came.append(number)
        if again:
            restore()
            signal.raise_signal(number)

    def restore() -> None:
        while before:
            number, handler = before.popitem()
            signal.signal(number, handler)  # type: ignore[arg-type]

    try:
        for number in SIGNALS:
            before[number] = signal.signal(number, note)
    except ValueError:  # not the main thread
        before.clear()
    try:
        yield lambda: bool(came)
    finally:
        restore()
        if came and len(set(came)) == len(came):
            signal.raise_signal(came[0])
