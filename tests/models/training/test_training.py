from __future__ import annotations

import gc
import json
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from conftest import TINY
from PIL import Image
from zoo.errors import IntegrityError, UsageError, ZooError
from zoo.models.fresh import new_model
from zoo.models.registry import MODELS
from zoo.models.runs import CHECKPOINT, METRICS, read_run
from zoo.models.sources import SourceOptions
from zoo.models.training.average import make_average
from zoo.models.training.draws import Draws
from zoo.models.training.feed import Batch, ResidentFeed, StreamFeed, random_resized_crop
from zoo.models.training.health import Health
from zoo.models.training.loop import Watcher, train
from zoo.models.training.order import Order
from zoo.models.training.prepare import make_prepare
from zoo.models.training.recipe import Recipe, default_recipe, load_recipe, recipe_names
from zoo.models.training.step import (
    Arithmetic,
    Stepped,
    gradients,
    make_optimiser,
    parameter_groups,
    settle_norms,
    update,
)


def fresh(tiny_spec, name: str = "resnet18"):
    return new_model(name, tiny_spec, SourceOptions(arguments={**TINY, "width": 0.125}))


class Killed(Exception):
    pass


def dies_at(epoch: int, step: int) -> Watcher:
    def die(now: int, _epochs: int, done: int, _steps: int) -> None:
        if (now, done) == (epoch, step):
            raise Killed

    return Watcher(step=die)


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

    with pytest.raises(Killed):
        train(fresh(tiny_spec), few_digits, RECIPE, tmp_path / "cut", watcher=dies_at(1, 3))
    assert not (tmp_path / "cut" / "run.json").exists()
    with pytest.raises(UsageError, match="not empty"):
        train(fresh(tiny_spec), few_digits, RECIPE, tmp_path / "cut")
    with pytest.raises(UsageError, match=r"cannot resume: recipe.lr was 0.05, is 0.06; use"):
        train(fresh(tiny_spec), few_digits, replace(RECIPE, lr=0.06), tmp_path / "cut", resume=True)
    train(fresh(tiny_spec), few_digits, RECIPE, tmp_path / "cut", resume=True)
    one, other = ((tmp_path / name / "weights.safetensors").read_bytes() for name in ("whole", "cut"))
    assert one == other


