"""The training loop, the same on CPU and GPU: read the world, train epoch by epoch, write a run."""

from __future__ import annotations

import datetime
import json
import platform
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ...config import to_json, to_mapping
from .. import weights as weights_io
from ..data.dataset import Dataset, Split, batches
from ..runs import (
    CHECKPOINT,
    WEIGHTS,
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
from .average import make_average
from .checkpoint import Place, State, load_checkpoint, save_checkpoint
from .epoch import Epoch, Running, Standin, Watcher, run_epoch
from .feed import make_feed
from .prepare import constants, make_prepare
from .recipe import Recipe, as_mapping
from .setup import refuse_untrainable
from .step import Arithmetic, choose_arithmetic, hardware, make_optimiser, settle_norms
from .stopping import stop_after_step


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
    refuse_untrainable(model, data)
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
    now = Running(
        module=module,
        optimiser=make_optimiser(module, recipe, target),
        scaler=torch.amp.GradScaler(target.type, enabled=arithmetic.dtype is torch.float16),
        average=make_average(module, recipe.average) if recipe.average else None,
        arithmetic=arithmetic,
        recipe=recipe,
        feed=feed,
        prepare=make_prepare(
            model.spec.preprocess, recipe, len(model.spec.labels), target, generator, mirror=data.mirror, seed=seed
        ),
        standin=standin,
        device=target,
    )
    facts = {
        "origin": to_mapping(model.origin),
        "spec": json.loads(to_json(model.spec)),
        "data": data.name,
        "recipe": as_mapping(recipe),
        "seed": seed,
        **(standin.facts if standin is not None else {}),
    }

    state = State(module, now.optimiser, generator, now.average)

    def save(at: Place) -> None:
        save_checkpoint(out / CHECKPOINT, state, {**facts, **vars(at)})

    place = load_checkpoint(out / CHECKPOINT, state, facts) if resume else Place()
    trim_metrics(out, place.epochs_done)
    for epoch in range(place.epochs_done, recipe.epochs):
        with stop_after_step() as asked_to_stop:
            begun = time.perf_counter()
            at = place if epoch == place.epochs_done else Place(epoch)
            whole, loss, lr = run_epoch(now, at, watcher, save, asked_to_stop)
            if whole:
                seconds = time.perf_counter() - begun
                accuracy = evaluate(now.kept, data.val, model.spec.preprocess, target, arithmetic)
                images = (feed.steps - at.steps_done) * min(recipe.batch_size, len(data.train))
                result = Epoch(epoch + 1, loss, accuracy, lr, seconds, images / seconds)
                append_metrics(out, vars(result))
                watcher.epoch(result)
                save(Place(epoch + 1))
        if not whole:
            raise KeyboardInterrupt  # whoever handles the signal did not

    if now.average is not None:
        module.load_state_dict(now.kept.state_dict())
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
    mean, std = constants(preprocess, device)
    right = torch.zeros((), dtype=torch.int64, device=device)
    for pixels, labels in batches(split, preprocess, 256):
        images = torch.from_numpy(np.ascontiguousarray(pixels)).to(device)
        inputs = augment.normalise(images, preprocess.scale, mean, std).to(memory_format=torch.channels_last)
        with arithmetic.on(device.type):
            logits = module(inputs)
        right += (logits.argmax(1) == torch.from_numpy(labels).to(device)).sum()
    return int(right) / max(1, len(split))
