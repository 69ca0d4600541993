"""Fake quantisation: of activations by a moving average of their extremes, of weights by their own.

Nothing here waits for the device. torchao's class for affine activations watches and rounds in one kernel. Its
symmetric mode is affine where a tensor has one sign, which no target's is, so symmetric activations have a class here.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchao.quantization.pt2e import FusedMovingAvgObsFakeQuantize, MovingAverageMinMaxObserver
from torchao.quantization.pt2e.fake_quantize import FakeQuantizeBase

from .quantize import SMALLEST


class AffineActivation(FusedMovingAvgObsFakeQuantize):
    """uint8 with a zero point; torchao's, with the names of the other one."""

    def extremes(self) -> tuple[float, float]:
        """The moving averages."""
        return float(self.activation_post_process.min_val), float(self.activation_post_process.max_val)


class _Switched(FakeQuantizeBase):
    """Beside torchao's buffers, which the device alone knows, flags that can be read without waiting for it."""

    def __init__(self) -> None:
        super().__init__()
        self.is_dynamic = False
        self._rounds = self._watches = True

    def enable_fake_quant(self, enabled: bool = True) -> None:
        """Round, or let numbers pass."""
        super().enable_fake_quant(enabled)
        self._rounds = enabled

    def enable_observer(self, enabled: bool = True) -> None:
        """Follow the extremes, or leave the range as it is."""
        super().enable_observer(enabled)
        self._watches = enabled

    def calculate_qparams(self, **kwargs: Any) -> None:
        """Not to be had: nothing is converted by torchao, ranges and weights go to the targets' own writers."""
        raise NotImplementedError


class SymmetricActivation(_Switched):
    """int8 with zero in the middle, also of a tensor that is never negative."""

    low: Tensor
    high: Tensor

    def __init__(self, averaging_constant: float, quant_min: int = -127, quant_max: int = 127, **facts: Any) -> None:
        super().__init__()
        self.momentum, self.quant_min, self.quant_max = averaging_constant, quant_min, quant_max
        self.dtype, self.qscheme = facts.get("dtype", torch.int8), facts.get("qscheme", torch.per_tensor_symmetric)
        self.register_buffer("low", torch.tensor(float("inf")))
        self.register_buffer("high", torch.tensor(float("-inf")))

    def extremes(self) -> tuple[float, float]:
        """The moving averages."""
        return float(self.low), float(self.high)

    def forward(self, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride] - torchao's says None
        """Rounded to the grid; the gradient passes straight through where nothing was clipped."""
        if self._watches:
            for mine, seen in zip((self.low, self.high), torch.aminmax(x.detach().float()), strict=True):
                mine.copy_(torch.where(mine.isinf(), seen, mine + self.momentum * (seen - mine)))
        if not self._rounds:
            return x
        scale = (torch.maximum(-self.low, self.high) / self.quant_max).clamp_min(SMALLEST)
        zero = torch.zeros_like(scale, dtype=torch.int32)
        return torch.fake_quantize_per_tensor_affine(x, scale, zero, self.quant_min, self.quant_max)


class PerChannelWeight(_Switched):
    """A symmetric scale for each slice along `ch_axis`, from the weights as they are: what an export will round by.

    With `half` it is the scale as float16 holds it, for targets that store it so.
    """

    is_weight = True

    def __init__(
        self, quant_min: int = -127, quant_max: int = 127, ch_axis: int = 0, half: bool = False, **facts: Any
    ) -> None:
        super().__init__()
        self.quant_min, self.quant_max, self.ch_axis, self.half_scales = quant_min, quant_max, ch_axis, half
        self.dtype, self.qscheme = facts.get("dtype", torch.int8), facts.get("qscheme", torch.per_channel_symmetric)

    def scales(self, weight: Tensor) -> Tensor:
        """One a slice."""
        others = [dim for dim in range(weight.ndim) if dim != self.ch_axis]
        scales = (weight.detach().abs().amax(others) / self.quant_max).clamp_min(SMALLEST)
        return scales.half().float().clamp_min(torch.finfo(torch.float16).tiny) if self.half_scales else scales

    def forward(self, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride] - torchao's says None
        """Rounded to the grid; the gradient passes straight through."""
        if not self._rounds:
            return x
        scales = self.scales(x)
        zeros = torch.zeros_like(scales)  # as floats: of integers torch asks the device whether they are in range
        return torch.fake_quantize_per_channel_affine(x, scales, zeros, self.ch_axis, self.quant_min, self.quant_max)


def activation(symmetric: bool, momentum: float) -> Any:
    """A constructor of what rounds activations, as torchao's specs want it."""
    if symmetric:
        return SymmetricActivation.with_args(averaging_constant=momentum)
    return AffineActivation.with_args(observer=MovingAverageMinMaxObserver, averaging_constant=momentum)
