"""Cross-layer equalisation: give the channels between two layers like ranges, so that one scale suits them all.

Nagel et al. 2019 (Data-Free Quantization, arXiv 1906.04721), section 4.1: what commutes with a positive factor - ReLU,
max and average pooling, no activation at all - lets channel i of one layer be divided by s_i and the next layer's
weights for it be multiplied by s_i, and the network computes the same. Theirs takes both ranges from the weights, for
scales of a whole tensor. Here weights have a scale for each output channel, and what suffers is the activation between,
so its measured range stands for the first layer's. A clip at 6 commutes as long as it is not reached: a channel that
reached it is left alone, and no other one is brought nearer to it than that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .aten import kind, only_reader, parameters

if TYPE_CHECKING:
    import torch
    from torch import nn

    from .ranges import RangeTable

MOST = 32.0  # times that a channel is stretched or shrunk
_COMMUTING = ("relu", "max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "mean", "view", "flatten", "reshape",
              "dropout", "clone", "alias", "getitem", "_native_batch_norm_legit_no_training", "hardtanh",
              "clamp")  # fmt: skip
_COMPUTE = ("conv2d", "linear")

Floats = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Pair:
    """Two layers with nothing between them but what commutes with a positive factor.

    Attributes:
        first: parameters whose first dimension is the channels: weights and bias, or those of the batch norm behind.
        second: the weight whose second dimension is the channels, or whose first where it is depthwise.
        edge: the tensor that the second one reads first, behind the first one's activation.
        ceiling: of a clip between them.
    """

    first: tuple[str, ...]
    second: str
    edge: str
    ceiling: float | None = None


def equalise(
    module: nn.Module, program: torch.export.ExportedProgram, table: RangeTable
) -> tuple[nn.Module, tuple[Pair, ...]]:
    """A copy of a module that computes the same with like ranges between its layers, and what was changed.

    Args:
        module: float32, in eval mode.
        program: its torch.export graph.
        table: ranges of its tensors; those of the copy are others, collect them again.
    """
    import torch

    from ..models.copies import copy_of

    made = copy_of(module)
    state = made.state_dict(keep_vars=True)
    done: list[Pair] = []
    for pair in find_pairs(program):
        seen = table.edges.get(pair.edge)
        if seen is None or not seen.channel_high.size or any(name not in state for name in (*pair.first, pair.second)):
            continue
        weight = state[pair.second]
        channels = len(seen.channel_high)
        columns = by_channel(weight.detach().numpy(), channels)
        if columns is None or any(len(state[name]) != channels for name in pair.first):
            continue
        reach = np.maximum(seen.channel_high, -seen.channel_low)
        factors = factors_of(reach, columns, pair.ceiling)
        with torch.no_grad():
            for name in pair.first:
                own = torch.from_numpy(1 / factors).float()
                state[name].mul_(own.reshape(-1, *([1] * (state[name].ndim - 1))))
            spread = torch.from_numpy(np.repeat(factors, _repeats(weight.shape, channels))).float()
            if _depthwise(weight.shape, channels):
                weight.mul_(spread.reshape(-1, 1, 1, 1))
            else:
                weight.mul_(spread.reshape(1, -1, *([1] * (weight.ndim - 2))))
        done.append(pair)
    return made, tuple(done)


def factors_of(reach: Floats, weight: Floats, ceiling: float | None = None) -> npt.NDArray[np.float64]:
    """What to divide each channel by: s_i = sqrt(a_i / w_i), over the geometric mean of all, at most MOST either way.

    Then a_i / s_i = s_i w_i up to a common factor: activation and weights share the burden.

    Args:
        reach: the largest magnitude of each channel, a.
        weight: the largest magnitude of the weights that read it, w.
        ceiling: of a clip in between.
    """
    live = (reach > 0) & (weight > 0)
    ratio = np.sqrt(np.where(live, reach, 1.0) / np.where(live, weight, 1.0), dtype=np.float64)
    middle = np.exp(np.log(ratio[live]).mean()) if live.any() else 1.0
    factors = np.where(live, np.clip(ratio / middle, 1 / MOST, MOST), 1.0)
    if ceiling is not None:
        least = np.minimum(1.0, 2 * reach / ceiling)  # half of the ceiling is left to images that were not seen
        factors = np.where(reach < ceiling, np.maximum(factors, least), 1.0)
    return factors


def by_channel(weight: Floats, channels: int) -> npt.NDArray[Any] | None:
    """The largest magnitude of the weights that read each channel; None where the shapes do not fit."""
    if _depthwise(weight.shape, channels):
        return np.abs(weight).reshape(channels, -1).max(1)
    if weight.ndim < 2 or weight.shape[1] % channels:
        return None
    repeats = weight.shape[1] // channels
    return np.abs(np.moveaxis(weight, 1, 0)).reshape(channels, repeats * weight.size // weight.shape[1]).max(1)


def _depthwise(shape: tuple[int, ...], channels: int) -> bool:
    return len(shape) == 4 and shape[1] == 1 and shape[0] == channels and channels > 1


def _repeats(shape: tuple[int, ...], channels: int) -> int:
    """How many inputs of a matrix product come from a channel: its positions, flattened."""
    return 1 if _depthwise(shape, channels) else shape[1] // channels


def find_pairs(program: torch.export.ExportedProgram) -> tuple[Pair, ...]:
    """The pairs of a graph: the first one's output is read by nothing else on the way to the second."""
    names = {**program.graph_signature.inputs_to_parameters, **program.graph_signature.inputs_to_buffers}
    found: list[Pair] = []
    for node in program.graph.nodes:
        if kind(node) not in _COMPUTE:
            continue
        weight, bias = parameters(node, names)
        if not weight or (kind(node) == "conv2d" and _grouped(node)):
            continue
        first, ceiling, edge = (weight, *bias), None, node.name
        at = only_reader(node)
        while at is not None and kind(at) in _COMMUTING:
            if kind(at) == "_native_batch_norm_legit_no_training":
                first = tuple(names[str(one)] for one in at.args[1:3] if str(one) in names)
            elif kind(at) in ("hardtanh", "clamp"):
                bounds: Any = [*at.args[1:], None, None]
                low, high = bounds[:2]
                if low != 0 or high is None:  # a clip below zero does not commute
                    break
                ceiling = float(high)
            if kind(at) in ("relu", "hardtanh", "clamp", "getitem"):
                edge = at.name
            at = only_reader(at)
        if at is None or kind(at) not in _COMPUTE or not first:
            continue
        second, _ = parameters(at, names)
        if second and not (kind(at) == "conv2d" and _grouped(at)):
            found.append(Pair(first, second, edge, ceiling))
    return tuple(found)


def _grouped(node: torch.fx.Node) -> bool:
    """A convolution in groups that is not depthwise."""
    args: Any = node.args
    groups, shape = args[6] if len(args) > 6 else 1, args[1].meta["val"].shape
    return bool(groups != 1 and not (shape[1] == 1 and groups == shape[0]))
