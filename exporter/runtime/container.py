"""The package's file: a plain zip in one canonical form, so that every byte of it is accounted for.

Members are stored, not compressed, one after the other from the first byte; nothing lies between or behind them, no
comment, no extra field, no other date than 1980. A reader makes every header again from names, sizes and checksums and
compares: what another tool added, or an attacker hid, is refused before a member is looked at. Stored members make a
zip bomb impossible: a package is as large as what is in it. Format: PKWARE's APPNOTE 6.3, sections 4.3.7, 4.3.12 and
4.3.16; any unzip reads it, and Python runs it.
"""

from __future__ import annotations

import json
import os
import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from ...errors import IntegrityError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

MANIFEST = "manifest.json"
FORMAT = 1
LARGEST = (1 << 32) - 1  # bytes of a package: beyond it a zip needs another form
MOST_FILES = 4096
LONGEST_NAME = 240
MANIFEST_LARGEST = 16 << 20
BLOCK = 1 << 20
_DATE = (0, 33)  # 1980-01-01, midnight
_NAME = re.compile(r"[A-Za-z0-9_@][A-Za-z0-9_.+@ -]*(/[A-Za-z0-9_@][A-Za-z0-9_.+@ -]*)*")
_LOCAL, _CENTRAL, _END = struct.Struct("<4s5H3L2H"), struct.Struct("<4s6H3L5H2L"), struct.Struct("<4s4H2LH")


@dataclass(frozen=True)
class Member:
    """A file in a package.

    Attributes:
        name: with slashes.
        size: in bytes.
        crc: its CRC-32.
        start: where its content begins.
    """

    name: str
    size: int
    crc: int
    start: int


def refuse_name(name: str) -> None:
    """Raise IntegrityError for a name that could leave a folder, or be two names on another system."""
    parts = name.split("/")
    if (
        not _NAME.fullmatch(name)
        or len(name) > LONGEST_NAME
        or any(part in ("", ".", "..") or part.endswith((".", " ")) for part in parts)
    ):
        raise IntegrityError(f"a package cannot hold a file named {name[:80]!r}", fix="make it with zoo package")


class Package:
    """An opened package whose structure was found canonical and whose manifest lists what is in it.

    Contents are hashed when they are read; `verify_all` reads everything.

    Args:
        path: of the file.
        file: it, where it is open already; closed with the package.

    Raises:
        UsageError: no such file.
        IntegrityError: not a package, or not as zoo writes them.
    """

    def __init__(self, path: str | Path, file: IO[bytes] | None = None) -> None:
        from pathlib import Path  # not before a package is opened: what imports this counts its milliseconds

        self.path = Path(path)
        self._file: IO[bytes] = file if file is not None else _opened(self.path)
        try:
            self.members = {member.name: member for member in read_members(self._file, str(path))}
            self.manifest = self._read_manifest()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Package:
        return self

    def __exit__(self, *_error: object) -> None:
        self._file.close()

    @property
    def file(self) -> IO[bytes]:
        """The open file."""
        return self._file

    def names(self) -> list[str]:
        """All files but the manifest."""
        return [name for name in self.members if name != MANIFEST]

    def read(self, name: str) -> bytes:
        """A file's content, after its hash was found to be the manifest's.

        Raises:
            IntegrityError: no such file in it, or another content than the manifest says.
        """
        member = self.members.get(name)
        if member is None:
            raise IntegrityError(f"{self.path} holds no {name}", fix="make the package again")
        content = b"".join(self._blocks(member))
        self._compare(name, sha256(content).hexdigest())
        return content

    def verify_all(self) -> int:
        """Hash every file; how many there are.

        Raises:
            IntegrityError: naming the first whose content is another.
        """
        for name in self.names():
            digest = sha256()
            for block in self._blocks(self.members[name]):
                digest.update(block)
            self._compare(name, digest.hexdigest())
        return len(self.names())

    def head(self, name: str, count: int) -> bytes:
        """The first bytes of a file, not hashed."""
        self._file.seek(self.members[name].start)
        return self._file.read(min(count, self.members[name].size))

    def _blocks(self, member: Member) -> Iterator[bytes]:
        self._file.seek(member.start)
        left = member.size
        while left:
            block = self._file.read(min(BLOCK, left))
            if not block:
                raise IntegrityError(f"{self.path} ends within {member.name}", fix="copy it again")
            left -= len(block)
            yield block

    def _compare(self, name: str, digest: str) -> None:
        if digest != self.manifest["files"][name]["sha256"]:
            raise IntegrityError(f"{self.path}: {name} was changed", fix="get the package again from who made it")

    def _read_manifest(self) -> dict[str, Any]:
        member = self.members.get(MANIFEST)
        if member is None or member.size > MANIFEST_LARGEST:
            raise IntegrityError(f"{self.path} is no package: it has no {MANIFEST}", fix="make it with zoo package")
        try:
            text = b"".join(self._blocks(member))
            data = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_without_doubles)
            files = data["files"]
            listed = {str(name): (str(one["sha256"]), int(one["bytes"])) for name, one in files.items()}
            version = data["format"]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
            raise IntegrityError(f"{self.path}: its manifest is corrupt ({type(error).__name__})") from error
        if version != FORMAT or type(version) is not int:  # True is 1, too
            raise IntegrityError(
                f"{self.path} has format {str(version)[:40]!r}, this zoo reads {FORMAT}", fix="update zoo"
            )
        wrong = sorted(set(listed) ^ set(self.names()))
        wrong += [name for name in listed if name in self.members and listed[name][1] != self.members[name].size]
        if wrong:
            raise IntegrityError(f"{self.path}: manifest and files differ: {', '.join(wrong[:5])}")
        return data


