"""What a stranger sends ends with 5 and one line, within its time, and leaves nothing behind."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from conftest import zoo
from hostile_packages import GRAPHS, MARK, PROGRAMS, UNREADABLE, samples, with_files, with_model
from zoo.exporter.checks.evidence import write_evidence
from zoo.exporter.checks.run import check
from zoo.exporter.package.pack import pack
from zoo.exporter.report.result import as_result

SECONDS = "4"  # the limit that a package of this size has by itself is tried by benchmarks/hostile.py

FAST = (
    "saves while running", "never ends", "a pickle as its data", "a loop of 2^62 turns", "a constant of a terabyte",
    "multiplies for hours", "graphs in graphs", "code that acts", "an image of 60,000 by 60,000",
)  # fmt: skip


def kinds(names: Iterable[str]) -> list[Any]:
    """Each as a case, most of them slow."""
    return [pytest.param(one, marks=() if one in FAST else pytest.mark.slow) for one in names]


@pytest.fixture(scope="module")
def honest(exported_folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Artifacts with their evidence, and a package of one."""
    place = tmp_path_factory.mktemp("honest")
    found = {name: Path(shutil.copytree(folder, place / name)) for name, folder in exported_folders.items()}
    rows = check(found["onnx"])
    assert write_evidence(as_result(rows, None, 0, "zoo check", 0), rows) == []
    return {**found, "package": pack([found["onnx"]], place / "honest.zoo").path}


def refused(package: Path, *more: str) -> str:
    """Verify it; the line that says why it was refused."""
    done = zoo("verify", package.name, "--time-limit", SECONDS, *more, cwd=package.parent)
    assert done.returncode == 5, done.stdout + done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.isprintable()
    assert not (package.parent / MARK).exists()
    return line


@pytest.mark.parametrize("name", kinds(PROGRAMS))
def test_programs(honest: dict[str, Path], tmp_path: Path, name: str) -> None:
    """Refused where they are only read, too; --allow-code opens those that reading does not tell."""
    more = ("--allow-code",) if name in UNREADABLE else ()
    refused(with_model(honest["torchscript"], PROGRAMS[name](), tmp_path / "hostile.zoo"), *more)


@pytest.mark.parametrize("name", kinds(GRAPHS))
def test_graphs(honest: dict[str, Path], tmp_path: Path, name: str) -> None:
    refused(with_model(honest["onnx"], GRAPHS[name](), tmp_path / "hostile.zoo"))


@pytest.mark.parametrize("name", ["a loop of 2^62 turns", "tensors in /etc"])
def test_graphs_by_another_name(honest: dict[str, Path], tmp_path: Path, name: str) -> None:
    line = refused(with_model(honest["onnx"], GRAPHS[name](), tmp_path / "hostile.zoo", "model.dat"))
    assert "Loop" in line or "other files" in line


@pytest.mark.parametrize("name", kinds(samples()))
def test_other_files(honest: dict[str, Path], tmp_path: Path, name: str) -> None:
    refused(with_files(honest["package"], samples()[name], tmp_path / "hostile.zoo"))


def test_a_program_is_not_even_read_for_long(honest: dict[str, Path], tmp_path: Path) -> None:
    """Without --allow-code a program that only takes time is not opened: nothing is proved, and that is said."""
    made = with_model(honest["torchscript"], PROGRAMS["never ends"](), tmp_path / "hostile.zoo")
    done = zoo("verify", made.name, cwd=tmp_path)
    assert done.returncode == 6, done.stderr
    assert "is a program" in done.stderr + done.stdout
