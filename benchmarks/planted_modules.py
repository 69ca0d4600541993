"""Faults that a module can have: each returns the module with its fault, None where this network cannot have it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

Plant = Callable[[nn.Module], nn.Module | None]


class _Around(nn.Module):
    def __init__(self, inner: nn.Module, after: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.inner, self.after = inner, after

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.after(self.inner(x))


def _of(module: nn.Module, *kinds: type[nn.Module]) -> list[tuple[str, Any]]:
    return [(name, part) for name, part in module.named_modules() if isinstance(part, kinds)]


def _middle(module: nn.Module, *kinds: type[nn.Module]) -> Any:
    found = _of(module, *kinds)
    return found[len(found) // 2][1] if found else None


def _last(module: nn.Module) -> Any:
    return _of(module, nn.Linear)[-1][1]


def _put(module: nn.Module, name: str, new: nn.Module) -> nn.Module:
    module.set_submodule(name, new)
    return module


def _dense(module: nn.Module) -> Any:
    found = [part for _, part in _of(module, nn.Conv2d) if part.groups == 1 and part.kernel_size != (1, 1)]
    found = found or [part for _, part in _of(module, nn.Conv2d) if part.groups == 1]
    return found[len(found) // 2]


def eps_times_ten(module: nn.Module) -> nn.Module | None:
    """Every norm's eps ten times as large."""
    norms = _of(module, nn.BatchNorm2d, nn.LayerNorm)
    for _, part in norms:
        part.eps *= 10
    return module if norms else None


