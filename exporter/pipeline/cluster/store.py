"""Files that move between machines, by a folder that all see or any URL that fsspec knows (s3://, gs://, file://).

A file lies under the hash of its content, so that nothing is sent twice and a file that arrived broken is seen. It is
written under a temporary name and gets its own in one step: what a lost machine left half-written is never taken up.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from ....errors import IntegrityError, UnavailableError, UsageError, one_line

PIECE = 1 << 20  # bytes read at once
PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "az": "adlfs"}


@dataclass(frozen=True)
class Held:
    """A file in the store.

    Attributes:
        sha256: of its content, which is its name there.
        bytes: its size.
    """

    sha256: str
    bytes: int


Tree = dict[str, Held]  # names, from a folder


class Store:
    """A place that the driver and all workers see.

    Args:
        url: an absolute path, or what fsspec takes.
        owner: part of the temporary names, so that two attempts at one step never write to the same place.

    Raises:
        UnavailableError: fsspec, or what it needs for such a URL, is not installed; or the place cannot be had.
    """

    def __init__(self, url: str, owner: str = "") -> None:
        try:
            from fsspec.core import url_to_fs
        except ModuleNotFoundError as error:
            raise UnavailableError("fsspec is not installed", fix='pip install "zoo-export[ray]"') from error
        self.url, self.owner = url, owner or secrets.token_hex(8)
        scheme = url.partition("://")[0] if "://" in url else "file"
        try:
            self._files, root = url_to_fs(url)
        except ImportError as error:
            fix = f"pip install {PACKAGES.get(scheme, scheme)}"
            raise UnavailableError(f"store {url} cannot be opened: {one_line(error)}", fix=fix) from error
        except ValueError as error:
            raise UsageError(f"store {url}: {one_line(error)}", fix="a folder, or s3://BUCKET/FOLDER") from error
        self._root = root.rstrip("/")
        self._known: dict[tuple[str, int, int], Held] = {}

    def put(self, folder: Path, names: Iterable[str]) -> Tree:
        """Keep files, and all that is in folders; a name that is not there is left out.

        Raises:
            IntegrityError: a file changed meanwhile.
            OSError: it cannot be read, or the store cannot be written.
        """
        found: Tree = {}
        for name in names:
            path = folder / name
            inner = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
            for one in inner:
                if one.is_file():
                    found[one.relative_to(folder).as_posix()] = self._put(one)
        return found

    def get(self, tree: Mapping[str, Held], folder: Path) -> None:
        """Write files into a folder, each only when its hash is right.

        Raises:
            IntegrityError: one is not there, is other than it was, or would lie outside of the folder.
        """
        for name, held in tree.items():
            pure = PurePosixPath(name)
            if pure.is_absolute() or ".." in pure.parts or not pure.parts:
                raise IntegrityError(f"{name!r} is no name in a folder", fix="look at who else writes to the store")
            self._get(held, folder / pure, name)

    def tell(self, name: str, value: Any) -> None:
        """Leave a small note that others can read."""
        self._write_whole(f"{self._root}/notes/{name}.json", json.dumps(value).encode())

    def told(self, name: str) -> Any:
        """A note; None where there is none."""
        try:
            return json.loads(self._files.cat_file(f"{self._root}/notes/{name}.json"))
        except (FileNotFoundError, ValueError):
            return None

    def forget(self, owner: str) -> None:
        """Remove the note and the temporary files of an attempt, which may still be writing more that nobody reads."""
        for place in (f"notes/{owner}.json", f"unnamed/{owner}"):
            with contextlib.suppress(FileNotFoundError, OSError):
                self._files.rm(f"{self._root}/{place}", recursive=True)

    def remove(self) -> None:
        """Remove the whole store."""
        with contextlib.suppress(FileNotFoundError):
            self._files.rm(self._root, recursive=True)

    def _put(self, path: Path) -> Held:
        facts = path.stat()
        mark = str(path), facts.st_size, facts.st_mtime_ns
        held = self._known.get(mark)
        if held is None:
            with path.open("rb") as file:
                held = Held(hashlib.file_digest(file, "sha256").hexdigest(), facts.st_size)
        if self._size(held) != held.bytes:
            temporary = self._temporary()
            with path.open("rb") as source, self._files.open(temporary, "wb") as target:
                sent = _copied(source, target)
            if sent != held.sha256:
                raise IntegrityError(f"{path} changed while it was copied to the store", fix="run again")
            self._name(temporary, self._place(held))
        self._known[mark] = held
        return held

    def _get(self, held: Held, target: Path, name: str) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
        try:
            with self._files.open(self._place(held), "rb") as source, temporary.open("wb") as file:
                came = _copied(source, file)
            if came != held.sha256:
                raise IntegrityError(f"{name} in store {self.url} is not what was put there", fix="remove the store")
            temporary.replace(target)
        except FileNotFoundError as error:
            raise IntegrityError(f"{name} is no longer in store {self.url}", fix="run again") from error
        finally:
            temporary.unlink(missing_ok=True)

    def _write_whole(self, place: str, content: bytes) -> None:
        temporary = self._temporary()
        self._files.pipe_file(temporary, content)
        self._name(temporary, place)

    def _name(self, temporary: str, final: str) -> None:
        """Give a whole file its name: a rename where there are folders, else a copy that appears whole."""
        self._make_parent(final)
        self._files.mv(temporary, final)

    def _temporary(self) -> str:
        place = f"{self._root}/unnamed/{self.owner}/{secrets.token_hex(8)}"
        self._make_parent(place)
        return place

    def _make_parent(self, place: str) -> None:
        self._files.makedirs(place.rpartition("/")[0], exist_ok=True)

    def _size(self, held: Held) -> int:
        try:
            return int(self._files.info(self._place(held))["size"])
        except FileNotFoundError:
            return -1

    def _place(self, held: Held) -> str:
        return f"{self._root}/files/{held.sha256[:2]}/{held.sha256}"


def plain(tree: Mapping[str, Held]) -> dict[str, tuple[str, int]]:
    """As it travels with a task."""
    return {name: (held.sha256, held.bytes) for name, held in tree.items()}


def from_plain(value: Mapping[str, tuple[str, int]]) -> Tree:
    """What `plain` made."""
    return {name: Held(sha256, size) for name, (sha256, size) in value.items()}


def _copied(source: BinaryIO, target: BinaryIO) -> str:
    """Copy all; the hash of what was copied."""
    found = hashlib.sha256()
    while piece := source.read(PIECE):
        found.update(piece)
        target.write(piece)
    return found.hexdigest()
