"""Whether a model can learn at all: one batch, again and again, until it knows it by heart.

What cannot learn one batch has labels that do not belong to its images, a loss that is not wired to its weights, or a
learning rate that is far off; an epoch on all the data would only say so later (Karpathy 2019, A Recipe for Training
Neural Networks).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import nn

from ..data.dataset import Dataset
from ..sources import Model
from .health import NEVER, Health, not_finite
from .recipe import WHOLE, Recipe
from .setup import refuse_untrainable
from .start import Asked, begin
from .world import ALONE

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
    freeze: str = "",
    steps: int = STEPS,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Overfitted:
    """Train on one batch, without augmentation, smoothing and decay, at half of the recipe's rate.

    Nothing is written; the module is changed, and loses its dropout.

    Raises:
        UsageError: no images, nothing to train, or a loss that is no number any more.
    """
    refuse_untrainable(model, data)
    plain = replace(
        recipe, batch_size=min(recipe.batch_size, IMAGES), accumulate=1, label_smoothing=0.0, weight_decay=0.0,
        mirror="never", shift=0, cutout=0, mixup=0.0, cutmix=0.0, area=WHOLE, lr=recipe.lr / 2, clip=recipe.clip or 1.0,
        average=0.0, distil=0.0, balance="none", schedule="constant", warmup=0.0, epochs=1,
    )  # fmt: skip
    now, _ = begin(Asked(model, data, plain, torch.device(device), seed, freeze), ALONE, told=lambda _text: None)
    _without_dropout(now.module)
    batch = next(iter(now.feed.epoch(0)))
    inputs, targets = now.prepare(batch, 0, 0)
    health = Health(now.device)
    losses: list[float] = []
    right = 0.0
    now.train()
    for step in range(steps):
        done = now.step(0, 0, batch)
        losses.append(float(done.loss))
        health.see(step, done.loss, None if now.scaler.is_enabled() else done.norm)
        if health.first() < NEVER:
            raise not_finite(0, health.bad(step), plain.lr, now.arithmetic.name)
        progress(step + 1, steps)
        if (step + 1) % 10 == 0 or step + 1 == steps:
            right = _right(now.module, inputs, targets)
            if right == 1.0 and losses[-1] < 0.1:
                break
    now.module.to("cpu")
    return Overfitted(len(targets), len(losses), losses[0], losses[-1], right)


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
