"""The shell around code that is not zoo's: what a user's factory, forward or transform raises becomes one line.

The line names the exception and the place in their code, since zoo shows no traceback.
"""

from __future__ import annotations

import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import UsageError, ZooError

OURS = __name__.partition(".")[0]
STANDARD = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib")})
INSTALLED = ("site-packages", "dist-packages")
LONGEST = 300  # characters of another library's message


@contextmanager
def users_code(doing: str, *, fix: str = "") -> Iterator[None]:
    """Run the block; whatever it raises becomes a UsageError that says what was done and where it failed.

    An error of zoo passes as it is, and so does Ctrl-C. SystemExit and its like do not: a factory must not end zoo.

    Args:
        doing: what failed, with its name: "user_net:make failed".
        fix: what to do next.
    """
    try:
        yield
    except (ZooError, KeyboardInterrupt):
        raise
    except BaseException as error:  # the user's code may raise anything
        raise UsageError(f"{doing}: {described(error)}", fix=fix) from error


def described(error: BaseException) -> str:
    """Return an exception in one line: its type, its message, and the file and line that it came from.

    The place is the innermost line of the user's own code. Where there is none, it is that of an installed package
    which is neither torch nor Python's own, and else the innermost line of all.
    """
    lines = str(error).strip().splitlines()
    message = " ".join(line.strip() for line in (lines[:2] if lines and lines[0].endswith(":") else lines[:1]))
    if len(message) > LONGEST:
        message = f"{message[:LONGEST]}…"
    place = place_of(error)
    return f"{type(error).__name__}{f': {message}' if message else ''}{f' ({place})' if place else ''}"


def place_of(error: BaseException) -> str:
    """Return "FILE, line N" for the line of the user's code that an exception came from; "" where there is none."""
    if isinstance(error, SyntaxError) and error.filename and error.lineno:  # its file never ran: no frame is of it
        return f"{shown(Path(error.filename))}, line {error.lineno}"
    frames = [
        (str(frame.f_globals.get("__name__", "")), Path(frame.f_code.co_filename), number)
        for frame, number in traceback.walk_tb(error.__traceback__)
    ]
    frames = [entry for entry in frames if not str(entry[1]).startswith("<")]  # importlib's, and generated code
    strangers = [entry for entry in frames if entry[0].partition(".")[0] not in (OURS, "torch")]
    own = [entry for entry in strangers if not _is_library(entry[1])]
    installed = [entry for entry in strangers if any(part in INSTALLED for part in entry[1].parts)]
    chosen = own or installed or [entry for entry in frames if entry[0].partition(".")[0] != OURS]
    if not chosen:
        return ""
    _, file, line = chosen[-1]
    return f"{shown(file)}, line {line}"


def shown(path: Path) -> str:
    """Return a path as a person in the current folder would type it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)


def _is_library(path: Path) -> bool:
    return any(part in INSTALLED for part in path.parts) or str(path).startswith(STANDARD)
