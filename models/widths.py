"""How wide each layer is: what a pruned model is rebuilt from, beside its architecture and its weights.

A pruned run has no pickled module. Its Origin names the architecture as it was, and the widths of the layers that were
narrowed; the rebuilt module is the architecture with these layers exchanged.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from ..errors import IntegrityError

Width = tuple[int, int, int]  # inputs, outputs, groups; of a norm its channels, twice, and 1
MOST = 1 << 20  # channels; beyond is a mistake or an attack


def width_of(part: nn.Module) -> Width | None:
    """The width of a convolution, a linear layer or a batch norm; None of what has none."""
    if isinstance(part, nn.modules.conv._ConvNd):
        return part.in_channels, part.out_channels, part.groups
    if isinstance(part, nn.Linear):
        return part.in_features, part.out_features, 1
    if isinstance(part, nn.modules.batchnorm._BatchNorm):
        return part.num_features, part.num_features, 1
    return None


def widths_of(module: nn.Module) -> dict[str, Width]:
    """The widths of all layers that have one, by name."""
    found = ((name, width_of(part)) for name, part in module.named_modules())
    return {name: width for name, width in found if width is not None}


def narrowed(before: Mapping[str, Width], after: Mapping[str, Width]) -> dict[str, Width]:
    """The layers whose width is another than before."""
    return {name: width for name, width in after.items() if before.get(name) != width}


def resize(module: nn.Module, widths: Mapping[str, Width]) -> None:
    """Exchange layers for ones of other widths, in place; their weights are fresh and are to be loaded.

    Raises:
        IntegrityError: a layer that is not there, or a width that it cannot have.
    """
    parts = dict(module.named_modules())
    for name, (inputs, outputs, groups) in widths.items():
        part = parts.get(name)
        if part is None or width_of(part) is None:
            raise IntegrityError(f'widths name "{name}", and the architecture has no such layer', fix="prune it again")
        if not (0 < inputs <= MOST and 0 < outputs <= MOST and groups > 0) or inputs % groups or outputs % groups:
            raise IntegrityError(f"{name} cannot be {inputs} x {outputs} in {groups} groups wide", fix="prune it again")
        _narrow(part, inputs, outputs, groups)


def _narrow(part: nn.Module, inputs: int, outputs: int, groups: int) -> None:
    """Give a layer its width, and empty tensors of the shapes that follow."""
    if isinstance(part, nn.modules.conv._ConvNd):
        part.in_channels, part.out_channels, part.groups = inputs, outputs, groups
        part.weight = _like(part.weight, (outputs, inputs // groups, *part.weight.shape[2:]))
        if part.bias is not None:
            part.bias = _like(part.bias, (outputs,))
    elif isinstance(part, nn.Linear):
        part.in_features, part.out_features = inputs, outputs
        part.weight = _like(part.weight, (outputs, inputs))
        if part.bias is not None:
            part.bias = _like(part.bias, (outputs,))
    elif isinstance(part, nn.modules.batchnorm._BatchNorm):
        part.num_features = inputs
        if part.affine:
            part.weight, part.bias = _like(part.weight, (inputs,)), _like(part.bias, (inputs,))
        if part.running_mean is not None and part.running_var is not None:
            part.running_mean = torch.zeros(inputs)
            part.running_var = torch.ones(inputs)


def _like(parameter: torch.Tensor, shape: tuple[int, ...]) -> nn.Parameter:
    return nn.Parameter(torch.zeros(shape, dtype=parameter.dtype))
