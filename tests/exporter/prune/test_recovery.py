"""The recovery: it ends when the gate holds, goes on where it stopped, and a latency that was asked for is kept."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from zoo.calibration.pruning.sparsity import layers_2_4
from zoo.errors import UsageError
from zoo.exporter.prune import run as pruning
from zoo.exporter.prune.accuracy import DropGate
from zoo.exporter.prune.options import PruneOptions
from zoo.exporter.prune.run import Told, prune
from zoo.exporter.prune.sensitivity import as_mapping, save, stage_curves
from zoo.exporter.prune.summary import told_of
from zoo.exporter.timing import layer_table as shapes
from zoo.exporter.timing.layer_table import Shape
from zoo.models.fresh import new_model
from zoo.models.runs import read_metrics, read_run
from zoo.models.sources import SourceOptions, resolve
from zoo.models.training.epoch import Watcher
from zoo.models.training.loop import train
from zoo.models.training.recipe import load_recipe

ALONE = PruneOptions(0.6, timed=False, beside=False)
RECIPE = load_recipe("prune", ["batch_size=30", "precision=fp32", "shift=1"], epochs=3)


def test_it_ends_when_the_gate_holds(trained_folder: Path, few_digits, tmp_path: Path) -> None:
    lines: list[str] = []
    told = Told(training=Watcher(start=lines.append))
    easy = replace(ALONE, max_drop=90.0)
    found = prune(resolve(str(trained_folder)), few_digits, easy, RECIPE, tmp_path / "run", told=told)
    assert len(read_metrics(tmp_path / "run")) == 1, "after the first of three epochs"
    assert any("the accuracy gate holds, the recovery is over" in line for line in lines)
    assert found.gate is not None
    assert found.gate.verdict == "pass"
    assert read_run(tmp_path / "run").pruned["gate"]["verdict"] == "pass"


def test_a_gate_that_does_not_hold_is_said_and_all_epochs_run(trained_folder, few_digits, tmp_path: Path) -> None:
    lines: list[str] = []
    hard = replace(ALONE, macs=0.3, max_drop=0.01)
    found = prune(resolve(str(trained_folder)), few_digits, hard, RECIPE, tmp_path / "run", told=Told(lines.append))
    assert len(read_metrics(tmp_path / "run")) == 3
    assert found.gate is not None
    assert found.gate.verdict in ("fail", "inconclusive")
    assert found.gate.exit_code in (4, 6)
    assert sum("not enough yet" in line for line in lines) == 3


def test_a_module_against_itself_loses_nothing(trained_folder: Path, few_digits) -> None:
    model = resolve(str(trained_folder))
    gate = DropGate(model, few_digits, 5.0, torch.device("cpu"))
    assert gate.judge(model.module).numbers["drop"] == 0


class Stop(Exception):
    pass


@pytest.mark.parametrize(
    "more",
    [
        {"pattern": "2:4", "steps": 2},
        *(pytest.param(more, marks=pytest.mark.slow) for more in ({}, {"spread": "sensitivity"})),
    ],
)
def test_what_was_stopped_goes_on_to_the_same_widths(more, trained_folder: Path, few_digits, tmp_path: Path) -> None:
    def stop(_epoch: int, _epochs: int, step: int, _steps: int) -> None:
        if len(saved) and step == 2:
            raise Stop

    saved: list[object] = []
    options, model, out = replace(ALONE, **more), resolve(str(trained_folder)), tmp_path / "run"
    with pytest.raises(Stop):
        prune(model, few_digits, options, RECIPE, out, told=Told(training=Watcher(step=stop, epoch=saved.append)))
    prune(resolve(str(trained_folder)), few_digits, options, RECIPE, out, resume=True)
    prune(resolve(str(trained_folder)), few_digits, options, RECIPE, tmp_path / "whole")
    assert read_run(out).origin == read_run(tmp_path / "whole").origin
    resumed, whole = (resolve(str(one)).module.state_dict() for one in (out, tmp_path / "whole"))
    assert all(torch.equal(value, whole[name]) for name, value in resumed.items()), "bit for bit"
    if "pattern" in more:
        assert layers_2_4(resolve(str(out)).module)


def test_the_latency_that_was_asked_for_is_what_is_left(
    trained_folder: Path, few_digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine whose layers take a time of their MACs, and networks a tenth more than their layers."""

    def by_volume(wanted: list[Shape], target: str, progress: object = None) -> list[float]:
        return [0.5 + one.inputs * one.outputs / 1000 for one in wanted]

    def macs(module: nn.Module) -> float:
        return float(sum(one.weight.numel() for one in module.modules() if isinstance(one, nn.Conv2d)))

    def timed(before, after: nn.Module, target, shape, progress=None) -> tuple[float, ...]:
        return (1 / (0.1 + 0.9 * macs(after) / macs(before.module)),)

    monkeypatch.setattr(shapes, "time_shapes", by_volume)
    monkeypatch.setattr(pruning, "share_of_time", timed)
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    options = PruneOptions(latency=0.6, beside=False)
    lines: list[str] = []
    found = prune(resolve(str(trained_folder)), few_digits, options, RECIPE, tmp_path / "run", told=Told(lines.append))
    assert found.latency == pytest.approx(0.6, rel=0.1)
    assert sum("of the layers' time" in line for line in lines) >= 1
    assert "0.6" in told_of(found, options)


