"""A step and an epoch: what happens between one checkpoint and the next, and who is told of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from ..runs import Learned
from .checkpoint import Place
from .feed import Batch, Feed
from .health import CHECK_EVERY, NEVER, Health, not_finite
from .memory import Parts
from .prepare import Prepare
from .recipe import Recipe
from .schedules import learning_rate
from .step import Arithmetic, Stepped, Teacher, Zeros, gradients, update
from .world import World

SAVE_SECONDS = 300.0  # between checkpoints inside an epoch
AGREE_EVERY = 10  # steps after which several processes ask each other whether to stop or to save
CURVE = 50  # points of an epoch's curve


@dataclass(frozen=True)
class Epoch:
    """What one epoch came to.

    Attributes:
        epoch: from 1.
        loss: the mean over its steps.
        accuracy: on the validation images.
        lr: of its last step.
        seconds: of its steps and its evaluation.
        images_per_second: of both together.
        train_accuracy: on the training images as they were augmented, while they were learned from.
        curve: mean losses of at most 50 equal parts of the epoch.
    """

    epoch: int
    loss: float
    accuracy: float
    lr: float
    seconds: float
    images_per_second: float
    train_accuracy: float = 0.0
    curve: tuple[float, ...] = ()


class Sums:
    """What the steps of an epoch came to, on the device until it is asked for.

    Args:
        at: the sums of steps that were made before.
        steps: of the whole epoch.
        device: of the losses.
        world: the processes that each see a part of a batch.
    """

    def __init__(self, at: Place, steps: int, device: torch.device, world: World) -> None:
        self._first, self._world = at.steps_done, world
        self._losses = torch.zeros(steps, device=device)
        self._sums = torch.tensor([at.loss_sum, at.right_sum], dtype=torch.float64, device=device)

    def add(self, step: int, done: Stepped) -> None:
        """Count a step; nothing waits."""
        self._losses[step] = done.loss
        self._sums += torch.stack([done.loss, done.right])

    def place(self, epoch: int, steps: int) -> Place:
        """Where a training stands after so many steps of an epoch; waits for the device."""
        loss, right = (self._world.total(self._sums.clone()) / self._world.size).tolist()
        return Place(epoch, steps, loss, right)

    def curve(self) -> tuple[float, ...]:
        """Mean losses of equal parts of the steps that were made here; waits for the device."""
        losses = self._world.total(self._losses.clone())[self._first :] / self._world.size
        return tuple(float(part.mean()) for part in losses.cpu().tensor_split(min(CURVE, len(losses))))


@dataclass(frozen=True)
class Watcher:
    """What training tells while it goes on; the defaults tell nobody."""

    start: Callable[[str], None] = lambda _text: None
    step: Callable[[int, int, int, int], None] = lambda _epoch, _epochs, _step, _steps: None
    epoch: Callable[[Epoch], None] = lambda _result: None
    warn: Callable[[str], None] = lambda _text: None


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


@dataclass(frozen=True)
class Running:
    """What a training holds while it goes on.

    Attributes:
        module: whose weights are trained.
        forward: the module as it is called: itself, compiled, or one of several processes'.
        frozen: parts of it that stay as they are.
        optimiser: over its parameters.
        scaler: of losses in fp16.
        average: the moving average of the weights, where there is one.
        arithmetic: of the forward pass.
        recipe: the numbers.
        feed: batches on the device.
        prepare: from a batch to inputs and targets.
        weights: of the classes in the loss.
        teacher: whose answers are learned from too.
        zeros: weights that stay zero.
        parts: that a batch is computed in.
        standin: what is trained in a module's place.
        world: the processes.
        device: of all of it.
    """

    module: nn.Module
    forward: nn.Module
    frozen: tuple[nn.Module, ...]
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    average: AveragedModel | None
    arithmetic: Arithmetic
    recipe: Recipe
    feed: Feed
    prepare: Prepare
    weights: Tensor | None
    teacher: Teacher | None
    zeros: Zeros
    parts: Parts
    standin: Standin | None
    world: World
    device: torch.device

    @property
    def kept(self) -> nn.Module:
        """What is evaluated, and saved in the end."""
        return self.module if self.average is None else self.average.module

    def rate(self, number: int) -> float:
        """The learning rate of a step, by its number from the start of the training."""
        return learning_rate(self.recipe, number, self.recipe.epochs * self.feed.order.steps)

    def step(self, epoch: int, number: int, batch: Batch) -> Stepped:
        """One step: forward, backward, update. Nothing waits for the device."""
        if self.standin is not None:
            self.standin.at(number / (self.recipe.epochs * self.feed.order.steps))
        inputs, targets = self.prepare(batch, epoch, number)

        def backward(parts: int) -> tuple[Tensor, Tensor]:
            self.optimiser.zero_grad(set_to_none=True)
            return gradients(
                self.forward,
                self.scaler,
                self.arithmetic,
                self.recipe,
                inputs,
                targets,
                parts,
                self.weights,
                self.teacher,
            )

        loss, right = self.parts.run(len(inputs), backward)
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate(number) * group["scale"]
        norm = update(self.module, self.optimiser, self.scaler, self.recipe.clip)
        self.zeros.keep()
        if self.average is not None:
            self.average.update_parameters(self.module)
        return Stepped(loss, right, norm)

    def train(self) -> None:
        """Training mode, but for what is frozen."""
        self.forward.train()
        for part in self.frozen:
            part.eval()


def run_epoch(
    now: Running, at: Place, watcher: Watcher, save: Callable[[Place], None], asked_to_stop: Callable[[], bool]
) -> Sums | None:
    """The rest of an epoch; what its steps came to, or None where it was stopped, and saved.

    The device is waited for once in `CHECK_EVERY` steps, and before something is saved, which has been looked at then.
    """
    epoch, steps = at.epochs_done, now.feed.order.steps
    sums, saved = Sums(at, steps, now.device, now.world), time.perf_counter()
    health = Health(now.device)
    now.train()
    for step, batch in enumerate(now.feed.epoch(epoch, at.steps_done), start=at.steps_done):
        done = now.step(epoch, epoch * steps + step, batch)
        sums.add(step, done)
        health.see(step, done.loss, None if now.scaler.is_enabled() else done.norm)
        watcher.step(epoch, now.recipe.epochs, step + 1, steps)
        last = step + 1 == steps
        stop = due = False
        if now.world.size == 1 or (step + 1) % AGREE_EVERY == 0 or last:
            stop = now.world.any(asked_to_stop())
            due = stop or now.world.any(time.perf_counter() - saved > SAVE_SECONDS)
        if (step + 1) % CHECK_EVERY == 0 or last or due:
            first = now.world.least(health.first())
            if first < NEVER:
                raise not_finite(epoch, health.bad(first), now.rate(epoch * steps + first), now.arithmetic.name)
        if due and not last:
            save(sums.place(epoch, step + 1))
            saved = time.perf_counter()
            if stop:
                return None
    return sums
