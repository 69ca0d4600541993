"""Where a report may be written: refused before anything is measured, not after it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...errors import UsageError


def page_mark(made_by: str) -> bytes:
    """What tells a page of ours: `zoo check`'s or `zoo profile`'s."""
    return f'<meta name="generator" content="{made_by}">'.encode()


def refuse_place(path: Path, mark: bytes, artifacts: Sequence[Path]) -> None:
    """Raise UsageError where a report cannot be written, or would replace or break something else.

    Args:
        path: where it is to be.
        mark: what an earlier one of its kind holds near its beginning; that may be replaced.
        artifacts: folders that are sealed.
    """
    if path.is_dir():
        raise UsageError(f"{path} is a folder", fix="give a file")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"{path}: no such folder, {path.absolute().parent}", fix="make it first")
    sealed = [one for one in artifacts if one.is_dir() and one.resolve() in path.resolve().parents]
    if sealed:
        raise UsageError(f"{path} is inside of the artifact {sealed[0]}, which is sealed", fix="give another place")
    if path.exists() and not path.is_file():
        raise UsageError(f"{path} is no ordinary file", fix="give a file")
    if path.exists():
        with path.open("rb") as file:
            if mark not in file.read(4096):
                raise UsageError(f"{path} is there and no report of zoo", fix="give another name")
