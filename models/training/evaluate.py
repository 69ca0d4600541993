"""How good the module is between two epochs: its confusion matrix, counted on the device."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from ..data.dataset import Split, batches
from ..spec import Preprocess
from . import augment
from .diagnosis import batch_statistics
from .prepare import constants
from .step import Arithmetic
from .world import ALONE, World

BATCH = 256
SOME = 1024  # images that tell the statistics of batches from the running ones


@torch.inference_mode()
def confusion(
    module: nn.Module,
    split: Split,
    preprocess: Preprocess,
    device: torch.device,
    arithmetic: Arithmetic,
    classes: int,
    world: World = ALONE,
    *,
    size: int = BATCH,
    eval_mode: bool = True,
) -> Tensor:
    """How often each class (row) was answered with each (column): int64 classes x classes, on the host.

    Each of several processes sees its own part of the images, none of them twice. The device is waited for at the end.

    Args:
        module: on the device; left in evaluation mode.
        split: the images.
        preprocess: of the model.
        device: where it runs.
        arithmetic: of the forward pass.
        classes: of the answers.
        world: the processes.
        size: images of a batch.
        eval_mode: False leaves the module's mode as it is.
    """
    if eval_mode:
        module.eval()
    factor, offset = constants(preprocess, device)
    counted = torch.zeros(classes * classes, dtype=torch.int64, device=device)
    mine = split if world.size == 1 else split.take(np.arange(world.rank, len(split), world.size))
    for pixels, labels in batches(mine, preprocess, size):
        images = torch.from_numpy(np.ascontiguousarray(pixels)).to(device)
        inputs = augment.normalise(images, factor, offset).to(memory_format=torch.channels_last)
        with arithmetic.on(device.type):
            answers = module(inputs).argmax(1)
        places = torch.from_numpy(labels).to(device) * classes + answers
        counted.scatter_add_(0, places, torch.ones_like(places))
    return world.total(counted).reshape(classes, classes).cpu()


def accuracy(counted: Tensor) -> float:
    """The share of the diagonal, in [0, 1]."""
    return int(counted.diagonal().sum()) / max(1, int(counted.sum()))


def accuracy_with_batches(
    module: nn.Module,
    split: Split,
    preprocess: Preprocess,
    device: torch.device,
    arithmetic: Arithmetic,
    classes: int,
    seed: int,
) -> float | None:
    """On at most 1,024 images drawn with the seed, with the statistics of their batches; None without batch norms."""
    chosen = np.random.default_rng(seed).permutation(len(split))[:SOME]
    module.eval()
    with batch_statistics(module) as any_norms:
        if not any_norms:
            return None
        found = confusion(module, split.take(chosen), preprocess, device, arithmetic, classes, eval_mode=False)
    return accuracy(found)
