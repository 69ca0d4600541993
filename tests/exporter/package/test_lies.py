"""Every field of every record of a package, changed, taken away, or exchanged: each is a lie that is seen.

The hashes are made right each time, as a careful liar would. What a liar can still do is to tell one story in every
record at once; only a signature tells that.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from zoo.errors import IntegrityError
from zoo.exporter.checks.evidence import write_evidence
from zoo.exporter.checks.run import check
from zoo.exporter.package.card import judge_card
from zoo.exporter.package.pack import pack
from zoo.exporter.package.writer import write
from zoo.exporter.report.result import as_result
from zoo.exporter.runtime.container import Package
from zoo.exporter.runtime.predictor import refuse_odd
from zoo.exporter.runtime.verify import refuse_lies, verify

RECORDS = ("artifact.json", "answers.json", ".check.json", "preprocess.json", "sbom.cdx.json", "logits.json")
MOST = 25  # lies a record and a kind


@pytest.fixture(scope="module")
def honest(exported_folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("lies")
    folder = Path(shutil.copytree(exported_folders["onnx"], place / "onnx"))
    rows = check(folder)
    assert write_evidence(as_result(rows, None, 0, "zoo check", 0), rows) == []
    return pack([folder], place / "honest.zoo", require_checked=True).path


def leaves(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to each value that holds no others."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        if isinstance(one, dict | list) and one:
            yield from leaves(one, (*way, key))
        else:
            yield (*way, key)


def at(value: Any, way: tuple[Any, ...]) -> Any:
    for key in way:
        value = value[key]
    return value


def other(value: Any) -> Any:
    """Another value of the same kind."""
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, int | float):
        return value + 1
    return f"{value}x" if isinstance(value, str) else [*value, "x"] if isinstance(value, list) else {**value, "x": 1}


def lies(record: Any) -> Iterator[tuple[str, Any]]:
    ways = list(leaves(record))
    step = max(1, len(ways) // MOST)
    for way in ways[::step]:
        made = copy.deepcopy(record)
        at(made, way[:-1])[way[-1]] = other(at(record, way))
        yield f"{'.'.join(map(str, way))} changed", made
        made = copy.deepcopy(record)
        del at(made, way[:-1])[way[-1]]
        yield f"{'.'.join(map(str, way))} taken away", made
    for way, next_one in zip(ways[::step], ways[step::step], strict=False):
        if at(record, way) != at(record, next_one):
            made = copy.deepcopy(record)
            at(made, way[:-1])[way[-1]] = at(record, next_one)
            at(made, next_one[:-1])[next_one[-1]] = at(record, way)
            yield f"{'.'.join(map(str, way))} exchanged", made


def believed(path: Path) -> bool:
    try:
        with Package(path) as package:
            refuse_odd(package.manifest)
            refuse_lies(package)
            return judge_card(package).verdict != "fail"
    except IntegrityError:
        return False


def test_the_honest_one_is_believed(honest: Path) -> None:
    assert believed(honest)
    with Package(honest) as package:
        assert {gate.verdict for gate in verify(package).gates} == {"pass"}


def test_no_lie_is_believed(honest: Path, tmp_path: Path) -> None:
    with Package(honest) as package:
        files = {name: package.read(name) for name in package.names()}
        manifest = {key: value for key, value in package.manifest.items() if key != "files"}
    tried = 0
    through: list[str] = []

    def tell(what: str, changed: dict[str, bytes], said: Any = manifest) -> None:
        nonlocal tried
        tried += 1
        write(tmp_path / "lie.zoo", dict(changed), said)
        if believed(tmp_path / "lie.zoo"):
            through.append(what)

    for what, made in lies(manifest):
        tell(f"manifest.json: {what}", files, made)
    for name in sorted(files):
        if name.endswith(RECORDS):
            for what, made in lies(json.loads(files[name])):
                tell(f"{name}: {what}", {**files, name: json.dumps(made).encode()})
    for name in ("README.md", "labels.txt", "LICENSE"):
        lines = files[name].decode().splitlines(keepends=True)
        for index in range(len(lines)):
            if lines[index].strip():
                rest = "".join([*lines[:index], *lines[index + 1 :]])
                tell(f"{name}: line {index + 1} taken away", {**files, name: rest.encode()})
    removed = [name for name in files if name.startswith(("checks/", "artifacts/", "golden/")) or "/" not in name]
    for name in removed:
        tell(f"{name} taken away", {key: value for key, value in files.items() if key != name})
    assert through == []
    assert tried > 300, "the generator has little to say"
