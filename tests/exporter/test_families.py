"""All families learn digits, go to both formats and pass their numerics gate: the real classes, at a small width."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from zoo.exporter.checks.run import check
from zoo.exporter.export import export
from zoo.models.fresh import new_model
from zoo.models.registry import FAMILIES
from zoo.models.sources import SourceOptions, resolve
from zoo.models.spec import ModelSpec
from zoo.models.training.loop import train
from zoo.models.training.recipe import load_recipe

ONE_OF_EACH = {family.module: next(iter(family.variants)) for family in FAMILIES} | {"vgg": "vgg11_bn"}


QUICK = ("resnet18",)  # of the others each takes half a minute


@pytest.mark.parametrize(
    "name", [pytest.param(one, marks=() if one in QUICK else pytest.mark.slow) for one in ONE_OF_EACH.values()]
)
def test_learns_digits_exports_and_passes(name: str, digits, tmp_path: Path) -> None:
    width = 0.25
    spec = ModelSpec(name, (3, 28, 28), replace(digits.preprocess, crop=(28, 28), resize=28), digits.classes)
    model = new_model(
        name,
        spec,
        SourceOptions(arguments={"stem": "small", "width": width} | ({"dropout": 0.0} if name == "alexnet" else {})),
    )
    # without batch norm the beginning takes longer
    epochs, lr = {"alexnet": (16, 0.03), "googlenet": (3, 0.05), "efficientnet_b0": (3, 0.05)}.get(name, (4, 0.05))
    recipe = load_recipe("tiny", epochs=epochs, lr=lr, shift=0, precision="fp32")
    run = train(model, digits, recipe, tmp_path / "run")
    assert run.reached.accuracy > 0.5, "it learnt"
    rows = export(resolve(str(tmp_path / "run")), ["torchscript", "onnx"], out=tmp_path / "exports", data=digits)
    assert [row.error for row in rows] == [None, None]
    for row in check([row.folder for row in rows], digits):
        verdicts = {gate.name: gate.verdict for gate in row.gates}
        assert verdicts.pop("labels") in ("pass", "skipped"), "some learn too little to tell"
        assert verdicts == dict.fromkeys(("numerics", "accuracy", "consistency", "preprocessing", "precision"), "pass")
