"""What several tests need: tiny models of the real classes, digits, a trained run, its exports."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import pytest
import torch
import warm
from exported_once import remember_exports
from zoo.exporter.artifact.folder import Golden, record
from zoo.exporter.artifact.golden import make_golden
from zoo.models.data.catalog import open_data
from zoo.models.data.dataset import Dataset
from zoo.models.fresh import new_model
from zoo.models.sources import Model, SourceOptions, resolve
from zoo.models.spec import ModelSpec, Preprocess

os.environ["ZOO_CACHE"] = tempfile.mkdtemp(prefix="zoo-tests-")  # the user's own is left alone
IN_CI = os.environ.get("CI") == "true"
ENVIRONMENT = {**os.environ, "PYTHONWARNINGS": "ignore", "COLUMNS": "200"}  # after ZOO_CACHE, which commands inherit
TINY = {"width": 0.25, "stem": "small"}
remember_exports()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(
        key=lambda item: "test_families" not in item.nodeid
    )  # the longest file first: two processes end together
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="no CUDA device on this machine")
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(skip)


def need(condition: bool, reason: str) -> None:
    """Skip with the reason where a part cannot be had; in CI that is a failure."""
    if not condition:
        if IN_CI:
            pytest.fail(f"CI must have this: {reason}")
        pytest.skip(reason)


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return open_data("digits")


@pytest.fixture(scope="session")
def few_digits(digits: Dataset) -> Dataset:
    """300 images to train on, 60 to judge by."""
    train, val = digits.train.take(np.arange(300)), digits.val.take(np.arange(60))
    return Dataset("few-digits", digits.classes, train, val, digits.preprocess, mirror=False)


@pytest.fixture(scope="session")
def tiny_spec(digits: Dataset) -> ModelSpec:
    return ModelSpec("tiny", (3, 32, 32), digits.preprocess, digits.classes)


def tiny_model(name: str = "resnet18", size: int = 32, **arguments: object) -> Model:
    """The real class at a quarter of its width, with random weights and live statistics."""
    mean = (0.48, 0.45, 0.40)
    preprocess = Preprocess(crop=(size, size), resize=size, mean=mean, std=(0.2, 0.22, 0.25))
    spec = ModelSpec(name, (3, size, size), preprocess, tuple("abcdefghij"))
    from zoo.models.weights import random_statistics

    model = new_model(name, spec, SourceOptions(arguments={**TINY, **arguments}, seed=1))
    random_statistics(model.module, spec.input, seed=1)
    return model


@pytest.fixture(scope="session")
def tiny() -> Model:
    return tiny_model()


@pytest.fixture(scope="session")
def golden(tiny: Model) -> Golden:
    return make_golden(tiny, None)


@pytest.fixture(scope="session")
def trained_folder(tmp_path_factory: pytest.TempPathFactory, few_digits: Dataset, tiny_spec: ModelSpec) -> Path:
    """A run of a small resnet18 that learnt digits."""
    from zoo.models.training.loop import train
    from zoo.models.training.recipe import load_recipe

    folder = tmp_path_factory.mktemp("runs") / "tiny"
    model = new_model("resnet18", tiny_spec, SourceOptions(arguments=TINY))
    recipe = load_recipe("tiny", epochs=4, batch_size=20, lr=0.05, shift=0)
    train(model, few_digits, recipe, folder)
    return folder


@pytest.fixture
def trained(trained_folder: Path, tmp_path: Path) -> Path:
    """A copy of the trained run that a test may change."""
    return Path(shutil.copytree(trained_folder, tmp_path / "run"))


@pytest.fixture(scope="session")
def exported_folders(
    tmp_path_factory: pytest.TempPathFactory, trained_folder: Path, few_digits: Dataset
) -> dict[str, Path]:
    """The trained run as torchscript and onnx artifacts."""
    from zoo.exporter.export import export

    out = tmp_path_factory.mktemp("exports")
    rows = export(resolve(str(trained_folder)), ["torchscript", "onnx"], out=out, data=few_digits)
    assert [row.error for row in rows] == [None, None]
    return {row.backend: row.folder for row in rows}


@pytest.fixture
def exported(exported_folders: dict[str, Path], tmp_path: Path) -> dict[str, Path]:
    """Copies of the artifacts that a test may change."""
    return {name: Path(shutil.copytree(folder, tmp_path / name)) for name, folder in exported_folders.items()}


def reseal(folder: Path, **changes: object) -> None:
    """What a forger would do: change the folder and make the hashes fit."""
    data = json.loads((folder / "artifact.json").read_text())
    data |= changes
    data["files"] = {name: vars(record(folder / name)) for name in data["files"]}
    (folder / "artifact.json").write_text(json.dumps(data))


def zoo(*arguments: str, cwd: Path, fresh: bool = False) -> subprocess.CompletedProcess[str]:
    """The command as a user starts it; its imports are done already where it need not be fresh."""
    if not fresh:
        return warm.run(list(map(str, arguments)), cwd, ENVIRONMENT)
    command = [sys.executable, "-m", "zoo", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=ENVIRONMENT, check=False)


def as_json(done: subprocess.CompletedProcess[str]) -> dict:
    """The one JSON object on stdout."""
    assert done.stdout.count("\n") == 1, done.stdout + done.stderr
    payload = json.loads(done.stdout)
    assert payload["exit_code"] == done.returncode
    assert payload["ok"] == (done.returncode == 0)
    return payload


# What a package asks for, and what that needs.
NEEDED = ("numpy", "pillow", "onnxruntime-gpu", "onnxruntime", "protobuf", "flatbuffers", "packaging", "coloredlogs",
          "humanfriendly", "sympy", "mpmath")  # fmt: skip


@pytest.fixture(scope="session")
def clean_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment that has what a package asks for, and nothing else."""
    folder = tmp_path_factory.mktemp("clean")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    site = folder / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    for name in NEEDED:
        try:
            files = distribution(name).files or ()
        except ModuleNotFoundError:
            continue
        for top in {path.parts[0] for path in files if path.parts[0] not in ("..", "__pycache__")}:
            source = Path(str(distribution(name).locate_file(top)))
            if source.exists() and not (site / top).exists():
                (site / top).symlink_to(source)
    for absent in ("torch", "onnx", "msgspec", "zoo"):
        done = subprocess.run([python, "-I", "-c", f"import {absent}"], capture_output=True, check=False)
        assert done.returncode == 1, absent
    return python
