"""The two kinds of fake quantisation: of activations by a moving average of their extremes, of weights by their own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchao.quantization.pt2e import FusedMovingAvgObsFakeQuantize, MovingAverageMinMaxObserver
from torchao.quantization.pt2e.fake_quantize import FakeQuantizeBase

from .quantize import SMALLEST


def activation_fake_quantise(momentum: float) -> Any:
    """A constructor of torchao's, which watches and rounds in one kernel, as its specs want it."""
    return FusedMovingAvgObsFakeQuantize.with_args(observer=MovingAverageMinMaxObserver, averaging_constant=momentum)


class PerChannelWeight(FakeQuantizeBase):
    """A symmetric scale for each slice along `ch_axis`, from the weights as they are: what an export will round by."""

    is_weight = True

    def __init__(self, quant_min: int = -127, quant_max: int = 127, ch_axis: int = 0, **facts: Any) -> None:
        super().__init__()
        self.quant_min, self.quant_max, self.ch_axis = quant_min, quant_max, ch_axis
        self.dtype, self.qscheme = facts.get("dtype", torch.int8), facts.get("qscheme", torch.per_channel_symmetric)
        self.is_dynamic = False
        self._rounds = True  # beside torchao's buffer, which only the device knows: reading it would wait for it

    def enable_fake_quant(self, enabled: bool = True) -> None:
        """Round, or let weights pass."""
        super().enable_fake_quant(enabled)
        self._rounds = enabled

    def scales(self, weight: Tensor) -> Tensor:
        """One a slice."""
        others = [dim for dim in range(weight.ndim) if dim != self.ch_axis]
        return (weight.detach().abs().amax(others) / self.quant_max).clamp_min(SMALLEST)

    def calculate_qparams(self, **kwargs: Any) -> None:
        """Not to be had: weights have no range beside their own."""
        raise NotImplementedError("the scales of weights are those of the weights: see `scales`")

    def forward(self, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride] - torchao's says None
        """Rounded to the grid; the gradient passes straight through."""
        if not self._rounds:
            return x
        scales = self.scales(x)
        zeros = torch.zeros_like(scales)  # as floats: of integers torch asks the device whether they are in range
        return torch.fake_quantize_per_channel_affine(x, scales, zeros, self.ch_axis, self.quant_min, self.quant_max)
