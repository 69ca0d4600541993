"""The documented Python API: everything is there, documented, lazy, and works end to end."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zoo


@pytest.mark.parametrize("name", zoo.__all__)
def test_public_names_are_documented(name: str) -> None:
    found = getattr(zoo, name)
    assert inspect.getdoc(found)
    assert name in dir(zoo)


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        zoo.nonsense  # noqa: B018


def test_the_main_job(trained_folder: Path, tmp_path: Path) -> None:
    run = zoo.train(str(trained_folder), "digits", tmp_path / "run", epochs=1)
    assert run.reached.images == 359
    data = zoo.open_data("digits")
    exported = zoo.export(zoo.resolve(str(tmp_path / "run")), ["torchscript"], out=tmp_path / "exports", data=data)
    assert zoo.check([exported[0].folder], data)[0].exit_code == 0
    with zoo.load(exported[0].folder) as runner:
        assert runner.run(np.zeros((2, 3, 32, 32), np.float32)).shape == (2, 10)


@pytest.mark.parametrize("code", ["import zoo", "import zoo.exporter.cli.app", "import zoo.__main__"])
def test_nothing_heavy_is_imported_for_help(code: str) -> None:
    heavy = "torch torchvision onnx onnxruntime tensorrt matplotlib sklearn numpy PIL"
    check = (
        f"{code}; import sys; found = set({heavy.split()!r}) & set(sys.modules); sys.exit(str(found) if found else 0)"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
