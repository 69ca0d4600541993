"""The container: what zoo writes is read, and every other byte string is refused without a traceback."""

from __future__ import annotations

import json
import os
import stat
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from zoo.errors import IntegrityError, UsageError
from zoo.exporter.package.writer import write
from zoo.exporter.runtime.container import MANIFEST, Package, refuse_name

FILES: dict[str, bytes | Path] = {"a.txt": b"one", "b/c.bin": bytes(range(256)), "b/empty": b""}


def made(folder: Path, files: dict[str, bytes | Path] | None = None) -> Path:
    path = folder / "p.zoo"
    write(path, FILES if files is None else files, {"format": 1, "name": "p"})
    return path


def read_all(path: Path) -> dict[str, bytes]:
    with Package(path) as package:
        package.verify_all()
        return {name: package.read(name) for name in package.names()}


def test_what_was_written_is_read_by_us_and_by_any_unzip(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"from disk" * 1000)
    files = {**FILES, "d": tmp_path / "file"}
    path = made(tmp_path, files)
    assert read_all(path) == {**FILES, "d": b"from disk" * 1000}
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [*sorted(files), MANIFEST], "the manifest is written last"
        assert all(stat.S_ISREG(one.external_attr >> 16) for one in archive.infolist())
        manifest = json.loads(archive.read(MANIFEST))
    assert set(manifest["files"]) == set(files)


def test_the_same_content_makes_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    assert made(tmp_path / "1").read_bytes() == made(tmp_path / "2").read_bytes()


@given(st.data())
@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_changed_byte_is_refused_wherever_it_is(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(made(tmp_path).read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    changed = tmp_path / "changed.zoo"
    changed.write_bytes(bytes(content))
    try:
        got = read_all(changed)
    except IntegrityError:
        return
    # the manifest hashes the files, and nothing but a signature the manifest: words of it may change
    start = content.rindex(b"PK\3\4")
    assert got == FILES
    assert place > start, "only inside the manifest"


@given(st.binary(max_size=400))
@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_arbitrary_bytes_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "any.zoo"
    path.write_bytes(content)
    with pytest.raises(IntegrityError):
        read_all(path)


@given(st.data())
@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_pieces_cut_out_put_in_or_repeated_are_refused(tmp_path: Path, data: st.DataObject) -> None:
    content = made(tmp_path).read_bytes()
    one, other = sorted(data.draw(st.tuples(st.integers(0, len(content)), st.integers(0, len(content)))))
    kind = data.draw(st.sampled_from(["cut", "insert", "repeat"]))
    between = {"cut": b"", "insert": data.draw(st.binary(min_size=1, max_size=40)) + content[one:other],
               "repeat": content[one:other] * 2}[kind]  # fmt: skip
    changed = content[:one] + between + content[other:]
    path = tmp_path / "changed.zoo"
    path.write_bytes(changed)
    if changed == content:
        return
    with pytest.raises(IntegrityError):
        read_all(path)


@pytest.mark.parametrize(
    "name",
    ["../evil", "/etc/passwd", "a/../b", "a//b", "C:/x", "a\\b", "a/", "", ".", "a/./b", "a\0b", "a\nb", "é", "x" * 300,
     "a/b.", "a /b", "~/x", "-x"],
)  # fmt: skip
def test_names_that_leave_a_folder_are_refused(name: str) -> None:
    with pytest.raises(IntegrityError, match="cannot hold a file named"):
        refuse_name(name)


def by_zipfile(path: Path, members: list[tuple[zipfile.ZipInfo | str, bytes]], compression: int = 0) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_what_other_tools_make_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    manifest = json.dumps({"format": 1, "files": {}}).encode()
    cases: dict[str, bytes] = {}
    for name, members, compression in (
        ("plain", [("a", b"1"), (MANIFEST, manifest)], zipfile.ZIP_STORED),
        ("bomb", [("zeros", bytes(10_000_000)), (MANIFEST, manifest)], zipfile.ZIP_DEFLATED),
        ("link", [(link, b"/etc/passwd"), (MANIFEST, manifest)], zipfile.ZIP_STORED),
        ("twice", [("a", b"1"), ("a", b"2"), (MANIFEST, manifest)], zipfile.ZIP_STORED),
        ("up", [("../a", b"1"), (MANIFEST, manifest)], zipfile.ZIP_STORED),
    ):
        cases[name] = by_zipfile(tmp_path / name, list(members), compression).read_bytes()
    whole = made(tmp_path).read_bytes()
    cases |= {"before": b"#!/bin/sh\n" + whole, "behind": whole + b"more", "half": whole[: len(whole) // 2]}
    for name, content in cases.items():
        path = tmp_path / f"{name}.zoo"
        path.write_bytes(content)
        with pytest.raises(IntegrityError):
            Package(path)


def test_two_names_that_are_one_on_another_system_are_refused(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="twice"):
        Package(made(tmp_path, {"A.txt": b"1", "a.txt": b"2"}))


@pytest.mark.parametrize(
    "manifest",
    [b"", b"[]", b"{}", b'{"format": 1, "files": 3}', b'{"format": 1, "files": {"a.txt": {}}}', b"[" * 100_000,
     b'{"format": NaN, "files": {}}', b'{"format": 2, "files": {}}', b'{"format": 1, "files": {}}',
     b'{"format": 1, "files": {"a.txt": {"sha256": "x", "bytes": 9}}}', b"\xff",
     b'{"format": 1, "files": {"a.txt": {"sha256": "x", "bytes": 1e400}}}',
     b'{"format": 1, "format": 1, "files": {"a.txt": {"sha256": "x", "bytes": 3}}}'],
)  # fmt: skip
def test_a_manifest_that_lies_or_is_none(tmp_path: Path, manifest: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    from zoo.exporter.runtime import container

    monkeypatch.setattr(container.json, "dumps", lambda *_args, **_named: manifest.decode("latin-1"))
    path = tmp_path / "p.zoo"
    write(path, {"a.txt": b"one"}, {})
    with pytest.raises(IntegrityError):
        Package(path)


def test_a_content_that_the_manifest_does_not_have(tmp_path: Path) -> None:
    path = made(tmp_path)
    content = path.read_bytes().replace(b'"sha256": "', b'"sha256": "0', 1)
    changed = tmp_path / "c.zoo"
    changed.write_bytes(content)
    with pytest.raises(IntegrityError):
        read_all(changed)


def test_folders_and_missing_files_are_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder"):
        Package(tmp_path)
    with pytest.raises(UsageError, match="No such file"):
        Package(tmp_path / "none.zoo")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="no regular file"):
        Package(tmp_path / "pipe")
