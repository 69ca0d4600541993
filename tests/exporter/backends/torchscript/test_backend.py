"""The file of a TorchScript export: nothing of the machine in it, the same each time."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import tiny_model, zoo
from zoo.exporter.backends.torchscript.backend import script, without_debug


def test_a_file_tells_nothing_of_the_machine_and_answers_the_same() -> None:
    model = tiny_model("resnet18")
    frozen, content = script(model.module, model.spec)
    names = zipfile.ZipFile(io.BytesIO(content)).namelist()
    assert any(name.endswith(".py") for name in names)
    assert not any(name.endswith(".debug_pkl") for name in names)
    for folder in (Path(torch.__file__).parents[1], Path(__file__).parents[3]):
        assert str(folder).encode() not in content
    batch = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32))
    with torch.inference_mode():
        assert torch.equal(torch.jit.load(io.BytesIO(content))(batch), frozen(batch))


def test_the_version_that_operators_ask_for_is_kept() -> None:
    """torch upgrades operators of files that say an older one."""

    def divided(value: torch.Tensor) -> torch.Tensor:
        return torch.div(value, 2, rounding_mode="floor")

    def spaced(value: torch.Tensor) -> torch.Tensor:
        return value + torch.linspace(0, 1, 2)

    for function, version in ((divided, 4), (spaced, 8)):
        torch.jit.save(torch.jit.script(function), made := io.BytesIO())
        content = without_debug(made.getvalue())
        archives = [zipfile.ZipFile(io.BytesIO(one)) for one in (made.getvalue(), content)]
        assert _records(archives[0]) == _records(archives[1])
        assert _version(archives[0]) == _version(archives[1]) == version
        value = torch.tensor([-3.0, 3.0])
        assert torch.equal(torch.jit.load(io.BytesIO(content))(value), function(value))


def _records(archive: zipfile.ZipFile) -> set[str]:
    return {name.partition("/")[2] for name in archive.namelist() if not name.endswith(".debug_pkl")}


def _version(archive: zipfile.ZipFile) -> int:
    return int(archive.read(next(name for name in archive.namelist() if name.endswith("version"))))


@pytest.mark.slow
def test_two_exports_are_the_same_file(trained_folder: Path, tmp_path: Path) -> None:
    made: list[bytes] = []
    for out in ("one", "two"):
        done = zoo("export", trained_folder, "--to", "torchscript", "--out", out, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        (path,) = (tmp_path / out).rglob("model.pt")
        made.append(path.read_bytes())
    assert made[0] == made[1]
