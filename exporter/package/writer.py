"""Writes a package in the one form that its reader takes; no part of what travels in it."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...errors import UsageError
from ..runtime.container import (
    BLOCK,
    LARGEST,
    MANIFEST,
    MANIFEST_LARGEST,
    MOST_FILES,
    Member,
    directory_of,
    local_header,
    refuse_name,
    sha256,
)


def write(path: Path, files: Mapping[str, bytes | Path], manifest: Mapping[str, Any]) -> None:
    """Write a package: the files in the order of their names, then the manifest with the hash of each.

    Args:
        path: is written as it is; put it in place afterwards.
        files: content, or where it lies.
        manifest: without `files`, which is added.

    Raises:
        UsageError: more or larger files than a package takes.
    """
    hashes: dict[str, dict[str, Any]] = {}
    with path.open("wb") as sink:
        members: list[Member] = []

        def add(name: str, content: bytes | Path) -> None:
            refuse_name(name)
            size, crc, digest = measured(content)
            if sink.tell() + size > LARGEST - MANIFEST_LARGEST or len(members) >= MOST_FILES:
                raise UsageError(
                    f"a package takes {MOST_FILES} files and 4 GiB, and {name} is beyond", fix="give fewer"
                )
            sink.write(local_header(name, size, crc))
            members.append(Member(name, size, crc, sink.tell()))
            for block in blocks(content):
                sink.write(block)
            hashes[name] = {"sha256": digest, "bytes": size}

        for name in sorted(files):
            add(name, files[name])
        content = json.dumps({**manifest, "files": dict(hashes)}, indent=1, sort_keys=True).encode()
        add(MANIFEST, content)
        sink.write(directory_of(members, sink.tell()))
        sink.flush()
        os.fsync(sink.fileno())


def measured(content: bytes | Path) -> tuple[int, int, str]:
    """Size, CRC-32 and SHA-256."""
    size, crc, digest = 0, 0, sha256()
    for block in blocks(content):
        size, crc = size + len(block), zlib.crc32(block, crc)
        digest.update(block)
    return size, crc, digest.hexdigest()


def blocks(content: bytes | Path) -> Iterator[bytes]:
    """A content in parts."""
    if isinstance(content, bytes):
        yield content
        return
    with content.open("rb") as file:
        while block := file.read(BLOCK):
            yield block
