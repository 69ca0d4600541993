"""Files and folders that are there whole or not at all, also after a kill -9 or a power cut.

A file or folder is made under a temporary name beside its place, brought to the disk (fsync), and put in its place in
one step; a folder that is already there is exchanged in that same step (renameat2 with RENAME_EXCHANGE) and then
removed under the temporary name. A process that was killed leaves at most a temporary sibling; the next one that
writes to the same place removes it, recognising it by a lock that died with its owner.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import UsageError

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def write_file(path: Path, data: bytes) -> None:
    """Write `data` to `path`: readers see the old content or the new one, never a part.

    Raises:
        OSError: it cannot be written; the path is named.
    """
    path = path.resolve() if path.is_symlink() else path
    remove_stale(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except OSError as error:  # a full disk names nothing by itself
        temporary.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """The block whose OSErrors name this path where they name none: a full disk does not say which file is cut."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def require_writable(folder: Path) -> None:
    """Raise UsageError for a place where no folder can be made: below a file, or where nothing may be written."""
    above = next((path for path in folder.parents if path.exists()), Path.cwd())
    if not above.is_dir():
        raise UsageError(f"{above} is a file, {folder} cannot be made in it", fix="choose another place")
    if not os.access(above, os.W_OK | os.X_OK):
        raise UsageError(f"{above} may not be written to, {folder} cannot be made in it", fix="choose another place")


def claim(folder: Path, files: Collection[str], mark: str, what: str) -> None:
    """Make sure that a folder may be written to: it is not there, or empty, or holds an earlier one of its kind.

    Args:
        folder: where it is to be.
        files: names that it will hold, the one that tells its kind first.
        mark: what that one has in it.
        what: its kind, for the message.

    Raises:
        UsageError: somebody else's files, or a file, are there.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file", fix="give another --out")
    content = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    first = folder / next(iter(files))
    text = first.read_text(encoding="utf-8", errors="replace") if first.is_file() else ""
    if content and not (content <= set(files) and mark in text):
        raise UsageError(f"{folder} is not empty and holds no earlier {what}", fix="give another --out")


def sync(path: Path) -> None:
    """Bring one file, or the entries of one folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """Bring a folder with all that is in it to the disk, the inner ones first."""
    for path in sorted(folder.rglob("*"), reverse=True):
        sync(path)
    sync(folder)


@contextmanager
def staged(final: Path) -> Iterator[Path]:
    """A temporary folder beside `final` that takes its place, in one step, when the block ends without an error.

    Whatever was at `final` stays untouched until then, and stays altogether when the block raises.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    remove_stale(final)
    temporary, lock = _locked_sibling(final)
    try:
        yield temporary
        sync_tree(temporary)
        put_in_place(temporary, final)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)  # what was made and failed, or what was replaced
        os.close(lock)


def set_aside(made: Path, final: Path) -> Path:
    """Keep a folder that was not to take its place as `.<name>.failed` beside it; an earlier one there is removed."""
    place = failed_place(final)
    sync_tree(made)
    put_in_place(made, place)
    return place


def failed_place(final: Path) -> Path:
    """Where what was refused for a place is kept; no pattern of names finds it by chance."""
    return final.with_name(f".{final.name}.failed")


def put_in_place(made: Path, final: Path) -> None:
    """Give the folder `made` the name `final`; an older folder of that name gets the name of `made`."""
    if final.exists():
        exchange(made, final)
    else:
        made.rename(final)
    sync(final.parent)


def exchange(one: Path, other: Path) -> None:
    """Swap two paths of one file system in a single step.

    Raises:
        OSError: the file system cannot (EINVAL) or the platform has no renameat2 (ENOSYS).
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        raise OSError(errno.ENOSYS, "renameat2 is not available, a folder cannot be replaced in one step", str(other))
    if libc.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{os.strerror(code)} while exchanging with {one}", str(other))


@contextmanager
def beside(final: Path) -> Iterator[Path]:
    """Yield the name of a file beside its place, to be written and then put there; it is removed if it still is there.

    What a killed process left of an earlier one is removed first.
    """
    remove_stale(final)
    path = final.with_name(f".{final.name}.{secrets.token_hex(4)}.tmp")
    with path.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)


def remove_stale(final: Path) -> list[Path]:
    """Remove temporary siblings of `final` whose owner is dead; returns what was removed."""
    removed: list[Path] = []
    ours = re.compile(rf"\.{re.escape(final.name)}\.[0-9a-f]{{8}}\.tmp")
    for candidate in final.parent.iterdir() if final.parent.is_dir() else ():
        if not ours.fullmatch(candidate.name) or candidate.is_symlink():
            continue
        lock = _try_lock(candidate)
        if lock is not None:
            if candidate.is_dir():
                shutil.rmtree(candidate, ignore_errors=True)
            else:
                candidate.unlink(missing_ok=True)
            os.close(lock)
            removed.append(candidate)
    return removed


@contextmanager
def locked(folder: Path, what: str, instead: str = "another --out") -> Iterator[None]:
    """The block in which no other process of zoo writes to a folder that is there; the lock ends with the process.

    Args:
        folder: that is written to.
        what: for the message.
        instead: what else can be given.

    Raises:
        UsageError: another process is writing to it.
    """
    handle = _try_lock(folder)
    if handle is None:
        raise UsageError(f"{folder}: another {what} is writing to it", fix=f"wait for it, or give {instead}")
    try:
        yield
    finally:
        os.close(handle)


def _locked_sibling(final: Path) -> tuple[Path, int]:
    while True:
        path = final.with_name(f".{final.name}.{secrets.token_hex(4)}.tmp")
        path.mkdir()
        lock = _try_lock(path)
        if lock is not None and path.exists():  # another process may have taken it for stale before it was locked
            return path, lock
        if lock is not None:
            os.close(lock)


def _try_lock(path: Path) -> int | None:
    """An open descriptor that holds the lock of a file or folder, or None when a living process has it."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle
