"""The places that channels are removed from together: a layer, its inputs or outputs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Member:
    """A layer's part in a group, or that of a parameter which belongs to no such layer.

    Attributes:
        layer: its name.
        output: whether its outputs are in the group, else its inputs.
        places: which of its channels, in the order of the group's channels.
        of: which of the group's channels each of them belongs to.
        parameter: the name, in the layer, of a parameter of its own; "" where the whole layer is meant.
        axis: of that parameter.
    """

    layer: str
    output: bool
    places: tuple[int, ...]
    of: tuple[int, ...]
    parameter: str = ""
    axis: int = 0
