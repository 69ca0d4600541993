"""What a pipeline's folder remembers: a record for each node that is done, written last and in one step."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ... import atomic
from ...config import from_mapping, to_json
from ...errors import DONE, UsageError
from ..artifact.folder import ARTIFACT
from .left import Mark, difference, take, untouched

STATE, MARK = ".zoo", "pipeline.json"
FORMAT = 1
REPORTS = ("report.html", "report.json")
BESIDE = (".check.json", ".intoto.json")


@dataclass(frozen=True)
class Record:
    """A node that is done.

    Attributes:
        key: of what it was made of.
        digest: of what it left, which is part of the keys of what is made of it.
        path: of that, from the pipeline file's folder; "" where nothing is written.
        exit_code: 0, or 4 where gates failed and that is the result.
        seconds: that it took.
        command: as a person types it.
        ended: UTC.
        host: where it ran.
        log: of the command.
        facts: what --json printed of it.
        files: of what it left, by name; none where it is of a zoo that kept no hashes, or where nothing is written.
        parts: digests of what the key is made of, by name, to say what of it was changed.
    """

    key: str
    digest: str
    path: str
    exit_code: int = DONE
    seconds: float = 0.0
    command: str = ""
    ended: str = ""
    host: str = ""
    log: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    files: dict[str, Mark] = field(default_factory=dict)
    parts: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Look:
    """What a look at a step's result found.

    Attributes:
        record: of it, with the times that its files have now.
        changed: what is other than it was, in words; "" where it is whole.
    """

    record: Record
    changed: str = ""


class State:
    """The records of one pipeline.

    Args:
        folder: of the pipeline file, where commands run.
        out: below it, where everything is written.
        file: the pipeline file's name.
    """

    def __init__(self, folder: Path, out: str, file: str = "pipeline.toml") -> None:
        self.folder, self.out, self.file = folder, folder / out, file
        self.place = self.out / STATE

    @contextmanager
    def locked(self) -> Iterator[None]:
        """The block in which no other run is in this folder.

        Raises:
            UsageError: another run is in it, or it holds something else.
        """
        self.claim()
        with atomic.locked(self.place, "zoo run", "another out in [pipeline]"):
            yield

    def claim(self) -> None:
        """Make the folder, and write whose it is; raises UsageError as `refuse`."""
        self.refuse()
        self.place.mkdir(parents=True, exist_ok=True)
        if self._owner() != self.file:
            atomic.write_file(self.place / MARK, to_json({"format": FORMAT, "file": self.file}).encode())

    def refuse(self) -> None:
        """Raise UsageError where the folder cannot be, holds what no pipeline wrote, or is another file's."""
        fix = "give another out in [pipeline]"
        try:
            self.out.lstat()  # raises where nothing is there; of a link in a circle it does not
            if not self.out.is_dir():
                raise UsageError(f"{self.out} is no folder", fix=fix)
            if any(self.out.iterdir()) and not (self.place / MARK).is_file():
                raise UsageError(f"{self.out} is not empty and holds no pipeline", fix=fix)
        except FileNotFoundError:
            return
        except OSError as error:
            raise UsageError(f"{self.out} cannot be used: {error.strerror}", fix=fix) from error
        owner = self._owner()
        if owner not in ("", self.file) and (self.folder / owner).is_file():  # else it was renamed
            raise UsageError(f"{self.out} holds what {owner} wrote, not {self.file}", fix=fix)

    def _owner(self) -> str:
        """The name of the file whose folder this is; "" where none is known."""
        try:
            return str(json.loads((self.place / MARK).read_text(encoding="utf-8")).get("file", ""))
        except (OSError, ValueError, AttributeError):
            return ""

    def read(self, node: str) -> Record | None:
        """The record of a node; None where there is none, or none that can be read."""
        try:
            if not self._record(node).is_file():  # a device would be read for ever
                return None
            return from_mapping(Record, json.loads(self._record(node).read_text(encoding="utf-8")), node)
        except (OSError, ValueError, UsageError, RecursionError):
            return None

    def write(self, node: str, record: Record) -> None:
        """Remember a node, after what it left is on the disk."""
        place = self._record(node)
        place.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_file(place, to_json(record).encode())

    def look(self, record: Record, *, read: bool = False) -> Look:
        """Whether what a record speaks of is still there as it was: by size and times, and where these differ by hash.

        Args:
            record: of the step.
            read: go by the hash in any case.
        """
        path = self.folder / record.path
        if not record.path or (not read and untouched(path, record.files)):
            return Look(record)
        try:
            now = take(path)
        except (OSError, ValueError) as error:
            return Look(record, _said(error, path))
        if now.digest == record.digest:
            return Look(replace(record, files=now.marks))
        if not record.files and path.is_dir():  # of a folder that seals nothing, an older zoo kept only the sizes
            return Look(record, "it was changed, or its record is of an older zoo, which kept no hashes")
        return Look(record, difference(record.files, now.marks) if record.files else f"{path.name} was changed")

    def begin(self, node: str, key: str) -> None:
        """Remember that a node with this key has begun."""
        place = self._begun(node)
        place.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_file(place, to_json({"key": key}).encode())

    def begun(self, node: str) -> str:
        """The key with which a node was begun last; "" for never."""
        try:
            return str(json.loads(self._begun(node).read_text(encoding="utf-8"))["key"])
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    def taken_up(self, node: str, key: str) -> tuple[str, bool]:
        """How a run that is there already is taken up: --resume, --overwrite, or, where it is finished, as it is."""
        place = self.out / node
        if not place.is_dir():
            return "", False
        begun, record = self.begun(node), self.read(node)
        known = record is not None and record.key == key  # then it was changed since
        stopped = any(place.glob("checkpoint*"))
        if begun == key and not known and (place / "run.json").is_file() and not stopped:
            return "", True
        if begun == "" and record is None:
            return "", False  # not ours: the command refuses it
        return ("--resume" if begun == key and stopped else "--overwrite"), False

    def plan(self, key: str) -> Path:
        """Where the choices of an int8 export are kept."""
        return self.place / "plans" / f"{key[:32]}.json"

    def keep_plan(self, key: str, artifact: Path) -> None:
        """Keep the choices of an artifact."""
        place = self.plan(key)
        place.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_file(place, (artifact / ARTIFACT).read_bytes())

    def log(self, node: str) -> Path:
        """Where a node's log goes."""
        return self.out / "logs" / f"{node}.log"

    def clean(self) -> list[Path]:
        """Remove what the pipeline wrote, and no other file; the others, which stay, are returned."""
        steps, begun = self.place / "steps", self.place / "begun"
        records = [self.read(str(one.relative_to(steps).with_suffix(""))) for one in steps.rglob("*.json")]
        made = [self.folder / record.path for record in records if record is not None and record.path]
        made += [self.out / one.relative_to(begun).with_suffix("") for one in begun.rglob("*.json")]
        made += [one.with_name(f"{one.name}{end}") for one in made for end in BESIDE]  # of inconclusive checks, too
        inside = self.out.resolve()
        made = [one for one in made if inside in one.resolve().parents]  # whatever a record that somebody wrote says
        for path in [*made, self.out / "logs", *(self.out / name for name in REPORTS), self.place]:
            atomic.remove_stale(path)
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        for folder in sorted((one for one in self.out.rglob("*") if one.is_dir()), reverse=True):
            with contextlib.suppress(OSError):  # somebody's file is in it
                folder.rmdir()
        left = sorted(one for one in self.out.rglob("*") if one.is_file())
        if not left:
            shutil.rmtree(self.out, ignore_errors=True)
        return left

    def _record(self, node: str) -> Path:
        return self.place / "steps" / f"{node}.json"

    def _begun(self, node: str) -> Path:
        return self.place / "begun" / f"{node}.json"


def _said(error: OSError | ValueError, path: Path) -> str:
    return f"{error.filename or path.name} cannot be read" if isinstance(error, OSError) else str(error)
