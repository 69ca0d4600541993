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
from .feed import Feed
from .health import CHECK_EVERY, Health, gradient_norm, not_finite
from .prepare import Prepare
from .recipe import Recipe
from .schedules import learning_rate
from .step import Arithmetic, train_step

SAVE_SECONDS = 300.0  # between checkpoints inside an epoch


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


@dataclass(frozen=True)
class Running:
    """What a training holds while it goes on."""

    module: nn.Module
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    average: AveragedModel | None
    arithmetic: Arithmetic
    recipe: Recipe
    feed: Feed
    prepare: Prepare
    standin: Standin | None
    device: torch.device

    @property
    def kept(self) -> nn.Module:
        """What is evaluated, and saved in the end."""
        return self.module if self.average is None else self.average.module

    def step(self, number: int, images: Tensor, labels: Tensor) -> tuple[Tensor, float]:
        """One step, by its number from the start of the training; its loss, on the device, and its learning rate."""
        steps = self.recipe.epochs * self.feed.steps
        if self.standin is not None:
            self.standin.at(number / steps)
        lr = learning_rate(self.recipe, number, steps)
        for group in self.optimiser.param_groups:
            group["lr"] = lr
        inputs, targets = self.prepare(images, labels, number)
        loss = train_step(self.module, self.optimiser, self.scaler, self.arithmetic, self.recipe, inputs, targets)
        if self.average is not None:
            self.average.update_parameters(self.module)
        return loss, lr


def run_epoch(
    now: Running, at: Place, watcher: Watcher, save: Callable[[Place], None], asked_to_stop: Callable[[], bool]
) -> tuple[bool, float, float]:
    """The rest of an epoch: whether it came to its end, its mean loss, and its last learning rate.

    The device is waited for once in `CHECK_EVERY` steps, and before something is saved, which has been looked at then.
    """
    epoch, steps = at.epochs_done, now.feed.steps
    total = torch.full((), at.loss_sum, device=now.device)
    health, saved, lr = Health(now.device), time.perf_counter(), 0.0
    now.module.train()
    for step, (images, labels) in enumerate(now.feed.epoch(epoch, at.steps_done), start=at.steps_done):
        loss, lr = now.step(epoch * steps + step, images, labels)
        total += loss
        health.see(step, loss)
        watcher.step(epoch, now.recipe.epochs, step + 1, steps)
        last, stop = step + 1 == steps, asked_to_stop()
        due = stop or time.perf_counter() - saved > SAVE_SECONDS
        if (step + 1) % CHECK_EVERY == 0 or last or due:
            bad = health.first_bad()
            if bad is not None:
                raise not_finite(epoch, bad, lr, gradient_norm(now.module), now.arithmetic.name)
        if due and not last:
            save(Place(epoch, step + 1, float(total)))
            saved = time.perf_counter()
            if stop:
                return False, 0.0, lr
    return True, float(total) / steps, lr