def test_ctrl_c_saves_inside_an_epoch_and_nothing_is_trained_twice(tiny_spec, few_digits, tmp_path: Path) -> None:
    train(fresh(tiny_spec), few_digits, RECIPE, tmp_path / "whole")
    seen: list[tuple[int, int]] = []

    def interrupt(epoch: int, _epochs: int, step: int, _steps: int) -> None:
        seen.append((epoch, step))
        if (epoch, step) in ((0, 4), (1, 3)):
            signal.raise_signal(signal.SIGINT)

    for resume in (False, True):
        with pytest.raises(KeyboardInterrupt):
            train(
                fresh(tiny_spec), few_digits, RECIPE, tmp_path / "cut", resume=resume, watcher=Watcher(step=interrupt)
            )
    train(fresh(tiny_spec), few_digits, RECIPE, tmp_path / "cut", resume=True, watcher=Watcher(step=interrupt))
    assert seen == [(epoch, step + 1) for epoch in range(2) for step in range(10)]
    one, other = ((tmp_path / name / "weights.safetensors").read_bytes() for name in ("whole", "cut"))
    assert one == other
    losses = [
        [json.loads(line)["loss"] for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("whole", "cut")
    ]
    assert losses[0] == losses[1]


def test_to_resume_before_the_first_checkpoint_is_to_start(tiny_spec, few_digits, tmp_path: Path) -> None:
    said: list[str] = []
    train(fresh(tiny_spec), few_digits, RECIPE, tmp_path / "whole")
    for prepared in ("missing", "empty", "killed"):
        folder = tmp_path / prepared
        if prepared != "missing":
            folder.mkdir()
        if prepared == "killed":
            (folder / METRICS).write_text('{"epoch": 1}\n{"epo')
        train(fresh(tiny_spec), few_digits, RECIPE, folder, resume=True, watcher=Watcher(start=said.append))
        assert said.count(f"{folder} has no checkpoint yet: the training starts from the beginning") == 1
        one, other = ((tmp_path / name / "weights.safetensors").read_bytes() for name in ("whole", prepared))
        assert one == other
        assert [json.loads(line)["epoch"] for line in (folder / METRICS).read_text().splitlines()] == [1, 2]
    with pytest.raises(UsageError, match="the run is finished"):
        train(fresh(tiny_spec), few_digits, RECIPE, tmp_path / "whole", resume=True)


@pytest.mark.parametrize("dies_before", ["append_metrics", "save_checkpoint"])
def test_a_kill_between_checkpoint_and_metrics_leaves_a_whole_state(
    tiny_spec, few_digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dies_before: str
) -> None:
    """What was not yet done at the kill is done by the training that goes on, and nothing is done twice."""
    train(fresh(tiny_spec), few_digits, RECIPE, tmp_path / "whole")

    def die(*_arguments: object) -> None:
        raise Killed

    folder = tmp_path / "cut"
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(f"zoo.models.training.loop.{dies_before}", die)
        train(fresh(tiny_spec), few_digits, RECIPE, folder)
    assert (folder / CHECKPOINT).exists() == (dies_before == "append_metrics")
    assert not (folder / METRICS).exists(), "no line is of an epoch that could be lost"
    train(fresh(tiny_spec), few_digits, RECIPE, folder, resume=True)
    losses = [
        [json.loads(line)["loss"] for line in (tmp_path / name / METRICS).read_text().splitlines()]
        for name in ("whole", "cut")
    ]
    assert losses[0] == losses[1]
    one, other = ((tmp_path / name / "weights.safetensors").read_bytes() for name in ("whole", "cut"))
    assert one == other


def test_checkpoints_inside_a_long_epoch(
    tiny_spec, few_digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoo.models.training.epoch.SAVE_SECONDS", 0.0)

    with pytest.raises(Killed):
        train(fresh(tiny_spec), few_digits, RECIPE, tmp_path / "cut", watcher=dies_at(1, 6))
    seen: list[tuple[int, int]] = []
    told = Watcher(step=lambda epoch, _epochs, step, _steps: seen.append((epoch, step)))
    train(fresh(tiny_spec), few_digits, RECIPE, tmp_path / "cut", resume=True, watcher=told)
    assert seen == [(1, step) for step in range(6, 11)]


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
    with pytest.raises(ZooError, match="most likely a learning rate that is too high"):
        train(fresh(tiny_spec), few_digits, replace(RECIPE, lr=1e9, warmup=0.0), tmp_path / "run")
    assert not (tmp_path / "run" / "run.json").exists()


def train_step(module, optimiser, recipe: Recipe, inputs: torch.Tensor, targets: torch.Tensor) -> Stepped:
    scaler, fp32 = torch.amp.GradScaler("cpu", enabled=False), Arithmetic("fp32", None, "")
    optimiser.zero_grad()
    loss, right = gradients(module, scaler, fp32, recipe, inputs, targets, recipe.accumulate)
    return Stepped(loss, right, update(module, optimiser, scaler, recipe.clip))


@pytest.mark.parametrize("mirror", ["random", "alternating"])
def test_a_step_never_waits_for_the_device(tiny_spec, mirror: str) -> None:
    """On the meta device .item(), bool() and .cpu() raise."""
    module = fresh(tiny_spec).module.to("meta").train()
    meta = torch.device("meta")
    recipe = Recipe(clip=1.0, accumulate=2, cutout=4, mixup=0.2, cutmix=1.0, area=(0.3, 1.0), mirror=mirror)
    optimiser = make_optimiser(module, recipe, meta)
    images = torch.empty(4, 3, 32, 32, dtype=torch.uint8, device="meta")
    labels = torch.empty(4, dtype=torch.int64, device="meta")
    prepare = make_prepare(tiny_spec.preprocess, recipe, 10, Draws(meta), meta)
    average, health = make_average(module, 0.9), Health(meta)
    for step in range(4):  # some mix in one way, some in the other
        done = train_step(module, optimiser, recipe, *prepare(Batch(images, labels, labels), 0, step))
        average.update_parameters(module)
        health.see(step, done.loss, done.norm)
        assert done.loss.device == done.right.device == done.norm.device == meta


def test_googlenets_auxiliary_heads_are_trained(tiny_spec, few_digits, tmp_path: Path) -> None:
    model = fresh(tiny_spec, "googlenet")
    before = model.module.aux1.fc2.weight.detach().clone()
    train(model, few_digits, replace(RECIPE, epochs=1), tmp_path / "run")
    assert not torch.equal(before, model.module.aux1.fc2.weight)


def test_statistics_settle_within_a_short_epoch(tiny_spec) -> None:
    module = fresh(tiny_spec, "mobilenet_v3_small").module
    norms = [part for part in module.modules() if isinstance(part, torch.nn.BatchNorm2d)]
    settle_norms(module, 5000)
    assert {norm.momentum for norm in norms} == {0.01}, "long epochs keep what was published"
    settle_norms(module, 20)
    assert (1 - float(norms[0].momentum or 0)) ** 20 == pytest.approx(0.05)


@pytest.mark.parametrize("name", ["sgd", "rmsprop", "adamw"])
def test_each_optimiser_learns_and_resumes(tiny_spec, few_digits, tmp_path: Path, name: str) -> None:
    lr = {"sgd": 0.05, "rmsprop": 0.002, "adamw": 0.002}[name]
    recipe = replace(RECIPE, optimiser=name, lr=lr, clip=1.0)
    train(fresh(tiny_spec), few_digits, recipe, tmp_path / "whole")
    losses = [json.loads(line)["loss"] for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert losses[1] < losses[0]

    with pytest.raises(Killed):
        train(fresh(tiny_spec), few_digits, recipe, tmp_path / "cut", watcher=dies_at(1, 1))
    train(fresh(tiny_spec), few_digits, recipe, tmp_path / "cut", resume=True)
    one, other = ((tmp_path / run / "weights.safetensors").read_bytes() for run in ("whole", "cut"))
    assert one == other


def test_the_average_is_what_is_kept_and_resumes(tiny_spec, few_digits, tmp_path: Path) -> None:
    recipe = replace(RECIPE, average=0.9, cutout=4, mixup=0.2, cutmix=1.0)
    model = fresh(tiny_spec)
    train(model, few_digits, recipe, tmp_path / "whole")
    last = train(fresh(tiny_spec), few_digits, replace(recipe, average=0.0), tmp_path / "last")
    assert last.recipe["average"] == 0

    with pytest.raises(Killed):
        train(fresh(tiny_spec), few_digits, recipe, tmp_path / "cut", watcher=dies_at(1, 1))
    train(fresh(tiny_spec), few_digits, recipe, tmp_path / "cut", resume=True)
    whole, cut, plain = ((tmp_path / run / "weights.safetensors").read_bytes() for run in ("whole", "cut", "last"))
    assert whole == cut
    assert whole != plain


def test_the_average_against_its_formula() -> None:
    module = torch.nn.BatchNorm1d(2)
    assert module.running_mean is not None
    assert module.num_batches_tracked is not None
    average = make_average(module, 0.5)
    expected: torch.Tensor | None = None
    for step in range(5):
        with torch.no_grad():
            module.weight.fill_(float(step))
            module.running_mean.fill_(float(step))
            module.num_batches_tracked.fill_(step)
        average.update_parameters(module)
        now = torch.full((2,), float(step))
        decay = min(0.5, (1 + step) / (10 + step))
        expected = now if expected is None else decay * expected + (1 - decay) * now
        torch.testing.assert_close(average.module.weight.detach(), expected)
        torch.testing.assert_close(average.module.running_mean, expected)
        assert average.module.num_batches_tracked == step


def test_clipping_bounds_the_step(tiny_spec) -> None:
    module = fresh(tiny_spec).module.train()
    before = [p.detach().clone() for p in module.parameters()]
    recipe = Recipe(momentum=0.0, nesterov=False, weight_decay=0.0, lr=1.0, clip=0.01)
    optimiser = make_optimiser(module, recipe, torch.device("cpu"))
    train_step(module, optimiser, recipe, torch.randn(8, 3, 32, 32), torch.arange(8))
    moved = torch.stack([(p.detach() - q).norm() for p, q in zip(module.parameters(), before, strict=True)]).norm()
    assert 0 < float(moved) <= 0.0101


def test_a_batch_in_parts_is_the_same_batch(tiny_spec) -> None:
    """But for batch norm, whose statistics are a part's: here they stand still."""
    images, labels = torch.randn(12, 3, 32, 32), torch.arange(12) % 10
    found: list[torch.Tensor] = []
    for parts in (1, 5):  # the last of five parts by chunk() would be empty or one image
        torch.manual_seed(0)
        module = fresh(tiny_spec).module.eval()
        recipe = Recipe(accumulate=parts, momentum=0.0, nesterov=False)
        optimiser = make_optimiser(module, recipe, torch.device("cpu"))
        loss = train_step(module, optimiser, recipe, images, labels).loss
        found.append(torch.cat([loss[None], *(p.detach().flatten() for p in module.parameters())]))
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-6)


def test_norms_and_biases_do_not_decay(tiny_spec) -> None:
    module = fresh(tiny_spec).module
    decaying, still = parameter_groups(module, 0.1)
    assert {p.ndim for p in decaying["params"]} == {2, 4}
    assert {p.ndim for p in still["params"]} == {1}
    assert still["weight_decay"] == 0


def test_feeds_see_every_image_once_an_epoch_in_an_order_of_the_seed(few_digits, tmp_path: Path) -> None:
    preprocess = few_digits.preprocess
    cpu = torch.device("cpu")
    order = Order(len(few_digits.train), 50, seed=3)
    resident = ResidentFeed(few_digits.train, preprocess, cpu, order)
    stream = StreamFeed(few_digits.train, preprocess, cpu, order, (0.5, 1.0), threads=3)
    for feed in (resident, stream):
        labels = [torch.cat([batch.labels for batch in feed.epoch(n)]) for n in (0, 0, 1)]
        assert feed.order.steps == 6
        assert torch.equal(labels[0], labels[1])
        assert not torch.equal(labels[0], labels[2])
        assert torch.equal(labels[0].bincount(), torch.from_numpy(np.bincount(few_digits.train.labels)))
        last = list(feed.epoch(0, first=5))
        assert len(last) == 1, "a resumed epoch goes on"
        assert torch.equal(last[0].labels, labels[0][250:])
    assert next(stream.epoch(0)).images.shape == (50, 3, 32, 32)
    assert next(resident.epoch(0)).images.shape == (50, 1, 32, 32), "grey is kept once"
    plain = StreamFeed(few_digits.train, preprocess, cpu, order, (1.0, 1.0), threads=3)
    one, other = next(plain.epoch(0)), next(resident.epoch(0))
    assert torch.equal(one.images, other.images.expand(-1, 3, -1, -1)), "uncropped, the two are alike"


def test_random_resized_crop_stays_inside(few_digits) -> None:
    image = Image.fromarray(np.full((40, 90, 3), 200, np.uint8))
    for seed in range(50):
        pixels = random_resized_crop(image, few_digits.preprocess, (0.08, 1.0), np.random.default_rng(seed))
        assert pixels.shape == (3, 32, 32)
        assert pixels.min() == 200, "no padding comes in"


def test_recipes_that_come_with_zoo_are_valid_and_say_what_they_are() -> None:
    families = {"alexnet", "vgg", "googlenet", "resnet", "mobilenet", "efficientnet"}
    assert set(recipe_names()) == {"imagenet", "prune", "qat", "small", "tiny"} | families
    for name in recipe_names():
        recipe = load_recipe(name)
        assert not recipe.claim or recipe.source, "a claim has its source"
    assert [default_recipe(*of) for of in ((224, 10**6), (32, 60_000), (32, 1438), (224, 90))] == [
        "imagenet", "small", "tiny", "tiny",
    ]  # fmt: skip
    assert {default_recipe(224, 10**6, model) for model in MODELS} == families
    assert default_recipe(224, 10**6, "timm:resnet18") == "imagenet"
    assert default_recipe(32, 60_000, "resnet18") == "small"


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["epoch=3"], 'did you mean "epochs"'),
        (["lr=fast"], r"\$\.lr"),
        (["lr=-1"], "lr must be positive"),
        (["lr"], "expected key=value"),
        (["area=[0.5, 0.1]"], "area"),
        (["precision=fp8"], "precision"),
        (["schedule=cosin"], "schedule"),
        (["decay=1.5"], "decay must be"),
        (["decay_epochs=0"], "decay_epochs positive"),
        (["clip=-1"], "clip is a norm"),
        (["accumulate=0"], "accumulate must leave"),
        (["average=1.0"], "average is a decay"),
        (["mixup=-0.1"], "not be negative"),
        (["momentum=0.0"], "nesterov=false"),
        (["old_lr=0"], "old_lr is a factor"),
        (["mirror=true"], r"\$\.mirror"),
        (["balance=always"], r"balance"),
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


@pytest.mark.gpu
def test_on_a_gpu_memory_does_not_grow_with_epochs(tiny_spec, few_digits, tmp_path: Path) -> None:
    held: list[int] = []
    watcher = Watcher(epoch=lambda _done: held.append(torch.cuda.memory_allocated()))
    recipe = replace(RECIPE, epochs=4, average=0.9, cutmix=1.0)
    train(fresh(tiny_spec), few_digits, recipe, tmp_path / "run", device="cuda", watcher=watcher)
    assert held[1] == held[2] == held[3]
    pixels = len(few_digits.train) * 32 * 32
    weights = sum(value.numel() for value in fresh(tiny_spec).module.state_dict().values())
    assert held[3] < pixels + 8 * 4 * weights + (4 << 20), "one copy of the images, and a few of the weights"


def test_nothing_grows_with_epochs(tiny_spec, few_digits, tmp_path: Path) -> None:
    held: list[int] = []

    def count(_done: object) -> None:
        gc.collect()
        kinds = (torch.Tensor, torch.nn.Parameter)  # and not what tracing elsewhere left, whose sizes are symbols
        held.append(sum(one.untyped_storage().nbytes() for one in gc.get_objects() if type(one) in kinds))

    recipe = replace(RECIPE, epochs=4, average=0.9, cutmix=1.0)
    train(fresh(tiny_spec), few_digits, recipe, tmp_path / "run", watcher=Watcher(epoch=count))
    assert held[1] == held[2] == held[3]


def test_a_failed_overwrite_brings_the_old_run_back(tiny_spec, few_digits, trained: Path) -> None:
    before = {path.name: path.read_bytes() for path in trained.iterdir()}
    with pytest.raises(UsageError, match="most likely a learning rate that is too high"):
        train(fresh(tiny_spec), few_digits, replace(RECIPE, lr=1e9, warmup=0.0), trained, overwrite=True)
    assert {path.name: path.read_bytes() for path in trained.iterdir()} == before
    train(fresh(tiny_spec), few_digits, RECIPE, trained, overwrite=True)
    assert read_run(trained).recipe["epochs"] == 2
    assert not (trained / ".replaced").exists()


def test_what_a_recipe_left_to_its_defaults_is_recorded(trained_folder: Path) -> None:
    assert read_run(trained_folder).recipe["precision"] == "auto"
