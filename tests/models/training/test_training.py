from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from conftest import TINY
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from zoo.errors import IntegrityError, UnavailableError, UsageError, ZooError
from zoo.models.runs import CHECKPOINT, read_run
from zoo.models.sources import SourceOptions, new_model
from zoo.models.training import augment
from zoo.models.training.feed import ResidentFeed, StreamFeed, random_resized_crop
from zoo.models.training.loop import Watcher, train
from zoo.models.training.recipe import Recipe, default_recipe, load_recipe, recipe_names
from zoo.models.training.schedules import cosine
from zoo.models.training.step import Hardware, choose_arithmetic, parameter_groups, settle_norms, train_step


def fresh(tiny_spec, name: str = "resnet18"):
    return new_model(name, tiny_spec, SourceOptions(arguments={**TINY, "width": 0.125}))


RECIPE = Recipe(epochs=2, batch_size=30, lr=0.05, precision="fp32", shift=1)


def test_a_run_says_what_it_reached(trained_folder: Path) -> None:
    run = read_run(trained_folder)
    assert run.reached.accuracy > 0.5, "it learnt digits"
    assert run.reached.images == 60
    lines = [json.loads(line) for line in (trained_folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert not (trained_folder / CHECKPOINT).exists()


def test_resumed_ends_with_the_same_weights_bit_for_bit(tiny_spec, few_digits, tmp_path: Path) -> None:
    train(fresh(tiny_spec), few_digits, RECIPE, tmp_path / "whole")

    class Killed(Exception):
        pass

    def die(epoch: int, _epochs: int, step: int, _steps: int) -> None:
        if (epoch, step) == (1, 3):
            raise Killed

    with pytest.raises(Killed):
        train(fresh(tiny_spec), few_digits, RECIPE, tmp_path / "cut", watcher=Watcher(step=die))
    assert not (tmp_path / "cut" / "run.json").exists()
    with pytest.raises(UsageError, match="not empty"):
        train(fresh(tiny_spec), few_digits, RECIPE, tmp_path / "cut")
    with pytest.raises(UsageError, match="recipe was"):
        train(fresh(tiny_spec), few_digits, replace(RECIPE, lr=0.06), tmp_path / "cut", resume=True)
    train(fresh(tiny_spec), few_digits, RECIPE, tmp_path / "cut", resume=True)
    one, other = ((tmp_path / name / "weights.safetensors").read_bytes() for name in ("whole", "cut"))
    assert one == other


def test_a_corrupt_checkpoint_is_an_integrity_error(tiny_spec, few_digits, tmp_path: Path) -> None:
    (tmp_path / CHECKPOINT).write_bytes(b"half")
    with pytest.raises(IntegrityError, match="not a whole checkpoint"):
        train(fresh(tiny_spec), few_digits, RECIPE, tmp_path, resume=True)


def test_overwrite_takes_runs_only(tiny_spec, few_digits, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="holds no run"):
        train(fresh(tiny_spec), few_digits, RECIPE, tmp_path, overwrite=True)
    assert (tmp_path / "thesis.txt").exists()


def test_a_loss_that_is_not_finite_stops(tiny_spec, few_digits, tmp_path: Path) -> None:
    with pytest.raises(ZooError, match="lower lr"):
        train(fresh(tiny_spec), few_digits, replace(RECIPE, lr=1e9, warmup=0.0), tmp_path / "run")
    assert not (tmp_path / "run" / "run.json").exists()


def test_a_step_never_waits_for_the_device(tiny_spec) -> None:
    """On the meta device .item(), bool() and .cpu() raise."""
    module = fresh(tiny_spec).module.to("meta").train()
    optimiser = torch.optim.SGD(parameter_groups(module, 1e-4), lr=0.1, momentum=0.9, nesterov=True)
    images = torch.empty(4, 3, 32, 32, dtype=torch.uint8, device="meta")
    labels = torch.empty(4, dtype=torch.int64, device="meta")
    mean = torch.zeros(1, 3, 1, 1, device="meta")
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    arithmetic = choose_arithmetic("fp32", Hardware("cpu", False))
    loss = train_step(
        module, optimiser, scaler, arithmetic, images, labels, 0.1,
        lambda x: augment.normalise(x, 1 / 255, mean, mean + 1),
    )  # fmt: skip
    assert loss.device.type == "meta"


def test_googlenets_auxiliary_heads_are_trained(tiny_spec, few_digits, tmp_path: Path) -> None:
    model = fresh(tiny_spec, "googlenet")
    before = model.module.aux1.fc2.weight.detach().clone()
    train(model, few_digits, replace(RECIPE, epochs=1), tmp_path / "run")
    assert not torch.equal(before, model.module.aux1.fc2.weight)


@given(st.integers(1, 500), st.floats(0, 0.9), st.floats(1e-4, 10))
def test_cosine_rises_then_falls(steps: int, warmup: float, peak: float) -> None:
    rates = [cosine(step, steps, peak, warmup) for step in range(steps)]
    top = rates.index(max(rates))
    assert all(0 <= rate <= peak * 1.0000001 for rate in rates)
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] < peak or steps == 1 or round(steps * warmup) >= steps


def test_statistics_settle_within_a_short_epoch(tiny_spec) -> None:
    module = fresh(tiny_spec, "mobilenet_v3_small").module
    norms = [part for part in module.modules() if isinstance(part, torch.nn.BatchNorm2d)]
    settle_norms(module, 5000)
    assert {norm.momentum for norm in norms} == {0.01}, "long epochs keep what was published"
    settle_norms(module, 20)
    assert (1 - float(norms[0].momentum or 0)) ** 20 == pytest.approx(0.05)


def test_norms_and_biases_do_not_decay(tiny_spec) -> None:
    module = fresh(tiny_spec).module
    decaying, still = parameter_groups(module, 0.1)
    assert {p.ndim for p in decaying["params"]} == {2, 4}
    assert {p.ndim for p in still["params"]} == {1}
    assert still["weight_decay"] == 0


@pytest.mark.parametrize(
    ("asked", "here", "expected"),
    [
        ("auto", Hardware("cuda", True), "bf16"),
        ("auto", Hardware("cuda", False), "fp16"),
        ("auto", Hardware("cpu", True), "bf16"),
        ("auto", Hardware("cpu", False), "fp32"),
        ("fp32", Hardware("cuda", True), "fp32"),
        ("bf16", Hardware("cpu", False), "bf16"),
    ],
)
def test_arithmetic(asked: str, here: Hardware, expected: str) -> None:
    chosen = choose_arithmetic(asked, here)
    assert (chosen.name, bool(chosen.reason)) == (expected, True)


def test_fp16_on_a_cpu_is_refused_not_replaced() -> None:
    with pytest.raises(UnavailableError, match="CUDA"):
        choose_arithmetic("fp16", Hardware("cpu", True))


def test_shift_moves_each_image_and_fills_with_zeros() -> None:
    images = torch.arange(1, 1 + 6 * 2 * 5 * 5, dtype=torch.int32).reshape(6, 2, 5, 5)
    moved = augment.shift(images, 2, torch.Generator().manual_seed(0))
    seen = set()
    for before, after in zip(images, moved, strict=True):
        padded = torch.nn.functional.pad(before, (2, 2, 2, 2))
        places = [(y, x) for y in range(5) for x in range(5) if torch.equal(padded[:, y : y + 5, x : x + 5], after)]
        assert len(places) == 1
        seen.add(places[0])
    assert len(seen) > 1


def test_mirror_flips_about_half() -> None:
    images = torch.arange(400 * 3).reshape(400, 1, 1, 3)
    flipped = (augment.mirror(images, torch.Generator().manual_seed(0)) != images).any(-1).sum()
    assert 150 < int(flipped) < 250


def test_feeds_see_every_image_once_an_epoch_in_an_order_of_the_seed(few_digits, tmp_path: Path) -> None:
    preprocess = few_digits.preprocess
    cpu = torch.device("cpu")
    resident = ResidentFeed(few_digits.train, preprocess, 50, cpu, seed=3)
    stream = StreamFeed(few_digits.train, preprocess, Recipe(batch_size=50), cpu, seed=3)
    for feed in (resident, stream):
        labels = [torch.cat([labels for _, labels in feed.epoch(n)]) for n in (0, 0, 1)]
        assert feed.steps == 6
        assert torch.equal(labels[0], labels[1])
        assert not torch.equal(labels[0], labels[2])
        assert torch.equal(labels[0].bincount(), torch.from_numpy(np.bincount(few_digits.train.labels)))
    assert next(stream.epoch(0))[0].shape == (50, 3, 32, 32)


def test_random_resized_crop_stays_inside(few_digits) -> None:
    image = Image.fromarray(np.full((40, 90, 3), 200, np.uint8))
    for seed in range(50):
        pixels = random_resized_crop(image, few_digits.preprocess, (0.08, 1.0), np.random.default_rng(seed))
        assert pixels.shape == (3, 32, 32)
        assert pixels.min() == 200, "no padding comes in"


def test_recipes_that_come_with_zoo_are_valid_and_say_what_they_are() -> None:
    assert recipe_names() == ["imagenet", "qat", "small", "tiny"]
    for name in recipe_names():
        load_recipe(name)
    assert [default_recipe(*of) for of in ((224, 10**6), (32, 60_000), (32, 1438), (224, 90))] == [
        "imagenet", "small", "tiny", "tiny",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["epoch=3"], 'did you mean "epochs"'),
        (["lr=fast"], r"\$\.lr"),
        (["lr=-1"], "lr must be positive"),
        (["lr"], "expected key=value"),
        (["area=[0.5, 0.1]"], "area"),
        (["precision=fp8"], "precision"),
    ],
)
def test_wrong_settings_are_named(overrides: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        load_recipe("tiny", overrides)


@pytest.mark.gpu
def test_trains_on_a_gpu(tiny_spec, few_digits, tmp_path: Path) -> None:
    run = train(
        fresh(tiny_spec), few_digits, replace(RECIPE, precision="auto", epochs=4), tmp_path / "run", device="cuda"
    )
    assert run.reached.accuracy > 0.3
    assert safetensors.torch.load_file(tmp_path / "run" / "weights.safetensors")


def test_a_failed_overwrite_brings_the_old_run_back(tiny_spec, few_digits, trained: Path) -> None:
    before = {path.name: path.read_bytes() for path in trained.iterdir()}
    with pytest.raises(UsageError, match="lower lr"):
        train(fresh(tiny_spec), few_digits, replace(RECIPE, lr=1e9, warmup=0.0), trained, overwrite=True)
    assert {path.name: path.read_bytes() for path in trained.iterdir()} == before
    train(fresh(tiny_spec), few_digits, RECIPE, trained, overwrite=True)
    assert read_run(trained).recipe["epochs"] == 2
    assert not (trained / ".replaced").exists()


def test_what_a_recipe_left_to_its_defaults_is_recorded(trained_folder: Path) -> None:
    assert read_run(trained_folder).recipe["precision"] == "auto"
