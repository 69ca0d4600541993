"""The training loop, the same on CPU and GPU, in one process or several: train epoch by epoch, write a run."""

from __future__ import annotations

import datetime
import json
import platform
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...atomic import locked, naming
from ...config import to_json
from ...errors import UnavailableError
from .. import weights as weights_io
from ..data.dataset import Dataset
from ..runs import (
    CHECKPOINT,
    TENSORBOARD,
    WEIGHTS,
    Reached,
    Run,
    append_metrics,
    claim,
    forget_replaced,
    restore_replaced,
    settle_metrics,
    write_run,
)
from ..sources import Model
from .checkpoint import ARITHMETIC, LAST_EPOCH, PRUNED, Place, State, load_checkpoint, read_facts, save_checkpoint
from .diagnosis import commonest, drifted, learned_little, no_better, why_drifted, why_little
from .epoch import Epoch, Running, Standin, Sums, Watcher, run_epoch
from .evaluate import BATCH, accuracy, accuracy_with_batches, confusion
from .order import rare_classes
from .pictures import draw_run
from .recipe import Recipe, as_mapping
from .setup import refuse_untrainable
from .start import Asked, Recovery, begin
from .step import Arithmetic
from .stopping import stop_after_step
from .tensorboard import to_tensorboard
from .world import World, join


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
    freeze: str = "",
    threads: int | None = None,
    tensorboard: bool = False,
    watcher: Watcher | None = None,
    standin: Standin | None = None,
    recovery: Recovery | None = None,
) -> Run:
    """Train a model and write a run folder.

    Of the processes that torchrun starts, each sees its part of every batch, and the first one writes and speaks.

    Args:
        model: what `fresh.new_model` gave; its module is trained in place.
        data: with as many classes as the model has.
        recipe: the numbers.
        out: the run folder.
        device: "cpu" or "cuda", with a number where there are several.
        seed: of the order of images and of the augmentation.
        resume: go on from the checkpoint in `out`; without one yet, start.
        overwrite: replace the run in `out`.
        parent: the run that the weights came from, if any.
        freeze: the last module that stays as it came with its weights.
        threads: that decode images; None for what suits the machine.
        tensorboard: whether event files are written beside metrics.jsonl.
        watcher: is told of progress.
        standin: is trained in the module's place.
        recovery: what pruning adds: a teacher, zeros that stay, a reason to stop.

    Raises:
        UsageError: no training images, a folder that is taken, a checkpoint of another training,
            or a loss that is not finite any more.
    """
    refuse_untrainable(model, data)
    asked = Asked(model, data, recipe, torch.device(device), seed, freeze, threads, standin, recovery or Recovery())
    with join(asked.device) as world:
        watcher = (watcher or Watcher()) if world.first else Watcher()
        if world.first:
            claim(out, resume=resume, overwrite=overwrite)
            out.mkdir(parents=True, exist_ok=True)
        world.wait()
        goes_on = resume and (out / CHECKPOINT).is_file()
        if resume and not goes_on:
            watcher.start(f"{out} has no checkpoint yet: the training starts from the beginning")
        try:
            wanted = tensorboard and world.first
            alone = locked(out, "training") if world.first else nullcontext()
            told_too = to_tensorboard(watcher, out / TENSORBOARD) if wanted else nullcontext(watcher)
            with alone, naming(out), told_too as told:
                run = _train(asked, world, out, parent, told, resume=goes_on)
        except BaseException:
            if world.first:
                restore_replaced(out)
            raise
        if world.first:
            forget_replaced(out)
        world.wait()
    return run


def _train(asked: Asked, world: World, out: Path, parent: str, watcher: Watcher, *, resume: bool) -> Run:
    started = time.perf_counter()
    rare = rare_classes(asked.data.train.labels, asked.model.spec.labels)
    if rare and asked.recipe.balance == "none":
        watcher.warn(rare)
    saved = read_facts(out / CHECKPOINT) if resume else {}
    now, generator = begin(asked, world, watcher.start, str(saved.get(ARITHMETIC, {}).get("name", "")))
    torch.manual_seed(asked.seed + world.rank)  # of dropout, which is another one in each process
    facts = _facts(asked, world)
    state = State(now.module, now.optimiser, generator, now.average)

    arithmetic = saved.get(ARITHMETIC, {})
    if arithmetic.get("name") != now.arithmetic.name:
        arithmetic = _arithmetic_record(now.arithmetic)
    beside = {PRUNED: dict(asked.recovery.record), ARITHMETIC: arithmetic}

    line: dict[str, Any] = saved.get(LAST_EPOCH, {})  # of metrics.jsonl, of the epoch that was the last one

    def save(at: Place) -> None:
        if world.first:
            save_checkpoint(out / CHECKPOINT, state, {**facts, **beside, LAST_EPOCH: line, **vars(at)})
        world.wait()

    place = load_checkpoint(out / CHECKPOINT, state, facts) if resume else Place()
    now.zeros.look()
    if resume and not world.first:
        torch.manual_seed(hash((asked.seed, world.rank, place.epochs_done, place.steps_done)))
    if world.first:
        settle_metrics(out, place.epochs_done, line or None)
    apart = 0  # epochs in a row after which training and validation were far apart
    for epoch in range(place.epochs_done, asked.recipe.epochs):
        with stop_after_step() as asked_to_stop:
            begun = time.perf_counter()
            at = place if epoch == place.epochs_done else Place(epoch)
            sums = run_epoch(now, at, watcher, save, asked_to_stop)
            if sums is not None:
                result = _epoch_result(asked, now, sums, at, begun)
                apart = apart + 1 if drifted(result.train_accuracy, result.accuracy) else 0
                last = epoch + 1 == asked.recipe.epochs
                warning = _warning(asked, now, result, drifts=apart == 2 or (apart == 1 and last), last=last)
                if warning:  # one drift in the middle passes by itself
                    watcher.warn(warning)
                line = vars(result)
                save(Place(epoch + 1))
                if world.first:  # after the checkpoint: a line that is there is of an epoch that is never lost
                    append_metrics(out, line)
                watcher.epoch(result)
        if sums is None:
            raise KeyboardInterrupt  # whoever handles the signal did not
        reason = asked.recovery.enough(now.kept) if asked.recovery.enough is not None else ""
        if reason:
            watcher.start(reason)
            break
    return _finish(asked, now, out, parent, started, watcher, arithmetic)


