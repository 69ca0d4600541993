from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from conftest import TINY
from torch import nn
from zoo.errors import UnavailableError, UsageError
from zoo.models.data.dataset import ArraySplit
from zoo.models.fresh import new_model
from zoo.models.registry import create_model
from zoo.models.sources import SourceOptions
from zoo.models.training.diagnosis import batch_statistics, why_drifted
from zoo.models.training.loop import Watcher, train
from zoo.models.training.recipe import Recipe
from zoo.models.training.start import frozen_up_to, limit_torch
from zoo.models.training.step import parameter_groups

RECIPE = Recipe(epochs=1, batch_size=30, lr=0.05, precision="fp32", shift=1, mirror="never")


SAID = {"OMP_NUM_THREADS": "6"}


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(folder / "weights.safetensors")


def first_three(data):
    """The data set with three classes: a head that came with ten does not fit."""

    def some(split: ArraySplit) -> ArraySplit:
        return split.take((split.labels < 3).nonzero()[0])

    return replace(data, classes=data.classes[:3], train=some(data.train), val=some(data.val))


def from_run(folder: Path, spec, classes: tuple[str, ...]):
    return new_model(str(folder), replace(spec, labels=classes), SourceOptions(weights=str(folder)))


def test_frozen_layers_keep_weights_and_statistics(trained_folder: Path, tiny_spec, few_digits, tmp_path: Path) -> None:
    model = from_run(trained_folder, tiny_spec, few_digits.classes)
    run = train(model, few_digits, RECIPE, tmp_path / "run", freeze="layer2")
    assert run.freeze == "layer2"
    before, after = weights_of(trained_folder), weights_of(tmp_path / "run")
    for name in before:
        still = name.startswith(("conv1", "bn1", "layer1", "layer2"))
        assert torch.equal(before[name], after[name]) == still, name


