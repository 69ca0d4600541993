"""The exponential moving average of the weights, which is what is evaluated and kept where a recipe asks for it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


def make_average(module: nn.Module, decay: float) -> AveragedModel:
    """A copy of a module that follows it: `update_parameters(module)` after each step, then `average.module`.

    The decay is min(decay, (1 + n) / (10 + n)) after n steps, so that a short training forgets its beginning
    (TensorFlow's ExponentialMovingAverage). Statistics of batch norms are averaged like weights. Nothing in an update
    waits for the device: the count is read from `n_averaged`, which is on the host, and not from the copy of it on the
    device that torch hands over.

    Args:
        module: on its device.
        decay: such as 0.999.
    """

    @torch.no_grad()
    def follow(
        kept: tuple[Tensor, ...] | list[Tensor], now: tuple[Tensor, ...] | list[Tensor], _count: Tensor | int
    ) -> None:
        done = int(average.n_averaged)
        if kept[0].is_floating_point():
            torch._foreach_lerp_(kept, now, 1 - min(decay, (1 + done) / (10 + done)))
        else:  # counters of batch norms
            for one, other in zip(kept, now, strict=True):
                one.copy_(other)

    average = AveragedModel(module, multi_avg_fn=follow, use_buffers=True)
    return average
