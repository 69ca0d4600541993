"""Workers get the wheel of the very zoo that is running, whether it is a checkout or installed."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest
from conftest import ENVIRONMENT
from zoo.errors import UnavailableError
from zoo.exporter.pipeline.cache_keys import ROOT
from zoo.exporter.pipeline.cluster import wheel

WHERE = "import json, zoo, importlib.metadata as m; print(zoo.__file__); print(m.version('zoo-export'))"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def listed(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts}  # fmt: skip


def test_a_checkout_is_built_once_and_imports_as_zoo(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert wheel.is_checkout(ROOT)
    before = {path.name for path in ROOT.iterdir()}
    folders = wheel.unpacked()
    assert {path.name for path in ROOT.iterdir()} == before, "no build folder is left in the checkout"
    assert [path.name.partition("-")[0] for path in folders] == ["zoo", "zoo_export"]
    names = listed(folders[0])
    assert {"__init__.py", "exporter/cli/child.py", "exporter/report/template/page.html"} <= names
    assert any(name.startswith("models/recipes/") and name.endswith(".toml") for name in names)
    assert not any(name.startswith(("tests", "docs", ".ci")) for name in names)
    done = subprocess.run([sys.executable, "-S", "-c", WHERE], cwd=tmp_path, capture_output=True, text=True, check=True,
                          env={**ENVIRONMENT, "PYTHONPATH": str(folders[0].parent)})  # fmt: skip
    assert done.stdout.splitlines()[0] == str(folders[0] / "__init__.py")
    monkeypatch.setattr(wheel, "build", lambda *_: pytest.fail("it was built already"))
    assert wheel.unpacked() == folders


def test_what_is_installed_is_put_together_again(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = wheel.unpacked()
    site = tmp_path / "site"
    for path in (built[0].parent).rglob("*"):
        if path.is_file():
            target = site / path.relative_to(built[0].parent)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    info = next(site.glob("*.dist-info"))
    record = info / "RECORD"
    record.write_text(record.read_text() + "../../bin/zoo,,\nzoo/__pycache__/x.pyc,,\n")
    monkeypatch.setattr(wheel, "distribution", lambda _name: PathDistribution(info))
    assert not wheel.is_checkout(site / "zoo")
    again = wheel.unpacked(site / "zoo")
    assert [path.name for path in again] == [path.name for path in built]
    assert listed(again[0]) == listed(built[0])
    assert again[0] != built[0]


def test_another_zoo_than_the_one_that_runs_is_never_sent(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "zoo").mkdir()
    with pytest.raises(UnavailableError, match="no wheel can be made"):
        wheel.unpacked(tmp_path / "zoo")


def test_a_build_that_fails_says_why_and_leaves_nothing(cache: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    text = (ROOT / "pyproject.toml").read_text().replace('version = "0.1.0"', 'version = "no version"')
    (broken / "pyproject.toml").write_text(text)
    with pytest.raises(UnavailableError, match="the workers' wheel cannot be built: .*version"):
        wheel.unpacked(broken)
    assert not list((cache / "wheels").glob("*"))