def test_stages_keep_what_was_asked_for(trained_folder: Path, few_digits, tmp_path: Path) -> None:
    options = PruneOptions(stages={"layer3": 0.5}, timed=False, beside=False, round_to=1)
    found = prune(resolve(str(trained_folder)), few_digits, options, RECIPE, tmp_path / "run")
    for group in found.pruned.groups:
        share = 0.5 if group.root.startswith("layer3") else 1.0
        assert group.kept == pytest.approx(share * group.channels, abs=1), group


def test_stages_are_tried_one_at_a_time_and_drawn(trained_folder: Path, few_digits, tmp_path: Path) -> None:
    model = resolve(str(trained_folder))
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    curves = stage_curves(model, few_digits)
    assert {"layer1", "layer2", "layer3", "layer4"} <= {one.stage for one in curves}
    assert all(0 <= top1 <= 1 for one in curves for top1 in one.accuracy)
    assert all(one.accuracy[0] == curves[0].accuracy[0] for one in curves)
    assert all(torch.equal(value, before[name]) for name, value in model.module.state_dict().items())
    save(curves, model.spec.name, "magnitude", tmp_path / "out")
    data = json.loads((tmp_path / "out" / "pruning.json").read_text())
    assert data == json.loads(json.dumps(as_mapping(curves, model.spec.name, "magnitude")))
    assert (tmp_path / "out" / "pruning.png").stat().st_size > 10_000


def test_a_users_own_factory_is_pruned_and_found_again(few_digits, tiny_spec, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "own_net.py").write_text(
        "from torch import nn\n\n\ndef make(num_classes=10):\n    return nn.Sequential(nn.Conv2d(3, 32, 3, 2), "
        "nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 32, 3, 2), nn.BatchNorm2d(32), nn.ReLU(),\n"
        "        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, num_classes))\n"
    )
    monkeypatch.chdir(tmp_path)
    base = new_model("own_net:make", tiny_spec, SourceOptions())
    train(base, few_digits, replace(RECIPE, epochs=1, distil=0.0), tmp_path / "runs" / "own")
    found = prune(resolve("runs/own"), few_digits, ALONE, RECIPE, tmp_path / "runs" / "narrow")
    assert found.pruned.macs <= 0.6 * found.pruned.macs_before
    again = resolve("runs/narrow")
    assert sum(one.out_channels for one in again.module.modules() if isinstance(one, nn.Conv2d)) < 64
    assert "only zoo's own architectures" not in told_of(found, ALONE)


def test_a_recovery_goes_on_with_its_own_options_only(trained_folder: Path, few_digits, tmp_path: Path) -> None:
    def stop(epoch: int, _epochs: int, _step: int, _steps: int) -> None:
        if epoch == 1:
            raise Stop

    model, out = resolve(str(trained_folder)), tmp_path / "run"
    with pytest.raises(Stop):
        prune(model, few_digits, ALONE, RECIPE, out, told=Told(training=Watcher(step=stop)))
    other = replace(ALONE, macs=0.9, criterion="random")
    with pytest.raises(UsageError, match=r"cannot resume: macs was 0.6, is 0.9; criterion was magnitude"):
        prune(resolve(str(trained_folder)), few_digits, other, RECIPE, out, resume=True)


def test_two_into_one_folder(trained_folder: Path, few_digits, tmp_path: Path) -> None:
    from zoo.atomic import locked

    out = tmp_path / "run"
    out.mkdir()
    with locked(out, "training"), pytest.raises(UsageError, match="another training is writing to it"):
        prune(resolve(str(trained_folder)), few_digits, ALONE, RECIPE, out)
