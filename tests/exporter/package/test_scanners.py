"""Scanners that others wrote, over our packages and over hostile ones: ours are clean, zoo refuses what they flag."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import need, zoo
from hostile_packages import PICKLE, PROGRAMS, with_files, with_model
from zoo.exporter.package.code import carried
from zoo.exporter.package.pack import pack
from zoo.exporter.package.writer import write
from zoo.exporter.runtime.container import Package

BIN = Path(sys.prefix) / "scanners" / "bin"
# True and meant: `profile` starts tegrastats and vcgencmd, where a board has them, and nothing else; a backend's record
# and what opens its file are imported by their names.
FLAGGED = (
    "zoo/exporter/backends/infos.py",
    "zoo/exporter/timing/tegrastats.py",
    "zoo/exporter/timing/telemetry.py",
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module", autouse=True)
def _scanners() -> None:
    need((BIN / "modelscan").exists(), "no scanners: make test-slow installs tests/scanners.txt")


def modelscan(path: Path) -> list[dict[str, Any]]:
    """What modelscan finds in a file."""
    done = subprocess.run([BIN / "modelscan", "-p", path, "-r", "json", "-o", path.with_suffix(".json")],
                          capture_output=True, text=True, check=False, cwd=path.parent)  # fmt: skip
    assert done.returncode in (0, 1, 3), done.stderr  # nothing, something, or nothing that it knows
    return json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["issues"]


def modelaudit(path: Path) -> list[dict[str, Any]]:
    """What modelaudit finds in a file; nothing leaves the machine."""
    environment = {**os.environ, "PROMPTFOO_DISABLE_TELEMETRY": "1", "NO_ANALYTICS": "1"}
    done = subprocess.run([BIN / "modelaudit", "scan", path, "--format", "json", "--quiet", "--no-cache"],
                          capture_output=True, text=True, check=False, cwd=path.parent, env=environment)  # fmt: skip
    return [one for one in json.loads(done.stdout)["issues"] if one["severity"] in ("warning", "critical")]


@pytest.fixture(scope="module")
def ours(exported_folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack([exported_folders["onnx"]], tmp_path_factory.mktemp("ours") / "ours.zoo").path


def test_modelscan_finds_nothing_in_ours(ours: Path, exported_folders: dict[str, Path], tmp_path: Path) -> None:
    assert modelscan(ours) == []
    program = Path(shutil.copy(exported_folders["torchscript"] / "model.pt", tmp_path))
    assert modelscan(program) == []


def test_modelaudit_finds_what_is_true_of_ours(ours: Path) -> None:
    found = modelaudit(ours)
    assert {one["severity"] for one in found} <= {"warning"}
    assert sorted(one["location"].partition(":")[2] for one in found) == sorted(FLAGGED), found


def test_a_program_of_ours_is_flagged_as_any_program_is(exported_folders: dict[str, Path], tmp_path: Path) -> None:
    """modelaudit warns of every TorchScript archive, as zoo does not open one without --allow-code."""
    program = Path(shutil.copy(exported_folders["torchscript"] / "model.pt", tmp_path))
    assert {one["severity"] for one in modelaudit(program)} <= {"warning"}


def hostile(kind: str, ours: Path, folders: dict[str, Path], place: Path) -> Path:
    """A package that scanners ought to flag."""
    if kind == "a pickle":
        return with_files(ours, {"artifacts/onnx-fp32/extra.pkl": PICKLE}, place)
    if kind == "a pickle by another name":
        return with_files(ours, {"artifacts/onnx-fp32/extra.bin": PICKLE}, place)
    if kind == "a module that acts":
        return with_files(ours, {"zoo/errors.py": b"import os\nos.system('touch written-by-a-model')\n"}, place)
    return with_model(folders["torchscript"], PROGRAMS[kind](), place)


def without_our_code(package: Path, place: Path) -> Path:
    """The same without the modules that are zoo's own: modelaudit reads each for a second."""
    own = carried()
    with Package(package) as opened:
        files: dict[str, bytes | Path] = {name: opened.read(name) for name in opened.names()}
        manifest = {key: value for key, value in opened.manifest.items() if key != "files"}
    write(place, {name: content for name, content in files.items() if own.get(name) != content}, manifest)
    return place


KINDS = ("a pickle", "a pickle by another name", "a module that acts", "a pickle as its data",
         "a pickle as its constants", "saves while running", "a pickle of torch.save")  # fmt: skip


def test_zoo_is_at_least_as_strict(ours: Path, exported_folders: dict[str, Path], tmp_path: Path) -> None:
    flagged: dict[str, set[str]] = {"modelscan": set(), "modelaudit": set()}
    for index, kind in enumerate(KINDS):
        folder = tmp_path / str(index)
        folder.mkdir()
        package = hostile(kind, ours, exported_folders, folder / "hostile.zoo")
        assert zoo("verify", package.name, "--allow-code", cwd=folder).returncode == 5, kind
        package = without_our_code(package, folder / "scanned.zoo")
        if modelscan(package):
            flagged["modelscan"].add(kind)
        if any(one["severity"] == "critical" for one in modelaudit(package)):
            flagged["modelaudit"].add(kind)
    assert "a pickle" in flagged["modelscan"] & flagged["modelaudit"], "the scanners see the plainest of them"
    unseen = {"saves while running", "a module that acts"}
    assert not unseen & (flagged["modelscan"] | flagged["modelaudit"]), "docs/security.md says so"
