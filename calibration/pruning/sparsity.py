"""Weights that are set to zero where they are: in TensorRT's 2:4 pattern, or one by one anywhere.

No shape changes, so nothing is faster by itself. NVIDIA GPUs from Ampere on multiply 2:4 sparse weights twice as fast
where TensorRT picks such a kernel; unstructured zeros no runtime of zoo's skips.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from ...errors import UsageError
from .pattern import holds_2_4

Pattern = Literal["2:4", "unstructured"]
PATTERNS: tuple[str, ...] = get_args(Pattern)
LEAST = 0.05  # of a layer's weights stay in any case


@dataclass(frozen=True)
class Sparsity:
    """A layer's zeros.

    Attributes:
        layer: its name.
        weights: how many it has.
        zeros: how many of them are zero.
        dense: why it was left as it is; "" where it was not.
    """

    layer: str
    weights: int
    zeros: int
    dense: str = ""


def sparsify(
    module: nn.Module, pattern: Pattern, sparsity: float = 0.5, keep: Collection[nn.Module] = ()
) -> tuple[Sparsity, ...]:
    """Set weights to zero, in place: the smallest of each layer. What each layer came to, in the module's order.

    - 2:4: of every four weights that follow each other along the input channels, for each output and place of the
      kernel, the two smallest, as TensorRT wants it (developer guide, "Structured Sparsity"; Mishra et al. 2021, arXiv
      2104.08378). Layers with outputs that are no multiple of 8 or inputs that are none of 16 stay dense: there are no
      sparse kernels for them.
    - unstructured: the smallest of all layers together, each seen in parts of its root mean square, until `sparsity` of
      all weights are zero; a twentieth of each layer stays (Zhu and Gupta 2017, arXiv 1710.01878, for magnitudes).

    Args:
        module: whose convolutions and linear layers are meant.
        pattern: which zeros.
        sparsity: share of the weights that become zero; of 2:4 it is a half.
        keep: layers that stay dense, such as the one that makes the logits.

    Raises:
        UsageError: a share that cannot be, or no layer that could have the pattern.
    """
    if pattern == "unstructured" and not 0 < sparsity < 1:
        raise UsageError(f"the share of zeros must be above 0 and below 1, got {sparsity}", fix="such as 0.8")
    layers = {name: part for name, part in module.named_modules()
              if isinstance(part, nn.modules.conv._ConvNd | nn.Linear)}  # fmt: skip
    why = {name: "asked to stay" if part in keep else reason_dense(part.weight, _groups(part), pattern)
           for name, part in layers.items()}  # fmt: skip
    chosen = {name: part.weight for name, part in layers.items() if not why[name]}
    if not chosen:
        raise UsageError(f"no layer can be {pattern} sparse: {next(iter(why.values()), 'there are none')}")
    masks = {name: mask_2_4(weight.detach()) for name, weight in chosen.items()} if pattern == "2:4" else (
        masks_by_magnitude({name: weight.detach() for name, weight in chosen.items()}, sparsity))  # fmt: skip
    with torch.no_grad():
        for name, weight in chosen.items():
            weight.mul_(masks[name])
    return sparsity_of(module, why)


def sparsity_of(module: nn.Module, why: Mapping[str, str] | None = None) -> tuple[Sparsity, ...]:
    """The zeros of each convolution and linear layer."""
    return tuple(
        Sparsity(name, part.weight.numel(), int((part.weight == 0).sum()), (why or {}).get(name, ""))
        for name, part in module.named_modules()
        if isinstance(part, nn.modules.conv._ConvNd | nn.Linear)
    )


def reason_dense(weight: Tensor, groups: int, pattern: Pattern) -> str:
    """Why a layer cannot have the pattern; "" where it can."""
    if pattern == "unstructured":
        return ""
    if groups > 1:
        return "its inputs fall into groups"
    outputs, inputs = weight.shape[:2]
    if outputs % 8 or inputs % 16:
        return f"{inputs} x {outputs}: sparse kernels want inputs in 16 and outputs in 8"
    return ""


def mask_2_4(weight: Tensor) -> Tensor:
    """True for the two largest of every four inputs that follow each other; weights are outputs x inputs x ..."""
    outputs, inputs, *kernel = weight.shape
    fours = weight.abs().reshape(outputs, inputs // 4, 4, *kernel)
    order = fours.argsort(dim=2, descending=True, stable=True)
    places = torch.arange(4, device=weight.device).reshape(1, 1, 4, *[1] * len(kernel)).expand_as(order)
    ranks = torch.empty_like(order).scatter_(2, order, places)
    return (ranks < 2).reshape(weight.shape)


def masks_by_magnitude(weights: Mapping[str, Tensor], sparsity: float) -> dict[str, Tensor]:
    """True for weights above one threshold for all, in parts of their layer's root mean square."""
    sizes = {name: weight.abs() / weight.square().mean().sqrt().clamp_min(1e-12) for name, weight in weights.items()}
    # the largest of each layer are out of the draw
    safe = {name: torch.zeros_like(size, dtype=torch.bool) for name, size in sizes.items()}
    for name, size in sizes.items():
        safe[name].view(-1)[size.flatten().argsort(descending=True)[: max(1, int(LEAST * size.numel()))]] = True
    loose = torch.cat([size[~safe[name]] for name, size in sizes.items()])
    total = sum(size.numel() for size in sizes.values())
    count = min(round(sparsity * total), loose.numel())
    if count == 0:
        return {name: torch.ones_like(size, dtype=torch.bool) for name, size in sizes.items()}
    bar = loose.sort().values[count - 1]
    return {name: (size > bar) | safe[name] for name, size in sizes.items()}


def layers_2_4(module: nn.Module) -> tuple[str, ...]:
    """The layers whose weights have the pattern."""
    return tuple(
        name
        for name, part in module.named_modules()
        if isinstance(part, nn.modules.conv._ConvNd | nn.Linear)
        and not reason_dense(part.weight, _groups(part), "2:4")
        and holds_2_4(part.weight.detach().cpu().numpy())
    )


def _groups(part: nn.Module) -> int:
    return part.groups if isinstance(part, nn.modules.conv._ConvNd) else 1
