"""Blocks of channels: group norms and attentions divide their channels evenly, so as many have to go of each part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from torch import nn

from ...errors import UsageError
from .raised import named

if TYPE_CHECKING:
    from .members import Member


def blocks_of(members: Iterable[Member], channels: int, module: nn.Module) -> tuple[int, ...]:
    """Return the block of each channel of a group; empty where all are in one.

    Raises:
        UsageError: channels of other layers are in the same blocks, or the blocks differ in size.
    """
    keys: list[tuple[int, ...]] = [()] * channels
    for member in members:
        count, width = _divided(module.get_submodule(member.layer))
        if count == 1 or member.parameter:
            continue
        if sorted(member.of) != list(range(channels)) or len(member.places) != width:
            raise UsageError(f"{named(module, member.layer)} sees other channels in one group with these")
        for place, channel in zip(member.places, member.of, strict=True):
            keys[channel] = (*keys[channel], place // (width // count))
    sizes = Counter(keys)
    if len(set(sizes.values())) > 1:
        raise UsageError("norms and attentions divide these channels in ways that do not fit each other")
    number = {key: index for index, key in enumerate(sorted(sizes))}
    return tuple(number[key] for key in keys) if len(number) > 1 else ()


def in_groups(module: nn.Module) -> frozenset[str]:
    """Return convolutions whose inputs fall into several groups of several: their channels stay, since a group that
    lost one more than another would take its neighbour's.
    """
    return frozenset(
        name
        for name, part in module.named_modules()
        if isinstance(part, nn.modules.conv._ConvNd) and 1 < part.groups < max(part.in_channels, part.out_channels)
        and not part.groups == part.in_channels == part.out_channels
    )  # fmt: skip


def _divided(part: nn.Module) -> tuple[int, int]:
    """Return how many blocks a layer divides its channels into, and the number of channels."""
    if isinstance(part, nn.GroupNorm):
        return part.num_groups, part.num_channels
    if isinstance(part, nn.MultiheadAttention):
        return part.num_heads, part.embed_dim
    return 1, 0
