"""What a training starts from, and all that it holds while it goes on."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...config import near
from ...errors import UnavailableError, UsageError
from ..blocks import zero_residuals
from ..data.dataset import Dataset
from ..processors import THREADS, cpus
from ..sources import Model
from .average import make_average
from .draws import Draws
from .epoch import Running, Standin
from .feed import make_feed
from .memory import Parts
from .order import Order, class_weights
from .precision import choose_arithmetic, trial_of
from .prepare import make_prepare
from .recipe import Recipe
from .step import Teacher, Zeros, make_optimiser, settle_norms
from .world import World


@dataclass(frozen=True)
class Recovery:
    """What a training has beside its recipe when it brings back what pruning took.

    Attributes:
        teacher: a module whose answers are learned from, by the recipe's `distil`.
        record: what was removed, for run.json.
        sparse: parameters whose zeros stay zeros.
        enough: is asked after each epoch, with the module as it is then; a reason to stop, or "".
        written: is called with the module and its weights file before run.json makes the folder a finished run; it
            raises an error where the run could not be opened again, and the checkpoint stays.
    """

    teacher: nn.Module | None = None
    record: Mapping[str, Any] = field(default_factory=dict)
    sparse: tuple[str, ...] = ()
    enough: Callable[[nn.Module], str] | None = None
    written: Callable[[nn.Module, Path], None] | None = None


@dataclass(frozen=True)
class Asked:
    """What a training is made of, beside the files it writes.

    Attributes:
        model: what `fresh.new_model` gave; its module is trained in place.
        data: with as many classes as the model has.
        recipe: the numbers.
        device: where it runs.
        seed: of the order of images and of the augmentation.
        freeze: the last module that stays as it is; "" for none.
        threads: that decode images; None for what suits the machine.
        standin: is trained in the module's place.
        recovery: what pruning adds.
    """

    model: Model
    data: Dataset
    recipe: Recipe
    device: torch.device
    seed: int = 0
    freeze: str = ""
    threads: int | None = None
    standin: Standin | None = None
    recovery: Recovery = field(default_factory=Recovery)


def begin(
    asked: Asked, world: World, told: Callable[[str], None], arithmetic: str = ""
) -> tuple[Running, torch.Generator]:
    """Put the model on its device and make all that a step needs; the generator is of the augmentation.

    Args:
        asked: the training.
        world: the processes.
        told: is given a line of what a person should know.
        arithmetic: what a training that is resumed began with; "" for one that begins.

    Raises:
        UsageError: a contradiction between model, recipe and what is asked for.
        UnavailableError: what this device or torch cannot do.
    """
    model, recipe, device, labels = asked.model, asked.recipe, asked.device, asked.data.train.labels
    refuse_contradictions(asked, world)
    limit_torch(os.environ, world.local_size)
    frozen = prepare_start(model, recipe, asked.freeze)
    module = model.module
    if asked.standin is not None:
        told("tracing the model for what is trained in its place")
        module = asked.standin.start(module)
    module = module.to(device=device)
    if all(one.ndim < 5 for one in module.parameters()):  # of three-dimensional convolutions there is no such format
        module = module.to(memory_format=torch.channels_last)
    if recipe.sync_norms and world.size == 1:
        told("sync_norms: this is one process, and its batch norms see all images")
    elif recipe.sync_norms:
        module = nn.SyncBatchNorm.convert_sync_batchnorm(module)

    classes = len(model.spec.labels)
    teacher = taught_by(asked.recovery.teacher, recipe, device)
    chosen = choose_arithmetic(
        recipe, device, world, lambda: trial_of(module, frozen, recipe, model.spec.input, classes, teacher),
        math.ceil(recipe.batch_size / world.size / recipe.accumulate), arithmetic,
    )  # fmt: skip
    told(f"{chosen.name} on {device.type}: {chosen.reason}")
    weights = class_weights(labels, classes)
    drawn = weights[labels] if recipe.balance == "sampling" else None
    order = Order(len(labels), recipe.batch_size, asked.seed, world, drawn)
    feed = make_feed(asked.data.train, model.spec.preprocess, recipe, device, order, asked.threads)
    settle_norms(module, order.steps)
    generator = torch.Generator(device).manual_seed(asked.seed)
    prepare = make_prepare(
        model.spec.preprocess, recipe, classes, Draws(device, generator, world), device,
        mirror=asked.data.mirror, crop=not feed.cropped, seed=asked.seed,
    )  # fmt: skip
    running = Running(
        module=module,
        forward=as_called(module, recipe, device, world),
        frozen=frozen,
        optimiser=make_optimiser(module, recipe, device, model.fresh or ()),
        scaler=torch.amp.GradScaler(device.type, enabled=chosen.dtype is torch.float16),
        average=make_average(module, recipe.average) if recipe.average else None,
        arithmetic=chosen,
        recipe=recipe,
        feed=feed,
        prepare=prepare,
        weights=torch.from_numpy(weights).float().to(device) if recipe.balance == "loss" else None,
        teacher=teacher,
        zeros=Zeros(module, asked.recovery.sparse),
        parts=Parts(recipe.accumulate, told, alone=world.size == 1),
        standin=asked.standin,
        world=world,
        device=device,
    )
    return running, generator


def taught_by(module: nn.Module | None, recipe: Recipe, device: torch.device) -> Teacher | None:
    """The teacher on the device; none where the recipe wants none.

    Raises:
        UsageError: the recipe wants one, and there is none.
    """
    if not recipe.distil:
        return None
    if module is None:
        raise UsageError(f"distil={recipe.distil} needs a teacher, and only pruning has one", fix="--set distil=0")
    module = module.to(device=device).to(memory_format=torch.channels_last).eval()
    return Teacher(module.requires_grad_(False), recipe.distil, recipe.temperature)


def as_called(module: nn.Module, recipe: Recipe, device: torch.device, world: World) -> nn.Module:
    """The module as a step calls it: shared between processes, compiled, or itself; the weights are the module's."""
    forward = module
    if world.size > 1:
        forward = nn.parallel.DistributedDataParallel(forward, [device] if device.type == "cuda" else None)
    if recipe.compile:
        forward = torch.compile(forward)
    return forward  # pyright: ignore[reportReturnType] - torch.compile of a module is one


