"""The training loop, the same on CPU and GPU: read the world, train epoch by epoch, write a run."""

from __future__ import annotations

import datetime
import json
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from ...config import to_json, to_mapping
from ...errors import UsageError
from .. import weights as weights_io
from ..data.dataset import Dataset, Split, batches
from ..runs import (
    CHECKPOINT,
    WEIGHTS,
    Learned,
    Reached,
    Run,
    append_metrics,
    claim,
    forget_replaced,
    restore_replaced,
    trim_metrics,
    write_run,
)
from ..sources import Model
from ..spec import Preprocess
from . import augment
from .checkpoint import load_checkpoint, save_checkpoint
from .feed import make_feed
from .recipe import Recipe, as_mapping
from .schedules import cosine
from .step import Arithmetic, choose_arithmetic, hardware, parameter_groups, settle_norms, train_step


@dataclass(frozen=True)
class Epoch:
    """What one epoch came to."""

    epoch: int
    loss: float
    accuracy: float
    lr: float
    seconds: float
    images_per_second: float


@dataclass(frozen=True)
class Watcher:
    """What training tells while it goes on; the defaults tell nobody."""

    start: Callable[[str], None] = lambda _text: None
    step: Callable[[int, int, int, int], None] = lambda _epoch, _epochs, _step, _steps: None
    epoch: Callable[[Epoch], None] = lambda _result: None


class Standin(Protocol):
    """Something that is trained in a module's place, such as its graph with fake quantisation (calibration/qat.py).

    Attributes:
        facts: what must agree when a training resumes.
    """

    facts: dict[str, Any]

    def start(self, module: nn.Module) -> nn.Module:
        """What is trained instead of the module, on the same device."""
        ...

    def at(self, share: float) -> None:
        """This share of all steps is done."""
        ...

    def finish(self, module: nn.Module, accuracy: float) -> Learned:
        """Hand the weights over to the module; what else was learned, by something of that accuracy."""
        ...


def train(
    model: Model,
    data: Dataset,
    recipe: Recipe,
    out: Path,
    *,
    device: str = "cpu",
    seed: int = 0,
    resume: bool = False,
    overwrite: bool = False,
    parent: str = "",
    watcher: Watcher | None = None,
    standin: Standin | None = None,
) -> Run:
    """Train a model and write a run folder.

    Args:
        model: what `sources.new_model` gave; its module is trained in place.
        data: with as many classes as the model has.
        recipe: the numbers.
        out: the run folder.
        device: "cpu" or "cuda".
        seed: of the order of images and of the augmentation.
        resume: go on from the checkpoint in `out`.
        overwrite: replace the run in `out`.
        parent: the run that the weights came from, if any.
        watcher: is told of progress.
        standin: is trained in the module's place.

    Raises:
        UsageError: no training images, a folder that is taken, a checkpoint of another training,
            or a loss that is not finite any more.
    """
    watcher = watcher or Watcher()
    if len(data.train) < 2:
        raise UsageError(f"{data.name} has {len(data.train)} images to train on", fix="add a train/ folder")
    if not any(parameter.requires_grad for parameter in model.module.parameters()):
        raise UsageError(f"{model.spec.name} has no parameters to train")
    claim(out, resume=resume, overwrite=overwrite)
    out.mkdir(parents=True, exist_ok=True)
    try:
        run = _train(model, data, recipe, out, device, seed, resume, parent, watcher, standin)
    except BaseException:
        restore_replaced(out)
        raise
    forget_replaced(out)
    return run