def _facts(asked: Asked, world: World) -> dict[str, Any]:
    """What must agree when a training resumes."""
    return {
        "origin": json.loads(to_json(asked.model.origin)),
        "spec": json.loads(to_json(asked.model.spec)),
        "data": asked.data.name,
        "recipe": as_mapping(asked.recipe),
        "seed": asked.seed,
        "freeze": asked.freeze,
        "processes": world.size,
        **(asked.standin.facts if asked.standin is not None else {}),
    }


def _epoch_result(asked: Asked, now: Running, sums: Sums, at: Place, begun: float) -> Epoch:
    order = now.feed.order
    whole = sums.place(at.epochs_done, order.steps)
    counted = _confusion(asked, now, now.arithmetic)
    seconds = time.perf_counter() - begun
    images = (order.steps - at.steps_done) * order.size
    return Epoch(
        at.epochs_done + 1,
        whole.loss_sum / order.steps,
        accuracy(counted),
        now.rate((at.epochs_done + 1) * order.steps - 1),
        seconds,
        images / seconds,
        whole.right_sum * now.world.size / (order.steps * order.size),
        sums.curve(),
    )


def _confusion(asked: Asked, now: Running, arithmetic: Arithmetic, module: nn.Module | None = None) -> Any:
    spec, order = asked.model.spec, now.feed.order
    size = BATCH if now.parts.count == asked.recipe.accumulate else order.size // now.parts.count  # memory ran out
    return confusion(
        module or now.kept, asked.data.val, spec.preprocess, now.device, arithmetic, len(spec.labels), now.world,
        size=size,
    )  # fmt: skip


def _warning(asked: Asked, now: Running, result: Epoch, *, drifts: bool, last: bool) -> str:
    """Return what is wrong with an epoch's accuracies, "" where nothing is."""
    spec, val, chance = asked.model.spec, asked.data.val, commonest(asked.data.val.labels)
    if drifts:
        with_batches = accuracy_with_batches(
            now.kept, val, spec.preprocess, now.device, now.arithmetic, len(spec.labels), asked.seed
        )
        little = learned_little(result.train_accuracy, result.accuracy, len(val), chance)
        reason = why_drifted(result.train_accuracy, result.accuracy, with_batches, little=little)
        if reason:
            return reason
    if last and no_better(result.accuracy, len(val), chance) and len(spec.labels) > 1:
        return why_little(result.accuracy, len(val), chance)
    return ""


def _arithmetic_record(arithmetic: Arithmetic) -> dict[str, Any]:
    """What run.json says of the number format; the ratio only where it was timed."""
    ratio = {} if arithmetic.ratio is None else {"bf16_times_as_fast": arithmetic.ratio}
    return {"name": arithmetic.name, "reason": arithmetic.reason, **ratio}


def _finish(
    asked: Asked, now: Running, out: Path, parent: str, started: float, watcher: Watcher, arithmetic: dict[str, Any]
) -> Run:
    """Weights, run.json and pictures, by the first process; the checkpoint is not needed any more."""
    model, module, world = asked.model, now.module, now.world
    if now.average is not None:
        module.load_state_dict(now.kept.state_dict())
    learned = None
    if asked.standin is not None:
        learned = asked.standin.finish(model.module, accuracy(_confusion(asked, now, now.arithmetic, module)))
        module = model.module.to(now.device)
    module = module.to(memory_format=torch.contiguous_format).eval()
    counted = _confusion(asked, now, Arithmetic("fp32", None, "final"), module)
    run = Run(
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
        origin=model.origin,
        spec=model.spec,
        weights=model.weights,
        reached=Reached(asked.data.name, "val", len(asked.data.val), accuracy(counted)),
        recipe=as_mapping(asked.recipe),
        device=f"{now.device.type}, {now.arithmetic.name}" + (f", {world.size} processes" if world.size > 1 else ""),
        seconds=round(time.perf_counter() - started, 1),
        seed=asked.seed,
        parent=parent,
        versions={"torch": str(torch.__version__), "python": platform.python_version()},
        learned=learned,
        freeze=asked.freeze,
        pruned=dict(asked.recovery.record),
        arithmetic=arithmetic,
    )
    if world.first:
        weights_io.save(out / WEIGHTS, module)
        if asked.recovery.written is not None:
            asked.recovery.written(module, out / WEIGHTS)
        write_run(out, run)
        (out / CHECKPOINT).unlink(missing_ok=True)
        try:
            draw_run(out, counted.numpy(), model.spec, asked.recipe, now.feed.order.steps)
        except UnavailableError as error:  # the run is whole without them
            watcher.warn(f"no pictures: {error}")
    module.to("cpu")
    return run
