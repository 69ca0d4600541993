"""The names that exports are filed by, before anything is made."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from zoo.exporter.pipeline.called import name_of, names_of
from zoo.exporter.pipeline.command_line import Made, expected
from zoo.exporter.pipeline.config import read_pipeline
from zoo.exporter.pipeline.expand import expand
from zoo.exporter.pipeline.kinds import Calibrate, Prune, Source, Train
from zoo.exporter.pipeline.serialize import planned
from zoo.models.runs import read_run

SPEC = """name = "mine"
input = [3, 8, 8]
labels = ["a", "b"]
[preprocess]
crop = [8, 8]
"""


@pytest.fixture
def folder(tmp_path: Path, trained_folder: Path) -> Path:
    shutil.copytree(trained_folder, tmp_path / "a-run")
    (tmp_path / "spec.toml").write_text(SPEC)
    return tmp_path


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (Source("resnet18", weights="random"), "resnet18"),
        (Source("resnet18"), "resnet18"),
        (Source("resnet18", weights="a-run"), ""),
        (Source("resnet18", weights="random", spec="spec.toml"), "mine"),
        (Source("a-run"), "tiny"),
        (Source("torchvision:resnet18"), "torchvision-resnet18"),
        (Source("timm:resnet10t.c3_in1k"), "timm-resnet10t.c3_in1k"),
        (Source("nets.small:make"), "nets-small-make"),
        (Train("resnet18"), "resnet18"),
        (Train("nets.small:make"), "nets-small-make"),
        (Train("a-run"), "tiny"),
        (Train("resnet18", spec="spec.toml"), "mine"),
        (Train("resnet18", weights="a-run"), ""),
    ],
)
def test_what_a_source_is_called(options: Source | Train, name: str, folder: Path) -> None:
    assert name_of(options, "", None, folder) == name


def test_what_is_made_of_a_model_is_called_after_it(folder: Path) -> None:
    run = Made("out/runs/tiny", "out/runs/tiny")
    assert name_of(Prune(), "tiny", run, folder) == "tiny-pruned"
    assert name_of(Prune(), "tiny-pruned", run, folder) == "tiny-pruned"
    assert name_of(Prune(), "", run, folder) == ""
    assert name_of(Calibrate(), "tiny", run, folder) == "tiny"
    assert name_of(Train(qat="onnx"), "tiny", run, folder) == "tiny"
    assert name_of(Train(), "resnet18", Made("", "resnet18", ("--weights", "a-run")), folder) == ""
    (folder / "runs").mkdir()
    assert name_of(Source("resnet18"), "", None, folder) == "", "it may be the newest run there, under its own name"


def test_a_run_that_is_made_says_what_it_is_called(folder: Path) -> None:
    (folder / "pipeline.toml").write_text(
        '[pipeline]\ndata = "digits"\n[steps.base]\ndo = "train"\nsource = "resnet18"\nweights = "a-run"\n'
        '[steps.out]\ndo = "export"\nfrom = "base"\nto = "onnx"\n'
    )
    nodes = expand(read_pipeline(folder / "pipeline.toml"))
    assert names_of(nodes, expected(nodes, {}, "out"), (), folder) == {}
    there = expected(nodes, {"runs/resnet18": Made("a-run", "a-run")}, "out")
    assert set(names_of(nodes, there, ["runs/resnet18"], folder).values()) == {read_run(folder / "a-run").spec.name}


def test_a_name_that_is_not_known_is_left_open(engine, folder: Path) -> None:
    fresh = engine(
        '[pipeline]\nout = "out"\ndata = "digits"\n[steps.base]\ndo = "train"\nsource = "resnet18"\n'
        'weights = "a-run"\n[steps.out]\ndo = "export"\nfrom = "base"\nto = "onnx"\n'
        '[steps.proof]\ndo = "check"\nfrom = "out"\n'
    )
    fresh.settle_all()
    assert "/MODEL/onnx-fp32" in planned(fresh).commands["checks/resnet18/onnx-fp32"]