def _train(
    model: Model,
    data: Dataset,
    recipe: Recipe,
    out: Path,
    device: str,
    seed: int,
    resume: bool,
    parent: str,
    watcher: Watcher,
    standin: Standin | None,
) -> Run:
    started = time.perf_counter()
    target = torch.device(device)
    arithmetic = choose_arithmetic(recipe.precision, hardware(target))
    watcher.start(f"{arithmetic.name} on {device}: {arithmetic.reason}")

    module = model.module
    if standin is not None:
        watcher.start("tracing the model for what is trained in its place")
        module = standin.start(module)
    module = module.to(device=target).to(memory_format=torch.channels_last)
    feed = make_feed(data.train, model.spec.preprocess, recipe, target, seed)
    settle_norms(module, feed.steps)
    generator = torch.Generator(target).manual_seed(seed)
    torch.manual_seed(seed)
    optimiser = torch.optim.SGD(
        parameter_groups(module, recipe.weight_decay),
        lr=recipe.lr,
        momentum=recipe.momentum,
        nesterov=recipe.momentum > 0,
        fused=target.type == "cuda",
    )
    scaler = torch.amp.GradScaler(target.type, enabled=arithmetic.dtype is torch.float16)
    prepare = _augmentation(model.spec.preprocess, data.mirror and recipe.mirror, recipe.shift, target, generator)
    facts = {
        "origin": to_mapping(model.origin),
        "spec": json.loads(to_json(model.spec)),
        "data": data.name,
        "recipe": as_mapping(recipe),
        "seed": seed,
        **(standin.facts if standin is not None else {}),
    }
    done = load_checkpoint(out / CHECKPOINT, module, optimiser, generator, facts) if resume else 0
    trim_metrics(out, done)

    for epoch in range(done, recipe.epochs):
        begun = time.perf_counter()
        module.train()
        total, lr = torch.zeros((), device=target), 0.0
        for step, (images, labels) in enumerate(feed.epoch(epoch)):
            if standin is not None:
                standin.at((epoch * feed.steps + step) / (recipe.epochs * feed.steps))
            lr = cosine(epoch * feed.steps + step, recipe.epochs * feed.steps, recipe.lr, recipe.warmup)
            for group in optimiser.param_groups:
                group["lr"] = lr
            total += train_step(module, optimiser, scaler, arithmetic, images, labels, recipe.label_smoothing, prepare)
            watcher.step(epoch, recipe.epochs, step + 1, feed.steps)
        loss = float(total) / feed.steps  # the first wait for the device in this epoch
        seconds = time.perf_counter() - begun
        if not np.isfinite(loss):
            raise UsageError(
                f"the loss is {loss} after epoch {epoch + 1} (lr {lr:.3g}, {arithmetic.name})",
                fix="lower lr (--set lr=...), or use --set precision=fp32",
            )
        accuracy = evaluate(module, data.val, model.spec.preprocess, target, arithmetic)
        rate = feed.steps * min(recipe.batch_size, len(data.train)) / seconds
        result = Epoch(epoch + 1, loss, accuracy, lr, seconds, rate)
        append_metrics(out, vars(result))
        watcher.epoch(result)
        save_checkpoint(out / CHECKPOINT, module, optimiser, generator, {**facts, "epochs_done": epoch + 1})

    learned = None
    if standin is not None:
        rounded = evaluate(module, data.val, model.spec.preprocess, target, arithmetic)
        learned = standin.finish(model.module, rounded)
        module = model.module.to(target)
    module = module.to(memory_format=torch.contiguous_format).eval()
    final = evaluate(module, data.val, model.spec.preprocess, target, Arithmetic("fp32", None, "final"))
    weights_io.save(out / WEIGHTS, module)
    run = Run(
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
        origin=model.origin,
        spec=model.spec,
        weights=model.weights,
        reached=Reached(data.name, "val", len(data.val), final),
        recipe=as_mapping(recipe),
        device=f"{device}, {arithmetic.name}",
        seconds=round(time.perf_counter() - started, 1),
        seed=seed,
        parent=parent,
        versions={"torch": str(torch.__version__), "python": platform.python_version()},
        learned=learned,
    )
    write_run(out, run)
    (out / CHECKPOINT).unlink(missing_ok=True)
    module.to("cpu")
    return run


@torch.inference_mode()
def evaluate(
    module: nn.Module, split: Split, preprocess: Preprocess, device: torch.device, arithmetic: Arithmetic
) -> float:
    """Top-1 accuracy over a split, in [0, 1]; one wait for the device, at the end."""
    module.eval()
    mean, std = _constants(preprocess, device)
    right = torch.zeros((), dtype=torch.int64, device=device)
    for pixels, labels in batches(split, preprocess, 256):
        images = torch.from_numpy(np.ascontiguousarray(pixels)).to(device)
        inputs = augment.normalise(images, preprocess.scale, mean, std).to(memory_format=torch.channels_last)
        with arithmetic.on(device.type):
            logits = module(inputs)
        right += (logits.argmax(1) == torch.from_numpy(labels).to(device)).sum()
    return int(right) / max(1, len(split))


def _augmentation(
    preprocess: Preprocess, mirror: bool, most: int, device: torch.device, generator: torch.Generator
) -> Callable[[Tensor], Tensor]:
    mean, std = _constants(preprocess, device)

    def prepare(images: Tensor) -> Tensor:
        if mirror:
            images = augment.mirror(images, generator)
        return augment.normalise(augment.shift(images, most, generator), preprocess.scale, mean, std)

    return prepare


def _constants(preprocess: Preprocess, device: torch.device) -> tuple[Tensor, Tensor]:
    mean = torch.tensor(preprocess.mean, device=device)[None, :, None, None]
    std = torch.tensor(preprocess.std, device=device)[None, :, None, None]
    return mean, std