def residual_lost(module: nn.Module) -> nn.Module | None:
    """One block without its shortcut."""
    blocks: list[Any] = [part for _, part in module.named_modules() if getattr(part, "residual", False) is True]
    if blocks:
        blocks[len(blocks) // 2].residual = False
        return module
    skips: list[Any] = [
        part for _, part in module.named_modules() if hasattr(part, "downsample") and hasattr(part, "conv2")
    ]
    if not skips:
        return None
    block = skips[len(skips) // 2]
    block.downsample = _Zero(block.downsample)
    return module


class _Zero(nn.Module):
    def __init__(self, inner: nn.Module | None) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.inner(x) if self.inner is not None else x) * 0


def channels_swapped(module: nn.Module) -> nn.Module | None:
    """Two output channels of one convolution in each other's place."""
    part = _dense(module)
    with torch.no_grad():
        part.weight[[0, 1]] = part.weight[[1, 0]].clone()
    return module


def class_plus_half(module: nn.Module) -> nn.Module | None:
    """0.5 added to one class."""
    with torch.no_grad():
        _last(module).bias[3] += 0.5
    return module


def layer_in_8_bits(module: nn.Module) -> nn.Module | None:
    """One layer's weights rounded to 8 bits, a scale a channel."""
    return _rounded(module, 127)


def layer_in_4_bits(module: nn.Module) -> nn.Module | None:
    """One layer's weights rounded to 4 bits."""
    return _rounded(module, 7)


def _rounded(module: nn.Module, steps: int) -> nn.Module:
    part = _dense(module)
    scale = part.weight.detach().abs().amax((1, 2, 3), keepdim=True) / steps
    part.weight.data = (part.weight.detach() / scale).round() * scale
    return module


def layer_in_bfloat16(module: nn.Module) -> nn.Module | None:
    """One layer's weights rounded to bfloat16."""
    part = _dense(module)
    part.weight.data = part.weight.detach().bfloat16().float()
    return module


def layer_times_1_05(module: nn.Module) -> nn.Module | None:
    """The last layer's weights 5 % too large."""
    with torch.no_grad():
        _last(module).weight *= 1.05
    return module


def layer_of_another_run(module: nn.Module) -> nn.Module | None:
    """One layer's weights drawn anew."""
    part = _dense(module)
    torch.manual_seed(99)
    with torch.no_grad():
        part.weight.copy_(torch.randn_like(part.weight) * part.weight.std())
    return module


def bias_lost(module: nn.Module) -> nn.Module | None:
    """One layer without its bias."""
    part = _middle(module, nn.BatchNorm2d) or _middle(module, nn.Conv2d)
    if part.bias is None or not part.bias.abs().max() > 0:
        part = _last(module)
    if not part.bias.abs().max() > 0:
        return None
    part.bias.data.zero_()
    return module


def norm_mean_lost(module: nn.Module) -> nn.Module | None:
    """One batch norm with a mean of zero."""
    part = _middle(module, nn.BatchNorm2d)
    if part is None:
        return None
    part.running_mean.zero_()
    return module


def gelu_by_tanh(module: nn.Module) -> nn.Module | None:
    """GELU by its approximation."""
    found = [name for name, part in module.named_modules() if "gelu" in type(part).__name__.lower()]
    for name in found:
        _put(module, name, nn.GELU("tanh"))
    return module if found else None


def clip_lost(module: nn.Module) -> nn.Module | None:
    """One ReLU6 that does not clip."""
    return _first(module, nn.ReLU6, nn.ReLU())


def swish_for_hard_swish(module: nn.Module) -> nn.Module | None:
    """One activation replaced by a like one."""
    return _first(module, nn.Hardswish, nn.SiLU())


def sigmoid_for_hard_sigmoid(module: nn.Module) -> nn.Module | None:
    """One gate replaced by a like one."""
    return _first(module, nn.Hardsigmoid, nn.Sigmoid())


def _first(module: nn.Module, kind: type[nn.Module], new: nn.Module) -> nn.Module | None:
    found = _of(module, kind)
    return _put(module, found[len(found) // 2][0], new) if found else None


def gate_lost(module: nn.Module) -> nn.Module | None:
    """One squeeze-and-excitation that lets everything pass."""
    found = [name for name, part in module.named_modules() if "squeeze" in type(part).__name__.lower()]
    return _put(module, found[len(found) // 2], nn.Identity()) if found else None


def padding_on_one_side(module: nn.Module) -> nn.Module | None:
    """One convolution padded on two sides only, as TensorFlow does it."""
    for name, part in _of(module, nn.Conv2d):
        if part.padding == (1, 1) and part.kernel_size == (3, 3):
            part.padding = (0, 0)
            return _put(module, name, nn.Sequential(nn.ZeroPad2d((0, 2, 0, 2)), part))
    return None


def pool_of_averages(module: nn.Module) -> nn.Module | None:
    """A pool of averages for one of maxima."""
    for name, part in _of(module, nn.MaxPool2d):
        return _put(module, name, nn.AvgPool2d(part.kernel_size, part.stride, part.padding, part.ceil_mode))
    return None


def classes_in_another_order(module: nn.Module) -> nn.Module | None:
    """Every class in the next one's place."""
    last = _last(module)
    last.weight.data, last.bias.data = last.weight.data.roll(1, 0), last.bias.data.roll(1, 0)
    return module


def one_class_dead(module: nn.Module) -> nn.Module | None:
    """One class without weights."""
    last = _last(module)
    with torch.no_grad():
        last.weight[2], last.bias[2] = 0, 0
    return module


def probabilities_for_logits(module: nn.Module) -> nn.Module | None:
    """A softmax at the end."""
    return _Around(module, lambda made: made.softmax(1))


def first_answer_for_all(module: nn.Module) -> nn.Module | None:
    """The first image's answer for all of a batch."""
    return _Around(module, lambda made: made[:1].expand(made.shape[0], -1).clone())


def depends_on_the_batch(module: nn.Module) -> nn.Module | None:
    """Answers that depend on small batches."""
    return _Around(module, lambda made: made * (1 + 0.2 * (made.shape[0] < 8)))


def dropout_left_on(module: nn.Module) -> nn.Module | None:
    """Dropout that goes on in evaluation."""
    return _Around(module, lambda made: functional.dropout(made, 0.1, training=True))


def norms_by_the_batch(module: nn.Module) -> nn.Module | None:
    """One batch norm that takes its statistics from the batch."""
    part = _middle(module, nn.BatchNorm2d)
    if part is None:
        return None
    part.running_mean = part.running_var = None
    part.track_running_stats = False
    return module


def computed_in_half(module: nn.Module) -> nn.Module | None:
    """A file that says fp32 and computes in fp16."""
    return _Half(module)


class _Half(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner.half()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x.half()).float()


IN_MODULES: tuple[Plant, ...] = (
    eps_times_ten, residual_lost, channels_swapped, class_plus_half, layer_in_8_bits, layer_in_4_bits,
    layer_in_bfloat16, layer_times_1_05, layer_of_another_run, bias_lost, norm_mean_lost, gelu_by_tanh, clip_lost,
    swish_for_hard_swish, sigmoid_for_hard_sigmoid, gate_lost, padding_on_one_side, pool_of_averages,
    classes_in_another_order, one_class_dead, probabilities_for_logits, first_answer_for_all, depends_on_the_batch,
    dropout_left_on, norms_by_the_batch, computed_in_half,
)  # fmt: skip
IN_LOW_PRECISION = (
    residual_lost, channels_swapped, class_plus_half, layer_in_4_bits, layer_times_1_05, bias_lost, padding_on_one_side,
    classes_in_another_order, gate_lost, eps_times_ten,
)  # fmt: skip
