"""`--set torchscript.engine=onednn`: a file that says which engine it needs, and is run with it by all of zoo."""

from __future__ import annotations

import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import as_json, reseal, tiny_model, zoo
from zoo.errors import IntegrityError, UsageError
from zoo.exporter.artifact.folder import load_artifact, read_manifest
from zoo.exporter.artifact.manifest import Batch
from zoo.exporter.backends.options import ExportOptions
from zoo.exporter.backends.registry import get_backend
from zoo.exporter.export import Exported, export
from zoo.exporter.package.layouts.triton import write_repository
from zoo.exporter.package.pack import pack
from zoo.exporter.quantize.options import Int8Options
from zoo.models.data.dataset import Dataset
from zoo.models.preprocess import prepare
from zoo.models.sources import Model, resolve

pytestmark = pytest.mark.skipif(
    "onednn" not in torch.backends.quantized.supported_engines, reason="this torch has no engine onednn"
)
OPTIONS = ExportOptions("int8", Batch(1, 4, 8), settings={"torchscript": {"engine": "onednn"}})


def exported(model: Model, data: Dataset, out: Path, options: ExportOptions = OPTIONS, **int8: Any) -> Exported:
    asked = Int8Options(**{"images": 100, "never_slower": False, **int8})
    (row,) = export(model, "torchscript", options, out=out, data=data, int8=asked)
    return row


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, trained_folder: Path, few_digits: Dataset) -> Path:
    row = exported(resolve(str(trained_folder)), few_digits, tmp_path_factory.mktemp("engine"))
    assert row.error is None, row.error
    return row.folder


def test_it_says_what_it_needs(made: Path) -> None:
    manifest = read_manifest(made)
    assert manifest.options["engine"] == "onednn"
    (note,) = [one for one in manifest.notes if "onednn" in one]
    assert note.startswith("8 residual additions are computed in convolutions: set torch.backends.quantized.engine")
    assert len(manifest.plan) == 21
    assert manifest.receipt is not None
    assert set(manifest.receipt.ran.values()) == {"int8"}


def test_zoo_runs_it_with_that_engine_and_puts_the_other_back(made: Path) -> None:
    before = torch.backends.quantized.engine
    assert before == "x86"
    artifact = load_artifact(made)
    batch = np.random.default_rng(0).normal(size=(2, *artifact.manifest.spec.input)).astype(np.float32)
    with get_backend("torchscript").load(artifact) as runner:
        got = runner.run(batch)
        runner.prepare(batch)
        assert len(runner.time_steps(2)) == 2
        assert np.array_equal(runner.fetch(), got)
        assert torch.backends.quantized.engine == before
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        with pytest.raises(RuntimeError, match="Didn't find engine"):
            torch.jit.load(artifact.model_path)(torch.from_numpy(batch))
        torch.backends.quantized.engine = "onednn"
        try:
            plain = torch.jit.load(artifact.model_path)(torch.from_numpy(batch)).numpy()
        finally:
            torch.backends.quantized.engine = before
    assert np.array_equal(got, plain)


def test_a_file_that_hides_it_is_an_error_of_one_line(made: Path, tmp_path: Path) -> None:
    import shutil

    folder = Path(shutil.copytree(made, tmp_path / "hidden"))
    for engine in (None, 5, "qnnpack"):
        options = {key: one for key, one in read_manifest(folder).options.items() if key != "engine"}
        reseal(folder, options={**options, **({} if engine is None else {"engine": engine})})
        with pytest.raises(IntegrityError, match=f"8 operators for torch's engine onednn, and .* {engine!r}"):
            get_backend("torchscript").load(load_artifact(folder))
        with pytest.raises(IntegrityError, match="engine"):
            pack([folder], tmp_path / "net.zoo")
    assert not (tmp_path / "net.zoo").exists()


def test_threads_wait_for_each_other(made: Path) -> None:
    before = torch.backends.quantized.engine
    artifact = load_artifact(made)
    batch = np.zeros((1, *artifact.manifest.spec.input), np.float32)

    def many(_index: int) -> int:
        with get_backend("torchscript").load(artifact) as runner:
            return len([runner.run(batch) for _ in range(100)])

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(many, range(4))) == [100] * 4
    assert torch.backends.quantized.engine == before


def test_a_package_runs_it_without_zoo(made: Path, tmp_path: Path) -> None:
    packed = pack([made], tmp_path / "net.zoo")
    done = subprocess.run(
        [sys.executable, "-P", str(packed.path), "verify", "--allow-code"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    with pytest.raises(UsageError, match="needs torch's engine onednn, which Triton does not set"):
        write_repository([made], tmp_path / "models")


def test_a_plan_is_repeated_with_the_engine_that_is_asked_for(
    made: Path, trained_folder: Path, few_digits: Dataset, tmp_path: Path
) -> None:
    model = resolve(str(trained_folder))
    again = exported(model, few_digits, tmp_path / "same", plan=made)
    assert again.error is None, again.error
    assert read_manifest(again.folder).options["engine"] == "onednn"
    backend = get_backend("torchscript")
    batch = prepare(load_artifact(made).golden().images, model.spec.preprocess)
    with backend.load(made) as one, backend.load(again.folder) as other:
        assert np.array_equal(one.run(batch), other.run(batch))
    plain = exported(model, few_digits, tmp_path / "plain", replace(OPTIONS, settings={}), plan=made)
    assert plain.error is None, plain.error
    assert "engine" not in read_manifest(plain.folder).options
    notes = read_manifest(plain.folder).options["int8"]["notes"]
    assert any("a file for torch's engine onednn: left out" in note for note in notes)


def test_a_network_without_additions_needs_no_engine(few_digits: Dataset, tmp_path: Path) -> None:
    row = exported(tiny_model("alexnet"), few_digits, tmp_path)
    assert row.error is None, row.error
    manifest = read_manifest(row.folder)
    assert "engine" not in manifest.options
    assert any(note.startswith("no addition fits in a convolution") for note in manifest.notes)


def test_it_is_of_int8_and_an_engine_that_there_is(trained_folder: Path, tmp_path: Path) -> None:
    command = ["export", str(trained_folder), "--to", "torchscript", "--json"]
    told = as_json(zoo(*command, "--set", "torchscript.engine=onednn", cwd=tmp_path))
    assert "torchscript.engine is of int8, not fp32" in str(told)
    told = as_json(zoo(*command, "--set", "torchscript.engine=abacus", cwd=tmp_path))
    assert "abacus" in str(told)
    assert "onednn" in str(told)
    assert not (tmp_path / "exports").exists()
