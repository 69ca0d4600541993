"""What a graph's layers compute in, as it was written and as a runtime made it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from zoo.exporter.backends.graph.layers import list_layers

SCALES = [numpy_helper.from_array(np.float32(0.1), "scale"), numpy_helper.from_array(np.uint8(0), "zero")]
WEIGHT = numpy_helper.from_array(np.ones((4, 3), np.uint8), "integers")


def graph(nodes: Sequence[onnx.NodeProto]) -> onnx.ModelProto:
    ends = (
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
    )
    made = helper.make_graph(list(nodes), "one", *ends, [*SCALES, WEIGHT])
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)])


def pair(name: str) -> list[onnx.NodeProto]:
    return [
        helper.make_node("QuantizeLinear", [name, "scale", "zero"], [f"{name}_q"]),
        helper.make_node("DequantizeLinear", [f"{name}_q", "scale", "zero"], [f"{name}_dq"]),
    ]


def test_a_float_operator_between_integers_is_what_a_file_plans_and_what_no_runtime_computes() -> None:
    weight = helper.make_node("DequantizeLinear", ["integers", "scale", "zero"], ["weight"])
    product = helper.make_node("MatMul", ["images_dq", "weight"], ["logits"], "product")
    made = graph([*pair("images"), weight, product])
    assert [layer.precision for layer in list_layers(made)] == ["int8"]
    assert [layer.precision for layer in list_layers(made, ran=True)] == ["fp32"]


def test_the_runtimes_own_product_of_integers_counts_as_one() -> None:
    inputs = ["images_q", "integers", "scale", "scale", "zero", "zero"]
    product = helper.make_node("MatMulIntegerToFloat", inputs, ["logits"], "product", domain="com.microsoft")
    made = graph([*pair("images")[:1], product])
    assert [layer.precision for layer in list_layers(made, ran=True)] == ["int8"]
