"""Norms that torch-pruning does not know: it takes their weight for a parameter of nobody and forgets their shape."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


class NormPruner:
    """Narrow a norm over the last axis that says so by `normalized_shape`, as RMSNorm does.

    It has the methods that torch-pruning asks of a pruner; `prune_in_channels` is the same method as
    `prune_out_channels`, by which torch-pruning knows that inputs and outputs are the same channels.
    """

    pruning_dim = -1

    def prune_out_channels(self, layer: nn.Module, places: Sequence[int]) -> nn.Module:
        """Take channels out of the weight, the bias and the shape."""
        gone = set(places)
        kept = torch.tensor([place for place in range(self.get_out_channels(layer)) if place not in gone])
        for name, tensor in list(layer._parameters.items()):
            if tensor is not None:
                layer._parameters[name] = nn.Parameter(tensor.detach().index_select(-1, kept), tensor.requires_grad)
        vars(layer)["normalized_shape"] = (*shape_of(layer)[:-1], len(kept))
        return layer

    prune_in_channels = prune_out_channels

    def get_out_channels(self, layer: nn.Module) -> int:
        """Return the number of channels."""
        return shape_of(layer)[-1]

    get_in_channels = get_out_channels

    def get_out_channel_groups(self, _layer: nn.Module) -> int:
        """Return 1: any channel may go."""
        return 1

    get_in_channel_groups = get_out_channel_groups


def shape_of(layer: nn.Module) -> tuple[int, ...]:
    """Return the shape that a norm normalises over."""
    shape = vars(layer)["normalized_shape"]
    return (shape,) if isinstance(shape, int) else tuple(shape)


def norms_by_shape(module: nn.Module) -> set[type[nn.Module]]:
    """Return the classes of a module's norms that say their shape and are no LayerNorm."""
    norms = (part for part in module.modules() if "normalized_shape" in vars(part))
    return {type(part) for part in norms if not isinstance(part, nn.LayerNorm)}
