"""What a step left on the disk, by the hash of each file: seen to be the same by a cheap look, or by reading all of it.

A look compares size and times of each file with those that were remembered. The time of a change (ctime) is among them:
who gives a file its old mtime back still changes that. Where anything differs, the hash decides.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..artifact.folder import ARTIFACT
from .cache_keys import digest_of, hash_of

RUN, WEIGHTS = "run.json", "weights.safetensors"
RUN_FACTS = ("origin", "spec", "weights", "reached", "learned")  # of run.json, what an export of the run depends on
YOUNG = 100_000_000  # nanoseconds: within the tick of a file system's clock a second change keeps the first one's time
NEVER = -1  # a time that no file has


@dataclass(frozen=True)
class Mark:
    """A file as it was when it was hashed.

    Attributes:
        size: in bytes.
        mtime_ns: of its content; NEVER where it had just been written, so that the next look reads it.
        ctime_ns: of its content, name or rights.
        sha256: of its content.
    """

    size: int
    mtime_ns: int
    ctime_ns: int
    sha256: str


Marks = dict[str, Mark]


@dataclass(frozen=True)
class Left:
    """What lies at a place, all of it read.

    Attributes:
        digest: what it is, which is part of the keys of what is made of it.
        marks: its files, by their names in it.
    """

    digest: str
    marks: Marks


def take(path: Path) -> Left:
    """Read a file or a folder that a step left.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not there, or not whole; the message says of what.
    """
    marks = {name: _mark(file) for name, file in _files(path).items()}
    if not marks:
        raise ValueError(f"{path.name} is {'empty' if path.is_dir() else 'gone'}")
    return Left(_digest(path, marks), marks)


def untouched(path: Path, marks: Mapping[str, Mark]) -> bool:
    """Whether all files have the size and the times that are remembered; nothing is read."""
    try:
        facts = {name: file.stat() for name, file in _files(path).items()}
    except OSError:
        return False
    return bool(marks) and facts.keys() == marks.keys() and all(
        (one.st_size, one.st_mtime_ns, one.st_ctime_ns) == (mark.size, mark.mtime_ns, mark.ctime_ns)
        for name, mark in marks.items() if (one := facts[name])
    )  # fmt: skip


def difference(before: Mapping[str, Mark], now: Mapping[str, Mark]) -> str:
    """Which files are other than they were, in words; "" for none."""
    gone = [name for name in before if name not in now]
    changed = [name for name, mark in now.items() if name in before and before[name].sha256 != mark.sha256]
    added = [name for name in now if name not in before]
    for names, what in ((gone, "is gone"), (changed, "was changed"), (added, "is new")):
        if names:
            return f"{names[0]} {what}{f', and {len(names) - 1} more' if len(names) > 1 else ''}"
    return ""


def _files(path: Path) -> dict[str, Path]:
    """The files of which something is made: of a run weights and facts, of anything else all."""
    if not path.is_dir():
        return {path.name: path} if path.is_file() else {}
    if (path / RUN).is_file() and not (path / ARTIFACT).is_file():
        return {name: path / name for name in (RUN, WEIGHTS) if (path / name).is_file()}
    found: dict[str, Path] = {}
    waiting = [path]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(Path(entry.path))
                elif entry.is_file():  # a pipe would be read for ever
                    found[Path(entry.path).relative_to(path).as_posix()] = Path(entry.path)
    return dict(sorted(found.items()))


def _mark(file: Path) -> Mark:
    facts = file.stat()
    sha256 = hash_of(file)
    young = time.time_ns() - facts.st_ctime_ns < YOUNG
    return Mark(facts.st_size, NEVER if young else facts.st_mtime_ns, facts.st_ctime_ns, sha256)


def _digest(path: Path, marks: Mapping[str, Mark]) -> str:
    """Of a run or an artifact what identifies it, of anything else the hashes of all its files."""
    if not path.is_dir():
        return marks[path.name].sha256
    if ARTIFACT in marks:
        listed: Mapping[str, Any] = _read(path / ARTIFACT).get("files", {})
        found = {name: {"sha256": mark.sha256, "bytes": mark.size} for name, mark in marks.items() if name != ARTIFACT}
        for name in sorted({*listed, *found}):
            if found.get(name) != listed.get(name):
                what = "is gone" if name not in found else "was changed" if name in listed else "is new"
                raise ValueError(f"{name} {what}, as {ARTIFACT} says")
        return marks[ARTIFACT].sha256
    if RUN in marks:
        if WEIGHTS not in marks:
            raise ValueError(f"{WEIGHTS} is gone")
        facts = _read(path / RUN)  # without its times: the same again is the same
        return digest_of([marks[WEIGHTS].sha256, {name: facts.get(name) for name in RUN_FACTS}])
    return digest_of({name: mark.sha256 for name, mark in marks.items()})


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict) and isinstance(found.get("files", {}), dict):
            return found
    except (ValueError, RecursionError):
        pass
    raise ValueError(f"{path.name} cannot be read")