def _opened(path: Path) -> IO[bytes]:
    if path.exists() and not path.is_file() and not path.is_dir():
        raise UsageError(f"{path} is no regular file", fix="give the file that zoo package wrote")
    try:
        return path.open("rb")
    except IsADirectoryError:
        raise UsageError(f"{path} is a folder", fix="give the file that zoo package wrote") from None
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}", fix="`zoo package` makes one") from None


def read_members(file: IO[bytes], name: str) -> list[Member]:
    """The members of a canonical package, after every header was compared with what zoo would have written.

    Raises:
        IntegrityError: anything else.
    """
    size = file.seek(0, os.SEEK_END)
    if size > LARGEST or size < _END.size:
        raise IntegrityError(f"{name} is no package: {size:,} bytes", fix="give the file that zoo package wrote")
    file.seek(size - _END.size)
    try:
        mark, _, _, _, count, length, start, _ = _END.unpack(file.read(_END.size))
    except struct.error as error:
        raise IntegrityError(f"{name} ends early", fix="copy it again") from error
    if mark != b"PK\5\6" or start + length != size - _END.size or count > MOST_FILES:
        raise IntegrityError(f"{name} is no package, or was cut or added to", fix="get it again")
    file.seek(start)
    directory = file.read(length)
    members = list(_parse(directory, name))
    expected = 0
    seen: set[str] = set()
    for member in members:
        refuse_name(member.name)
        if member.name.lower() in seen:
            raise IntegrityError(f"{name} holds {member.name} twice", fix="make it with zoo package")
        seen.add(member.name.lower())
        header = local_header(member.name, member.size, member.crc)
        file.seek(expected)
        if file.read(len(header)) != header or member.start != expected + len(header):
            raise IntegrityError(f"{name}: the header of {member.name} is not as zoo writes it", fix="get it again")
        expected += len(header) + member.size
    file.seek(size - _END.size)
    if expected != start or directory + file.read(_END.size) != directory_of(members, start):
        raise IntegrityError(f"{name}: its directory is not as zoo writes it", fix="make it with zoo package")
    return members


def sha256(content: bytes = b"") -> Any:
    """A hash object; OpenSSL is loaded by the first one."""
    import hashlib

    return hashlib.sha256(content)


def _parse(directory: bytes, name: str) -> Iterator[Member]:
    place = 0
    while place < len(directory):
        try:
            fields = _CENTRAL.unpack_from(directory, place)
            end = place + _CENTRAL.size + fields[10]
            text = directory[place + _CENTRAL.size : end].decode("ascii")
        except (struct.error, UnicodeDecodeError) as error:
            raise IntegrityError(f"{name}: its directory is not as zoo writes it", fix="get it again") from error
        if fields[0] != b"PK\1\2" or end > len(directory):
            raise IntegrityError(f"{name}: its directory is not as zoo writes it", fix="get it again")
        crc, size, offset = fields[7], fields[9], fields[16]
        yield Member(text, size, crc, offset + _LOCAL.size + len(text))
        place = end


def local_header(name: str, size: int, crc: int) -> bytes:
    """What stands before a member's content."""
    return _LOCAL.pack(b"PK\3\4", 20, 0, 0, *_DATE, crc, size, size, len(name), 0) + name.encode("ascii")


def directory_of(members: Iterable[Member], start: int) -> bytes:
    """The central directory and the end record."""
    mode, entries, count = 0o100644 << 16, b"", 0
    for one in members:
        fields = (0x314, 20, 0, 0, *_DATE, one.crc, one.size, one.size, len(one.name), 0, 0, 0, 0, mode)
        offset = one.start - _LOCAL.size - len(one.name)
        entries += _CENTRAL.pack(b"PK\1\2", *fields, offset) + one.name.encode("ascii")
        count += 1
    return entries + _END.pack(b"PK\5\6", 0, 0, count, count, len(entries), start, 0)


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a key is there twice")
    return dict(pairs)


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no number in JSON")
