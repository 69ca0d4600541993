"""Whether the channels of a group may be exchanged: when they are, in all its layers, the answers stay the same.

That is what makes channels removable. It fails where an operation between the layers counts channels in its own way
(a pixel shuffle, a reshape, halves of a chunk, attention's heads) and the coupling that was read is not the true one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ...errors import UsageError
from ...models.copies import copy_of
from .groups import Group
from .members import Member
from .raised import named

SAME = {torch.float64: 1e-9, torch.float32: 1e-4}  # of the answers' size: what rounding in another order makes
BY_CHANNEL = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.PReLU)  # whose tensors have one value a channel
Held = tuple[Tensor, int, tuple[int, ...]]  # a tensor, the axis of its channels, and their places on it
OFF = 1e-3  # a scale below it, as residual branches start with, would hide what its branch does


class Probe:
    """A copy of a module whose channels are exchanged, on noise, to see whether its answers change.

    Args:
        module: in evaluation mode, on the CPU; it is not changed.
        shape: channels, height and width of an image.
        seed: of the noise and of the order of channels.
    """

    def __init__(self, module: nn.Module, shape: tuple[int, int, int], seed: int = 0) -> None:
        self._seed = seed
        noise = torch.randn(2, *shape, generator=torch.Generator().manual_seed(seed))
        try:  # in float64 nothing hides in the rounding
            self._start(module, noise, torch.float64)
        except Exception:  # noqa: BLE001 - a forward that makes float32 tensors of its own
            self._start(module, noise, torch.float32)

    def _start(self, module: nn.Module, noise: Tensor, dtype: torch.dtype) -> None:
        self._module, self._noise = copy_of(module).to(dtype), noise.to(dtype)
        _switch_on(self._module, self._seed)
        self._tensors = [*self._module.parameters(), *self._module.buffers()]
        self._before = [tensor.detach().clone() for tensor in self._tensors]
        self._answers = self._run()

    def _run(self) -> Tensor:
        with torch.no_grad():
            return self._module(self._noise)

    def holds(self, groups: Sequence[Group]) -> bool:
        """Say whether the answers stay the same when the channels of these groups are exchanged."""
        random = np.random.default_rng(self._seed)
        try:
            for group in groups:
                order = _new_order(group, random)
                for member in group.members:
                    for tensor, axis, places in tensors_of(self._module, member):
                        _exchange(tensor, axis, places, member, order)
            got = self._run()
            distance, size = float((got - self._answers).norm()), float(self._answers.norm())
            return distance <= SAME[self._noise.dtype] * size
        except IndexError:  # a place that the layer does not have: the coupling is wrong
            return False
        finally:
            with torch.no_grad():
                for tensor, before in zip(self._tensors, self._before, strict=True):
                    tensor.copy_(before)


def misfit(group: Group, module: nn.Module) -> str:
    """Return why the layers of a group cannot have the channels that are said of them; "" where they can."""
    if len({channel for member in group.members for channel in member.of}) != group.channels:
        return "its channels are coupled with each other, as by a gate that multiplies two halves"
    for member in group.members:
        try:
            tensors = list(tensors_of(module, member))
        except UsageError as error:
            return error.what
        for tensor, axis, places in tensors:
            if places and max(places) >= tensor.shape[axis]:
                return (
                    f"{named(module, member.layer)} has {tensor.shape[axis]} channels where {max(places) + 1} come: "
                    "something between changes their number, as a pixel shuffle or a reshape does"
                )
    return ""


def tensors_of(module: nn.Module, member: Member) -> Iterator[Held]:
    """Yield each tensor that has a member's channels, the axis of them, and their places on it.

    Raises:
        UsageError: a class of layer, or a way to make its weight, that zoo does not know.
    """
    part, places = module.get_submodule(member.layer), member.places
    if member.parameter:
        yield part.get_parameter(member.parameter), member.axis, places
        return
    own = {name: tensor for name, tensor in (*part._parameters.items(), *part._buffers.items()) if tensor is not None}
    if isinstance(part, nn.modules.conv._ConvNd | nn.Linear):
        if "weight" not in own:
            raise UsageError(f"{named(module, member.layer)} computes its weight from others (parametrization)")
        convolution = isinstance(part, nn.modules.conv._ConvNd)
        one_each = convolution and part.groups > 1  # depthwise: an input is an output
        swapped = convolution and part.transposed and not one_each
        yield own["weight"], int(member.output == swapped and not one_each), places
        if "bias" in own and (member.output or one_each):
            yield own["bias"], 0, places
        more = [name for name in own.keys() - {"weight", "bias"} if own[name].ndim and len(places) in own[name].shape]
        if more and member.output:
            raise UsageError(f"{named(module, member.layer)} has a tensor of its own, {more[0]}, that stays as long")
    elif isinstance(part, nn.MultiheadAttention):
        yield from _of_attention(part, places)
    elif isinstance(part, nn.LayerNorm) or "normalized_shape" in vars(part):
        yield from ((tensor, tensor.ndim - 1, places) for tensor in own.values())
    elif isinstance(part, BY_CHANNEL):
        yield from ((tensor, 0, places) for tensor in own.values() if tensor.ndim and tensor.numel() > 1)
    else:
        raise UsageError(f"{named(module, member.layer)} is a layer that zoo cannot narrow")


def _of_attention(part: nn.MultiheadAttention, places: tuple[int, ...]) -> Iterator[Held]:
    """Yield the tensors of an attention whose queries, keys and values all come from the same channels."""
    if part.in_proj_weight is None or part.bias_k is not None:
        raise UsageError("an attention whose keys have channels of their own cannot be narrowed")
    thrice = tuple(place + third * part.embed_dim for third in range(3) for place in places)
    yield part.in_proj_weight, 0, thrice
    yield part.in_proj_weight, 1, places
    if part.in_proj_bias is not None:
        yield part.in_proj_bias, 0, thrice
    yield part.out_proj.weight, 0, places
    yield part.out_proj.weight, 1, places
    if part.out_proj.bias is not None:
        yield part.out_proj.bias, 0, places


def _new_order(group: Group, random: np.random.Generator) -> np.ndarray:
    """Return the channel that each place gets, from the same block."""
    order = np.arange(group.channels)
    blocks = np.array(group.blocks or (0,) * group.channels)
    for block in np.unique(blocks):
        order[blocks == block] = random.permutation(np.flatnonzero(blocks == block))
    return order


def _exchange(tensor: Tensor, axis: int, places: tuple[int, ...], member: Member, order: np.ndarray) -> None:
    """Put the values of each channel where the order says; a channel with several places keeps their sequence."""
    of = member.of * (len(places) // len(member.of))  # queries, keys and values are one after the other
    by_channel: dict[tuple[int, int], list[int]] = {}
    for index, (place, channel) in enumerate(zip(places, of, strict=True)):
        by_channel.setdefault((index // len(member.of), channel), []).append(place)
    source = np.arange(tensor.shape[axis])
    for (turn, channel), own in by_channel.items():
        other = by_channel.get((turn, int(order[channel])), [])
        if len(other) != len(own):
            raise IndexError(f"channel {channel} has {len(own)} places, channel {order[channel]} has {len(other)}")
        source[own] = other
    with torch.no_grad():
        tensor.copy_(tensor.index_select(axis, torch.from_numpy(source)))


def _switch_on(module: nn.Module, seed: int) -> None:
    """Set scales that are nearly zero to about one, in place, so that what their branch does is seen."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        if parameter.numel() and max(parameter.shape, default=1) == parameter.numel():
            with torch.no_grad():
                if float(parameter.abs().max()) < OFF:
                    parameter.copy_(torch.rand(parameter.shape, generator=generator) + 0.5)