@pytest.mark.parametrize(
    ("freeze", "words"),
    [("layer9", 'no module "layer9", did you mean'), ("fc", "leaves nothing to train"), ("zzz", "the first level has")],
)
def test_freezing_what_is_not_there(freeze: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        frozen_up_to(create_model("resnet18", num_classes=3, width=0.125), freeze)


def test_freezing_takes_a_name_inside_a_stage() -> None:
    module = create_model("mobilenet_v2", num_classes=3, width=0.25)
    frozen_up_to(module, "features.3")
    trained = {name.split(".")[1] for name, p in module.named_parameters() if p.requires_grad and "features" in name}
    assert min(map(int, trained)) == 4


def test_contradictions_are_refused(tiny_spec, few_digits, trained_folder: Path, tmp_path: Path) -> None:
    def fresh():
        return new_model("resnet18", tiny_spec, SourceOptions(arguments={**TINY, "width": 0.125}))

    def old():
        return from_run(trained_folder, tiny_spec, few_digits.classes)

    for model, recipe, freeze, words in (
        (fresh(), RECIPE, "layer1", "drawn at random"),
        (fresh(), replace(RECIPE, old_lr=0.1), "", "no layer came with weights"),
        (old(), replace(RECIPE, old_lr=0.1), "", "every layer came with weights"),
        (old(), replace(RECIPE, zero_init=True), "", "from scratch"),
    ):
        with pytest.raises(UsageError, match=words):
            train(model, few_digits, recipe, tmp_path / "run", freeze=freeze)
        assert not (tmp_path / "run" / "run.json").exists()
        (tmp_path / "run").rmdir()
    plain = new_model("vgg11", tiny_spec, SourceOptions(arguments={**TINY, "width": 0.125}))
    with pytest.raises(UsageError, match="no residual branches"):
        train(plain, few_digits, replace(RECIPE, zero_init=True), tmp_path / "run")


def test_old_layers_learn_at_a_lower_rate(trained_folder: Path, tiny_spec, few_digits, tmp_path: Path) -> None:
    data = first_three(few_digits)
    model = from_run(trained_folder, tiny_spec, data.classes)
    assert model.fresh == {"fc.weight", "fc.bias"}
    assert "fc.bias, fc.weight start fresh" in model.notes[0]
    recipe = replace(RECIPE, old_lr=1e-6, weight_decay=0.0)
    train(model, data, recipe, tmp_path / "run")
    before, after = weights_of(trained_folder), weights_of(tmp_path / "run")
    torch.testing.assert_close(before["layer4.0.conv1.weight"], after["layer4.0.conv1.weight"], rtol=0, atol=1e-5)
    assert len(after["fc.bias"]) == 3
    groups = parameter_groups(model.module, 0.1, {"fc.weight", "fc.bias"}, 0.5)
    assert {(group["scale"], group["weight_decay"]) for group in groups} == {(0.5, 0.1), (0.5, 0), (1, 0.1), (1, 0)}


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0"])
def test_zero_init_makes_residual_branches_nothing(name: str) -> None:
    from zoo.models.blocks import Residual, zero_residuals

    width = {"resnet18": 0.125, "resnet50": 0.125}.get(name, 0.25)
    module = create_model(name, num_classes=4, **({} if name.startswith("eff") else {"width": width})).eval()
    count = zero_residuals(module)
    blocks = [block for block in module.modules() if isinstance(block, Residual) and block.end() is not None]
    assert count == len(blocks) > 2
    for block in blocks:
        channels = next(part for part in block.modules() if isinstance(part, nn.Conv2d)).in_channels
        x = torch.rand(2, channels, 8, 8)
        downsample = getattr(block, "downsample", None)
        expected = x if downsample is None else downsample(x)
        torch.testing.assert_close(block(x), expected.relu() if name.startswith("resnet") else expected)


def test_a_balanced_loss_and_sampling_help_a_rare_class(tiny_spec, few_digits, tmp_path: Path) -> None:
    labels = few_digits.train.labels
    kept = sorted([*(labels == 0).nonzero()[0][:2], *(labels > 0).nonzero()[0]])
    data = replace(few_digits, train=few_digits.train.take(kept))
    for balance in ("none", "loss", "sampling"):
        warned: list[str] = []
        model = new_model("resnet18", tiny_spec, SourceOptions(arguments={**TINY, "width": 0.125}))
        train(model, data, replace(RECIPE, balance=balance), tmp_path / balance, watcher=Watcher(warn=warned.append))
        assert any("1 of 10 classes are rare" in text for text in warned) == (balance == "none")
    runs = [(tmp_path / name / "weights.safetensors").read_bytes() for name in ("none", "loss", "sampling")]
    assert len(set(runs)) == 3


def test_batch_statistics_leave_no_trace() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    inputs = torch.randn(16, 3, 4, 4) * 5 + 3
    with torch.no_grad(), batch_statistics(module) as any_norms:
        assert any_norms
        assert abs(float(module(inputs).mean())) < 1e-4, "each batch is normalised by itself"
    assert all(torch.equal(value, module.state_dict()[name]) for name, value in before.items())
    assert not module[1].training
    with batch_statistics(nn.Linear(2, 2)) as any_norms:
        assert not any_norms


def test_a_drift_has_one_of_two_reasons() -> None:
    assert "running statistics" in why_drifted(0.95, 0.30, 0.90)
    assert "by heart" in why_drifted(0.95, 0.70, 0.72)
    assert "by heart" in why_drifted(0.95, 0.70, None)


def test_broken_statistics_are_noticed_in_a_training(tiny_spec, few_digits, tmp_path: Path) -> None:
    """A planted fault: means that never move."""
    model, warned = new_model("resnet18", tiny_spec, SourceOptions(arguments={**TINY, "width": 0.25})), []

    def stay(*_progress: int) -> None:
        for part in model.module.modules():
            if isinstance(part, nn.BatchNorm2d) and part.running_mean is not None:
                part.running_mean.fill_(5.0)

    watcher = Watcher(step=stay, warn=warned.append)
    train(model, few_digits, replace(RECIPE, epochs=3), tmp_path / "run", watcher=watcher)
    assert any("running statistics of the batch norms do not fit" in text for text in warned)


def test_the_run_folder_has_curves_and_a_confusion_matrix(trained_folder: Path) -> None:
    from PIL import Image

    for name in ("curves.png", "confusion.png"):
        with Image.open(trained_folder / name) as image:
            assert image.width > 400
    lines = [json.loads(line) for line in (trained_folder / "metrics.jsonl").read_text().splitlines()]
    points = [len(line["curve"]) for line in lines]
    assert len(set(points)) == 1
    assert 5 < points[0] < 50, "one point a step where there are few"
    assert sum(lines[0]["curve"]) / points[0] == pytest.approx(lines[0]["loss"], rel=1e-5)
    assert lines[-1]["train_accuracy"] > lines[0]["train_accuracy"]


def test_event_files_hold_what_metrics_do(tiny_spec, few_digits, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    model = new_model("resnet18", tiny_spec, SourceOptions(arguments={**TINY, "width": 0.125}))
    train(model, few_digits, replace(RECIPE, epochs=2), tmp_path / "run", tensorboard=True)
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [event.value for event in events.Scalars("loss/train")] == pytest.approx([line["loss"] for line in lines])
    assert len(events.Scalars("loss/within epochs")) == 20
    train(model, few_digits, replace(RECIPE, epochs=1), tmp_path / "run", overwrite=True)
    assert not (tmp_path / "run" / "tensorboard").exists(), "of the run that was replaced"


def test_a_training_that_fails_leaves_no_event_files(tiny_spec, few_digits, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    for freeze in ("layer1", ""):
        model = new_model("resnet18", tiny_spec, SourceOptions(arguments={**TINY, "width": 0.125}))
        recipe = RECIPE if freeze else replace(RECIPE, lr=1e9, warmup=0.0)
        with pytest.raises(UsageError):
            train(model, few_digits, recipe, tmp_path / "run", freeze=freeze, tensorboard=True)
        assert list((tmp_path / "run").iterdir()) == []
    (tmp_path / "run" / "tensorboard").mkdir()
    model = new_model("resnet18", tiny_spec, SourceOptions(arguments={**TINY, "width": 0.125}))
    train(model, few_digits, RECIPE, tmp_path / "run", overwrite=True)


def test_without_tensorboard_it_is_refused_before_anything_is_trained(
    tiny_spec, few_digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard.writer", None)
    model = new_model("resnet18", tiny_spec, SourceOptions(arguments={**TINY, "width": 0.125}))
    with pytest.raises(UnavailableError, match="tensorboard"):
        train(model, few_digits, RECIPE, tmp_path / "run", tensorboard=True)


def test_torch_computes_on_no_more_threads_than_there_are_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[int] = []
    monkeypatch.setattr("torch.set_num_threads", given.append)
    monkeypatch.setattr("torch.get_num_threads", lambda: 8)
    for usable, processes, environment in ((3, 1, {}), (3, 2, {}), (1, 2, {}), (8, 1, {}), (64, 1, {}), (3, 1, SAID)):
        monkeypatch.setattr("zoo.models.training.start.cpus", lambda usable=usable: usable)
        limit_torch(environment, processes)
    assert given == [3, 1, 1], "never raised, and what a person has set stays"


@pytest.mark.slow
def test_a_compiled_step_learns_what_a_plain_one_does(tiny_spec, few_digits, tmp_path: Path) -> None:
    for name in ("plain", "compiled"):
        model = new_model("resnet18", tiny_spec, SourceOptions(arguments={**TINY, "width": 0.125}))
        # a small rate: what fused kernels round otherwise grows with each step
        train(model, few_digits, replace(RECIPE, compile=name == "compiled", lr=0.002), tmp_path / name)
    plain, compiled = weights_of(tmp_path / "plain"), weights_of(tmp_path / "compiled")
    assert plain.keys() == compiled.keys(), "the names have no prefix"
    for name in plain:
        torch.testing.assert_close(plain[name], compiled[name], rtol=0.02, atol=5e-3)