def refuse_contradictions(asked: Asked, world: World) -> None:
    """Raise UsageError or UnavailableError for what does not go together, before anything is changed."""
    if asked.standin is not None:
        wrong = {
            "--freeze": bool(asked.freeze),
            "zero_init": asked.recipe.zero_init,
            "old_lr": asked.recipe.old_lr != 1,
            "compile": asked.recipe.compile,
            "torchrun": world.size > 1,
        }
        named = [name for name, given in wrong.items() if given]
        if named:
            raise UsageError(f"--qat does not go with {', '.join(named)}", fix="leave it out")
    if asked.recipe.compile and asked.device.type == "cpu" and not any(map(shutil.which, ("c++", "g++", "clang++"))):
        raise UnavailableError("torch.compile needs a C++ compiler, and none is here", fix="--set compile=false")
    if asked.recipe.sync_norms and world.size > 1 and asked.device.type != "cuda":
        raise UnavailableError("torch has SyncBatchNorm on GPUs only", fix="--set sync_norms=false")


def prepare_start(model: Model, recipe: Recipe, freeze: str) -> tuple[nn.Module, ...]:
    """Do to the module, in place, what recipe and `freeze` ask for; the frozen parts of it.

    Args:
        model: freshly made, or with weights.
        recipe: zero_init and old_lr.
        freeze: the last module, in the order of their definition, whose parameters and statistics stay; "" for none.

    Raises:
        UsageError: a contradiction, such as zero_init of a model with weights.
    """
    started = model.fresh is not None
    if recipe.zero_init:
        if started:
            raise UsageError("zero_init is for a training from scratch, this one has weights", fix="zero_init=false")
        if not zero_residuals(model.module):
            raise UsageError(
                f"zero_init: {model.spec.name} has no residual branches that zoo knows", fix="zero_init=false"
            )
    if recipe.old_lr != 1 and not model.fresh:
        why = "every layer came with weights" if started else "no layer came with weights"
        raise UsageError(f"old_lr={recipe.old_lr} tells old layers from fresh ones, but {why}", fix="set lr instead")
    if not freeze:
        return ()
    if not started:
        raise UsageError(f"--freeze {freeze} would keep layers as they were drawn at random", fix="give --weights")
    return frozen_up_to(model.module, freeze)


def frozen_up_to(module: nn.Module, name: str) -> tuple[nn.Module, ...]:
    """Freeze every module up to `name`, in place; those that hold parameters or statistics themselves.

    Raises:
        UsageError: no module of that name, or nothing behind it.
    """
    names = [one for one, _ in module.named_modules() if one]
    if name not in names:
        raise UsageError(
            f'--freeze: no module "{name}"{near(name, names)}',
            fix=f"the first level has {', '.join(one for one, _ in module.named_children())}",
        )
    last = max(index for index, one in enumerate(names) if one == name or one.startswith(f"{name}."))
    parts = dict(module.named_modules())
    frozen = [parts[one] for one in names[: last + 1] if not any(parts[one].children())]
    for part in frozen:
        part.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in module.parameters()):
        raise UsageError(f"--freeze {name} leaves nothing to train", fix=f"name a module before {name}")
    return tuple(frozen)


def limit_torch(environment: Mapping[str, str], processes: int) -> None:
    """Let torch compute on no more threads than this process has CPUs; what a person has set stays.

    Args:
        environment: whose OMP_NUM_THREADS is what a person, or torchrun, has set.
        processes: of this training on this machine.
    """
    most = max(1, cpus() // processes)
    if THREADS not in environment and most < torch.get_num_threads():
        torch.set_num_threads(most)
