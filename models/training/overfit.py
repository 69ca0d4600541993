"""Whether a model can learn at all: one batch, again and again, until it knows it by heart.

What cannot learn one batch has labels that do not belong to its images, a loss that is not wired to its weights, or a
learning rate that is far off; an epoch on all the data would only say so later (Karpathy 2019, A Recipe for Training
Neural Networks).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import nn

from ..data.dataset import Dataset
from ..sources import Model
from .feed import make_feed
from .health import gradient_norm, not_finite
from .prepare import make_prepare
from .recipe import Recipe
from .setup import refuse_untrainable
from .step import choose_arithmetic, hardware, make_optimiser, train_step

STEPS, IMAGES = 150, 32
KNOWN = 0.99  # of the batch


@dataclass(frozen=True)
class Overfitted:
    """What came of one batch.

    Attributes:
        images: in it.
        steps: that were made; fewer than asked for where it was known before.
        first, last: the loss.
        right: share of the batch that is answered rightly, with the statistics of the batch.
    """

    images: int
    steps: int
    first: float
    last: float
    right: float

    @property
    def learned(self) -> bool:
        """Whether it knows the batch by heart."""
        return self.right >= KNOWN


def overfit_batch(
    model: Model,
    data: Dataset,
    recipe: Recipe,
    *,
    device: str = "cpu",
    seed: int = 0,
    steps: int = STEPS,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Overfitted:
    """Train on one batch, without augmentation, smoothing and decay, at half of the recipe's rate.

    Nothing is written; the module is changed, and loses its dropout.

    Raises:
        UsageError: no images, nothing to train, or a loss that is no number any more.
    """
    refuse_untrainable(model, data)
    target = torch.device(device)
    arithmetic = choose_arithmetic(recipe.precision, hardware(target))
    plain = replace(
        recipe, batch_size=min(recipe.batch_size, IMAGES), accumulate=1, label_smoothing=0.0, weight_decay=0.0,
        mirror=False, shift=0, cutout=0, mixup=0.0, cutmix=0.0, lr=recipe.lr / 2, clip=recipe.clip or 1.0,
    )  # fmt: skip
    module = model.module.to(target).to(memory_format=torch.channels_last).train()
    _without_dropout(module)
    images, labels = next(iter(make_feed(data.train, model.spec.preprocess, plain, target, seed).epoch(0)))
    prepare = make_prepare(model.spec.preprocess, plain, len(model.spec.labels), target, None, mirror=False)
    inputs, targets = prepare(images, labels, 0)
    optimiser = make_optimiser(module, plain, target)
    scaler = torch.amp.GradScaler(target.type, enabled=arithmetic.dtype is torch.float16)
    losses: list[float] = []
    right = 0.0
    for step in range(steps):
        losses.append(float(train_step(module, optimiser, scaler, arithmetic, plain, inputs, targets)))
        if not math.isfinite(losses[-1]):
            raise not_finite(0, step, plain.lr, gradient_norm(module), arithmetic.name)
        progress(step + 1, steps)
        if (step + 1) % 10 == 0 or step + 1 == steps:
            right = _right(module, inputs, targets)
            if right == 1.0 and losses[-1] < 0.1:
                break
    module.to("cpu")
    return Overfitted(len(labels), len(losses), losses[0], losses[-1], right)


def _right(module: nn.Module, inputs: torch.Tensor, targets: torch.Tensor) -> float:
    """With the statistics of the batch: those that were gathered lag behind so few steps."""
    with torch.no_grad():
        outputs = module(inputs.to(memory_format=torch.channels_last))
    main = outputs[0] if isinstance(outputs, tuple) else outputs
    return float((main.argmax(1) == targets).float().mean())


def _without_dropout(module: nn.Module) -> None:
    for part in module.modules():
        if isinstance(part, nn.modules.dropout._DropoutNd):
            part.p = 0.0
