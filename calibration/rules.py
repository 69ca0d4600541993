"""How a target wants to be fed: the rules by which fake quantisation, ranges and writers place its integers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Affine:
    """real = scale * (integer - zero_point), for unsigned 8-bit integers."""

    scale: float
    zero_point: int


FIXED = {  # torch's own
    "sigmoid": Affine(1 / 256, 0),
    "hardsigmoid": Affine(1 / 256, 0),
    "tanh": Affine(2 / 256, 128),
}


@dataclass(frozen=True)
class Rules:
    """How a target wants to be fed.

    Attributes:
        symmetric: activations are int8 and symmetric, else uint8 and affine.
        written: also what layers write is quantised.
        more: operators beside JOINS that the target runs on integers.
        reads_floats: whether additions, concatenations and those others round what they read in float, constants too;
            else they are integer only where all that they read is.
        depthwise_bits: of the weights of depthwise convolutions; None for those of all.
        half_scales: scales of weights are stored as float16.
        fixed: scale and zero point of operators' results, whatever was seen.
        integer_bias: biases are int32, in steps of what is read times weights; else they stay float.
        any_mean: means over any dimensions are integer; else those that are pools, over height and width.
        averages_keep_scale: average pools and means write integers of the scale that they read.
        joined_share_scale: all that a concatenation reads and what it writes has one scale, that of the widest, and so
            has what a pool reads and writes.
        logits: also what the last layer writes is quantised, though nothing reads it.
    """

    symmetric: bool = False
    written: bool = True
    more: tuple[str, ...] = ()
    reads_floats: bool = False
    depthwise_bits: int | None = None
    half_scales: bool = False
    fixed: Mapping[str, Affine] = field(default_factory=dict)
    integer_bias: bool = True
    any_mean: bool = False
    averages_keep_scale: bool = False
    joined_share_scale: bool = False
    logits: bool = False
