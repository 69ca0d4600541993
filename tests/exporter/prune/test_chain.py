"""Pruned, then quantised, then exported, on Fashion-MNIST: every step's claim holds beside what it came from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, need
from zoo.exporter.backends.options import ExportOptions
from zoo.exporter.checks.run import check
from zoo.exporter.export import export
from zoo.exporter.prune.options import PruneOptions
from zoo.exporter.prune.run import prune
from zoo.exporter.quantize.options import Int8Options
from zoo.models.data import catalog
from zoo.models.data.catalog import open_data
from zoo.models.fresh import new_model
from zoo.models.sources import SourceOptions, resolve
from zoo.models.spec import ModelSpec
from zoo.models.training.loop import train
from zoo.models.training.recipe import load_recipe


@pytest.mark.slow
def test_pruned_then_quantised_then_exported_on_fashion_mnist(tmp_path: Path) -> None:
    need(catalog.DEBIAN.is_dir(), "apt install dataset-fashion-mnist")
    whole = open_data("fashion-mnist")
    data = replace(whole, train=whole.train.take(np.arange(3000)), val=whole.val.take(np.arange(1000)))
    spec = ModelSpec("resnet18", (3, 32, 32), whole.preprocess, whole.classes)
    model = new_model("resnet18", spec, SourceOptions(arguments=TINY))
    run = train(model, data, load_recipe("tiny", ["precision=fp32"], epochs=3), tmp_path / "whole")
    assert run.reached.accuracy > 0.65
    found = prune(
        resolve(str(tmp_path / "whole")), data, PruneOptions(0.5, timed=False, beside=False),
        load_recipe("prune", ["precision=fp32"], epochs=1), tmp_path / "half",
    )  # fmt: skip
    assert found.run.reached.accuracy > found.before - 0.1
    rows = export(
        resolve(str(tmp_path / "half")), ["torchscript", "onnx"], ExportOptions("int8"), out=tmp_path, data=data,
        int8=Int8Options(images=256, never_slower=False),
    )  # fmt: skip
    assert [row.error for row in rows] == [None, None]
    for row in check([row.folder for row in rows], data):
        verdicts = {gate.name: gate.verdict for gate in row.gates}
        assert verdicts["numerics"] == verdicts["precision"] == verdicts["consistency"] == "pass", row
        assert verdicts["accuracy"] in ("pass", "inconclusive"), row
