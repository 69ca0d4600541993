"""What can go wrong, and the exit code of each kind.

A message is one line: what happened, with which values, what to do next. The exit codes are a contract
with scripts and CI; the README lists them.
"""

from __future__ import annotations

import errno
import shlex
from collections.abc import Iterable

DONE, BUG, USAGE, UNAVAILABLE, GATE, INTEGRITY, INCONCLUSIVE, INTERRUPTED, TERMINATED = 0, 1, 2, 3, 4, 5, 6, 130, 143

# A command that was given several things does all that can be done and ends with the first of these that applies.
PRECEDENCE = (BUG, USAGE, INTEGRITY, GATE, UNAVAILABLE, INCONCLUSIVE)

FULL = (errno.ENOSPC, errno.EDQUOT)
# What keeps a place from being written to, and is a person's to change.
OF_THE_PLACE = (
    *FULL, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG
)  # fmt: skip


class ZooError(Exception):
    """An error that a user can act on; shown without a traceback.

    Args:
        what: what happened, with the values it happened with.
        fix: what to do next, as an instruction or a command.
    """

    exit_code = BUG
    kind = "error"

    def __init__(self, what: str, *, fix: str = "") -> None:
        between = " " if what.endswith("?") else "; "
        super().__init__(f"{what}{between}{fix}" if fix else what)
        self.what = what
        self.fix = fix

    def as_mapping(self) -> dict[str, str]:
        """As --json shows it."""
        return {"kind": self.kind, "message": self.what, "fix": self.fix}


class UsageError(ZooError):
    """Wrong usage, configuration or input; also a path that is not there."""

    exit_code = USAGE
    kind = "usage"


class UnavailableError(ZooError):
    """This machine lacks what was asked for: a backend, a device, weights or a named data set."""

    exit_code = UNAVAILABLE
    kind = "unavailable"


class GateError(ZooError):
    """Something was judged, and failed."""

    exit_code = GATE
    kind = "gate"


class IntegrityError(ZooError):
    """A hash or a signature does not fit, or a file is corrupt."""

    exit_code = INTEGRITY
    kind = "integrity"


class InconclusiveError(ZooError):
    """Too few samples, or too noisy a machine, to judge what was asked for."""

    exit_code = INCONCLUSIVE
    kind = "inconclusive"


def worst(codes: Iterable[int]) -> int:
    """The exit code of a command that did several things.

    >>> worst([0, 3, 4])
    4
    >>> worst([])
    0
    """
    seen = set(codes)
    return next((code for code in PRECEDENCE if code in seen), max(seen, default=DONE))


def unwritable(error: OSError, place: str = "") -> UsageError:
    """What an error of the operating system means to a person: the disk is full, or the place is not for writing.

    Args:
        error: as Python raised it.
        place: what is named where the error names no file.
    """
    where = str(error.filename or place)
    why = error.strerror or str(error)
    return UsageError(f"{where}: {why}" if where else why, fix=remedy(error))


def remedy(error: OSError) -> str:
    """What a person can do where something could not be written."""
    if error.errno in FULL:
        return "free space"
    return "raise the limit of this shell: ulimit -f" if error.errno == errno.EFBIG else "choose another place"


def printable(text: str, kept: str = "") -> str:
    """Return a text without what a terminal would obey: words of files that others made are shown, too.

    Args:
        text: any.
        kept: characters that stay as they are, such as line ends.
    """
    return "".join(one if one.isprintable() or one in kept else repr(one)[1:-1] for one in text)


def quoted(name: object) -> str:
    """A path or a name as a shell takes it, in a command that a message tells somebody to type."""
    return shlex.quote(str(name))


def one_line(error: BaseException) -> str:
    """The first line of an error that another library raised, for use inside a message of ours."""
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__
