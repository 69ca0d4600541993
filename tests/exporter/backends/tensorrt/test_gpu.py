"""On a machine with a GPU and TensorRT: every family in every precision, judged; tests/gpu/run.sh runs these."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import tiny_model
from zoo.exporter.artifact.folder import load_artifact
from zoo.exporter.artifact.manifest import Batch
from zoo.exporter.backends.options import Available, ExportOptions
from zoo.exporter.backends.registry import get_backend
from zoo.exporter.checks.run import check
from zoo.exporter.export import build, export
from zoo.models.registry import FAMILIES

pytestmark = pytest.mark.gpu
SIZES = Batch(1, 4, 8)


@pytest.fixture(autouse=True)
def needs_tensorrt() -> None:
    found = get_backend("trt").available()
    if not isinstance(found, Available):
        pytest.skip(f"{found.reason}; {found.remedy}")


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("name", [next(iter(family.variants)) for family in FAMILIES])
def test_exports_runs_and_proves(name: str, precision: str, tmp_path: Path) -> None:
    (row,) = export(tiny_model(name), "trt", ExportOptions(precision, SIZES), out=tmp_path, device="cuda")
    assert row.error is None, row.error
    receipt = load_artifact(row.folder).manifest.receipt
    assert receipt is not None
    (checked,) = check(row.folder, device="cuda")
    assert {gate.name: gate.verdict for gate in checked.gates} == {
        "numerics": "pass", "accuracy": "skipped", "precision": "pass",
    }, receipt  # fmt: skip


def test_build_later_then_build_then_time(tmp_path: Path) -> None:
    (row,) = export(tiny_model(), "trt", ExportOptions("fp16", SIZES, build_later=True), out=tmp_path)
    assert row.error is None
    first = build(row.folder)
    assert first.golden is not None
    assert first.golden.verdict == "pass"
    again = build(row.folder, rebuild=True)
    assert again.artifact is not None
    with get_backend("trt").load(row.folder, "cuda") as runner:
        batch = np.random.default_rng(0).normal(size=(8, 3, 32, 32)).astype(np.float32)
        whole, parts = runner.run(batch), np.concatenate([runner.run(batch[index : index + 1]) for index in range(8)])
        assert np.abs(whole - parts).max() < 0.02 * np.ptp(whole)
        timed = runner.time(batch, runs=50)
        assert timed.graph, runner.notes
        assert 0 < np.median(timed.gpu) < np.median(timed.total)
