"""Preprocessing in the graph (`--with-preprocess`): uint8 N x H x W x C in, normalised by the graph itself.

What is inside is what every target does to the last bit: cast, channels first, their order, scale, mean, std. Decoding,
resizing and cropping stay outside: Pillow rounds to 8 bits between its two passes, which no target's Resize does, and
the crop goes with it. TensorRT takes uint8 as an input only, and only into a Cast, so that comes first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ....errors import UsageError
from ....models.spec import ModelSpec
from .graph import INPUT

if TYPE_CHECKING:
    import onnx

NORMALISED = "images_normalised"


def read_pixels(proto: onnx.ModelProto, spec: ModelSpec) -> None:
    """Make a graph of normalised images one of pixels, in place: `images` becomes uint8 N x H x W x C.

    The arithmetic is `models.preprocess.normalise`'s, operation by operation in float32, so that its result is the same
    to the last bit.

    Raises:
        UsageError: the graph's input is not float32 `images`.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    constants = {one.name for one in proto.graph.initializer}
    fed = [value for value in proto.graph.input if value.name not in constants]
    if [value.name for value in fed] != [INPUT] or fed[0].type.tensor_type.elem_type != TensorProto.FLOAT:
        raise UsageError(f"{spec.name}: no float32 `{INPUT}` to put the preprocessing before")
    for node in proto.graph.node:
        for index, name in enumerate(node.input):
            if name == INPUT:
                node.input[index] = NORMALISED
    before = spec.preprocess
    batch = fed[0].type.tensor_type.shape.dim[0].dim_param or "batch"
    place = list(proto.graph.input).index(fed[0])
    proto.graph.input[place].CopyFrom(
        helper.make_tensor_value_info(INPUT, TensorProto.UINT8, [batch, *before.crop, before.depth])
    )
    nodes: list[onnx.NodeProto] = []
    last = INPUT

    def step(op: str, name: str, *others: str, **attributes: Any) -> None:
        nonlocal last
        out = f"pixels_{name}"
        nodes.append(helper.make_node(op, [last, *others], [out], name=f"pixels/{name}", **attributes))
        last = out

    def constant(name: str, values: tuple[float, ...] | float) -> str:
        array = np.asarray(values, np.float32)
        shaped = array.reshape(1, -1, 1, 1) if array.ndim else array
        proto.graph.initializer.append(numpy_helper.from_array(shaped, f"pixels_{name}"))
        return f"pixels_{name}"

    step("Cast", "cast", to=TensorProto.FLOAT)
    step("Transpose", "channels_first", perm=[0, 3, 1, 2])
    if before.channels == "BGR":
        order = numpy_helper.from_array(np.array([2, 1, 0], np.int64), "pixels_bgr")
        proto.graph.initializer.append(order)
        step("Gather", "swapped", "pixels_bgr", axis=1)
    step("Mul", "scaled", constant("scale", before.scale))
    step("Sub", "centred", constant("mean", before.mean))
    step("Div", "normalised", constant("std", before.std))
    nodes[-1].output[0] = NORMALISED
    kept = list(proto.graph.node)
    del proto.graph.node[:]
    proto.graph.node.extend([*nodes, *kept])
    onnx.checker.check_model(proto)
