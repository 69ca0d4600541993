"""AdaRound: round each weight up or down so that the layer's output changes least, not the weight itself.

Nagel et al. 2020 (Up or Down? Adaptive Rounding for Post-Training Quantization, arXiv 2004.10568). Their objective for
a layer, the mean squared change of its output, is a quadratic form of the rounding errors with the second moments of
its inputs, one problem an output channel (their equation 9). They relax the binary choice and train it; here it is
solved as it stands, by flipping in every channel the weight that lowers the error most until none does. The moments
need one pass of images, and no image has to be kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .quantize import to_int8
from .ranges import observe
from .view import View, attribute, given

if TYPE_CHECKING:
    import onnx
    import torch

IMAGES = 256  # that the moments are taken from
POSITIONS = 1024  # of an image, at most, at random
LARGEST = 5000  # inputs of an output channel: beyond it the moments outgrow memory, and rounding is to the nearest
EXACT = 1e-3  # of a step: a weight so near to an integer keeps it, the largest of a channel above all

Floats = npt.NDArray[np.float32]


def flip_to_fit(weight: Floats, scales: Floats, moments: Floats, bits: int = 8) -> npt.NDArray[np.int8]:
    """Integers for the rows of a weight matrix, each rounded up or down as lowers the error of the output.

    Args:
        weight: K x D, a row an output channel.
        scales: K.
        moments: G x D x D, the mean of x x^T over a group's inputs x; K / G rows belong to each.
        bits: of the integers.

    Returns:
        K x D integers in the symmetric range.
    """
    import torch

    limit = 2 ** (bits - 1) - 1
    steps = torch.from_numpy(weight / np.asarray(scales, np.float32)[:, None])
    near = steps.round().clamp(-limit, limit)
    other = torch.where(steps > near, near + 1, near - 1).clamp(-limit, limit)
    other = torch.where((steps - near).abs() < EXACT, near, other)
    groups, inner = moments.shape[0], weight.shape[1]
    rows = len(weight) // groups
    squares = torch.from_numpy(np.ascontiguousarray(moments, np.float32))
    change = (other - near).reshape(groups, rows, inner)  # in steps: a row's scale is common to all its errors
    error = (near - steps).reshape(groups, rows, inner)
    pull = error @ squares  # half of the gradient
    own = torch.diagonal(squares, dim1=1, dim2=2)[:, None, :] * change**2
    chosen = near.reshape(groups, rows, inner).clone()
    group = torch.arange(groups)[:, None]
    for _ in range(2 * inner):  # every flip lowers the error, so this ends by itself long before
        gain, index = (2 * change * pull + own).min(2)
        better = gain < -1e-9
        if not better.any():
            break
        index = index[..., None]
        by = change.gather(2, index) * better[..., None]
        chosen.scatter_add_(2, index, by)
        pull += by * squares[group, index[..., 0]]
        change.scatter_(2, index, torch.where(better[..., None], -by, change.gather(2, index)))
    return chosen.reshape(weight.shape).to(torch.int8).numpy()


@dataclass
class Rounder:
    """Rounds the weights of a graph's layers by the moments of what they read, which are taken when first needed.

    Attributes:
        graph: float32 ONNX, from `program`.
        program: the torch.export graph.
        images: prepared batches of calibration images, made anew on each call.
    """

    graph: onnx.ModelProto
    program: torch.export.ExportedProgram
    images: Callable[[], Iterator[Floats]]
    _moments: dict[str, Floats] = field(default_factory=dict)
    _made: dict[tuple[object, ...], npt.NDArray[np.int8]] = field(default_factory=dict)

    def integers(self, layer: str, weight: Floats, scales: Floats, axis: int, bits: int = 8) -> npt.NDArray[np.int8]:
        """A layer's weights in integers, of the same shape; to the nearest where the layer is too large.

        Args:
            layer: its name in the graph.
            weight: as the graph holds it.
            scales: one an output channel.
            axis: of the output channels.
            bits: 8 or fewer.
        """
        # with the axis: torch has the outputs of a linear layer first, and ONNX's matrix products have them last
        key = (layer, bits, axis, np.asarray(scales).tobytes())
        if key not in self._made:
            if not self._moments:
                self._moments = moments(self.graph, self.program, self.images())
            rows = np.moveaxis(weight, axis, 0)
            if layer in self._moments:
                made = flip_to_fit(rows.reshape(len(rows), -1), scales, self._moments[layer], bits)
                self._made[key] = np.moveaxis(made.reshape(rows.shape), 0, axis)
            else:
                self._made[key] = to_int8(weight, scales, axis, bits)
        return self._made[key]


def moments(
    graph: onnx.ModelProto, program: torch.export.ExportedProgram, images: Iterator[Floats]
) -> dict[str, Floats]:
    """The mean of x x^T for the inputs x of each output channel of each layer: G x D x D by layer.

    Layers with more than LARGEST inputs a channel are left out.
    """
    import torch

    view = View(graph)
    layers: dict[str, list[onnx.NodeProto]] = {}
    for node in view.nodes:
        weight = view.value(given(node, 1)) if node.op_type in ("Conv", "Gemm", "MatMul") else None
        if weight is not None and _inputs(node, weight) <= LARGEST:
            layers.setdefault(node.input[0], []).append(node)
    sums: dict[str, torch.Tensor] = {}
    seen: dict[str, int] = {}
    draw = torch.Generator().manual_seed(0)

    def add(edge: str, tensor: torch.Tensor) -> None:
        for node in layers.get(edge, ()):
            weight = view.value(node.input[1])
            assert weight is not None
            for one in tensor.float().split(1):
                rows = _rows(node, weight, one, draw)  # G x P x D
                square = rows.transpose(1, 2) @ rows
                sums[node.name] = square if node.name not in sums else sums[node.name].add_(square)
                seen[node.name] = seen.get(node.name, 0) + rows.shape[1]

    left = IMAGES
    for batch in images:
        observe(program, batch[:left], add)
        left -= len(batch[:left])
        if not left:
            break
    return {name: (total / seen[name]).numpy() for name, total in sums.items()}


def _inputs(node: onnx.NodeProto, weight: npt.NDArray[Any]) -> int:
    """How many numbers an output channel adds up."""
    return int(np.prod(weight.shape[1:])) if node.op_type == "Conv" else max(weight.shape)


def _rows(node: onnx.NodeProto, weight: npt.NDArray[Any], image: torch.Tensor, draw: torch.Generator) -> torch.Tensor:
    """What a layer multiplies its weights with at some positions of one image: G x P x D."""
    import torch

    if node.op_type != "Conv":
        return image.reshape(1, -1, image.shape[-1])
    pads = attribute(node, "pads", [0, 0, 0, 0])
    padded = torch.nn.functional.pad(image, (pads[1], pads[3], pads[0], pads[2]))
    columns = torch.nn.functional.unfold(
        padded, weight.shape[2:], attribute(node, "dilations", [1, 1]), 0, attribute(node, "strides", [1, 1])
    )[0]  # (C * kernel) x positions
    if columns.shape[1] > POSITIONS:
        columns = columns[:, torch.randperm(columns.shape[1], generator=draw)[:POSITIONS]]
    groups = attribute(node, "group", 1)
    return columns.reshape(groups, -1, columns.shape[1]).transpose(1, 2)
