"""stdout and stderr that may be closed, full, or read by nobody: what a command did must not hang on who listens."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any


class Stderr:
    """Writes to stderr as long as that can be written to, and then to nowhere."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write the text, or drop it where stderr can no longer be written to; return its length."""
        try:
            return self._stream.write(text)
        except OSError:
            self._give_up()
            return len(text)

    def flush(self) -> None:
        """Flush the stream, unless it can no longer be written to."""
        try:
            self._stream.flush()
        except OSError:
            self._give_up()

    def _give_up(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())  # for libraries and child processes too


def keep_stderr() -> None:
    """Make sys.stderr one that never fails. A closed one is opened to nowhere: its number would be some file's."""
    if sys.stderr is None:
        number = os.open(os.devnull, os.O_WRONLY)
        if number != 2:
            os.dup2(number, 2)
        sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115 - for good
    elif not isinstance(sys.stderr, Stderr):
        sys.stderr = Stderr(sys.stderr)


def reader_left(error: BaseException) -> bool:
    """Whether an exit is how a library says that a pipe's reader went away, as of `zoo --help | head`."""
    return isinstance(error.__context__, BrokenPipeError)
