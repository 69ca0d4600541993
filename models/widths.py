"""What pruning made smaller: a pruned model is rebuilt from its architecture, this record and its weights.

A pruned run has no pickled module. Its Origin names the architecture as it was, and says of each layer that was
narrowed which of its numbers (`in_channels`, `normalized_shape`, ...) and which of its parameters and buffers became
smaller. That holds for every class of layer, also for a user's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from ..errors import IntegrityError
from .runs import Narrowed, Width

Number = int | tuple[int, ...]


@dataclass(frozen=True)
class LayerSize:
    """All numbers and shapes of a layer itself, without the layers in it.

    Attributes:
        attributes: its whole numbers, and its tuples of them, by name.
        shapes: of its own parameters and buffers.
    """

    attributes: Mapping[str, Number]
    shapes: Mapping[str, tuple[int, ...]]


def size_of(part: nn.Module) -> LayerSize:
    """Return the numbers and shapes of one layer."""
    return LayerSize(
        {name: number for name, value in vars(part).items() if (number := _number(value)) is not None},
        {name: tuple(tensor.shape) for name, tensor in _tensors(part).items()},
    )


def widths_of(module: nn.Module) -> dict[str, LayerSize]:
    """Return the numbers and shapes of every layer, by the layer's name."""
    return {name: size_of(part) for name, part in module.named_modules()}


def narrowed(before: Mapping[str, LayerSize], after: Mapping[str, LayerSize]) -> dict[str, Narrowed]:
    """Return what became smaller of each layer, for the layers of which anything did.

    A number that grew is none of pruning's: a forward may count its calls.
    """
    found: dict[str, Narrowed] = {}
    for name, now in after.items():
        was = before.get(name, LayerSize({}, {}))
        attributes = {
            key: value
            for key, value in now.attributes.items()
            if value != was.attributes.get(key) and _smaller(_as_tuple(value), _as_tuple(was.attributes.get(key, ())))
        }
        shapes = {
            key: tuple(size if size != old else None for size, old in zip(shape, was.shapes[key], strict=True))
            for key, shape in now.shapes.items()
            if key in was.shapes and was.shapes[key] != shape and len(was.shapes[key]) == len(shape)
        }
        if attributes or shapes:
            found[name] = Narrowed(attributes, shapes)
    return found


def resize(module: nn.Module, widths: Mapping[str, Width | Narrowed]) -> None:
    """Make layers as narrow as the record says, in place; the weights of the pruned model are then to be loaded.

    Raises:
        IntegrityError: a layer that is not there, or a size that it cannot have.
    """
    parts = dict(module.named_modules())
    for name, width in widths.items():
        part = parts.get(name)
        if part is None:
            raise IntegrityError(f'widths name "{name}", and the architecture has no such layer', fix="prune it again")
        _apply(part, width if isinstance(width, Narrowed) else _of_width(part, width, name), name)


def _apply(part: nn.Module, narrow: Narrowed, name: str) -> None:
    """Set the numbers of a layer and cut its tensors; nothing may become larger than the architecture makes it."""
    size, tensors = size_of(part), _tensors(part)
    for key, value in narrow.attributes.items():
        full_value = size.attributes.get(key, ())
        if type(value) is not type(full_value) or not _smaller(_as_tuple(value), _as_tuple(full_value)):
            raise IntegrityError(f"{name}.{key} cannot be {value}", fix="prune it again")
        setattr(part, key, value)
    for key, shape in narrow.shapes.items():
        full = size.shapes.get(key, ())
        wanted = tuple(old if new is None else new for new, old in zip(shape, full, strict=False))
        if len(shape) != len(full) or not _smaller(wanted, full):
            raise IntegrityError(f"{name}.{key} cannot be of shape {shape}, it is of {full}", fix="prune it again")
        cut = tensors[key].detach()[tuple(slice(length) for length in wanted)].clone()
        if key in part._parameters:
            part._parameters[key] = nn.Parameter(cut, requires_grad=tensors[key].requires_grad)
        else:
            part._buffers[key] = cut


def _of_width(part: nn.Module, width: Width, name: str) -> Narrowed:
    """Return what the older form of the record says of a convolution, a linear layer or a batch norm."""
    inputs, outputs, groups = width
    if min(width) < 1 or inputs % groups or outputs % groups:
        raise IntegrityError(f"{name} cannot be {inputs} x {outputs} in {groups} groups wide", fix="prune it again")
    if isinstance(part, nn.modules.conv._ConvNd):
        attributes = {"in_channels": inputs, "out_channels": outputs, "groups": groups}
        sides = (inputs, outputs // groups) if part.transposed else (outputs, inputs // groups)
        shapes = {"weight": (*sides, *(None for _ in part.kernel_size)), "bias": (outputs,)}
    elif isinstance(part, nn.Linear):
        attributes = {"in_features": inputs, "out_features": outputs}
        shapes = {"weight": (outputs, inputs), "bias": (outputs,)}
    elif isinstance(part, nn.modules.batchnorm._BatchNorm):
        attributes = {"num_features": inputs}
        shapes = dict.fromkeys(("weight", "bias", "running_mean", "running_var"), (inputs,))
    else:
        raise IntegrityError(f'widths name "{name}", and the architecture has no such layer', fix="prune it again")
    own = _tensors(part)
    return Narrowed(dict(attributes), {key: shape for key, shape in shapes.items() if key in own})


def _tensors(part: nn.Module) -> dict[str, Tensor]:
    """Return the parameters and buffers of a layer itself."""
    return {name: tensor for name, tensor in (*part._parameters.items(), *part._buffers.items()) if tensor is not None}


def _number(value: object) -> Number | None:
    """Return a whole number, or a tuple of them, as run.json can hold it; None for any other value."""
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, tuple) and value and all(type(item) is int for item in value):
        return tuple(value)  # torch.Size too
    return None


def _as_tuple(value: Number) -> tuple[int, ...]:
    return value if isinstance(value, tuple) else (value,)


def _smaller(new: tuple[int, ...], old: tuple[int, ...]) -> bool:
    """Say whether the new sizes are above zero and none is above its old one."""
    return len(new) == len(old) and all(0 < size <= most for size, most in zip(new, old, strict=True))
