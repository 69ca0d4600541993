"""Times single layers on this machine's CPU, in a process of its own: `python -m zoo.exporter.timing.layer_models`.

Reads a JSON list of shapes from stdin, and prints the microseconds of each as a line, as it is measured.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

WARM, RUNS, MOST, ENOUGH_US = 3, 12, 60, 3_000  # runs of a shape: until they took so long together


def main(target: str, threads: int) -> int:
    """Time what comes from stdin."""
    measure = {"onnx": onnx_timer, "torchscript": torch_timer}[target](threads)
    for shape in json.load(sys.stdin):
        sys.stdout.write(f"{measure(shape):.3f}\n")
        sys.stdout.flush()
    return 0


def usual(times: list[float]) -> float:
    """The mean of the faster half: what disturbs a run makes it slower."""
    kept = sorted(times)[: max(1, (len(times) + 1) // 2)]
    return statistics.fmean(kept)


def onnx_timer(threads: int) -> Callable[[dict[str, Any]], float]:
    """ONNX Runtime: of its profile the layer's own kernel, without what changes layouts or types around it.

    In a network these are between layers only where the layout changes.
    """
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    options.enable_profiling = True
    random = np.random.default_rng(0)

    def measure(shape: dict[str, Any]) -> float:
        with tempfile.TemporaryDirectory() as folder:
            options.profile_file_prefix = str(Path(folder) / "profile")
            session = onnxruntime.InferenceSession(
                layer_graph(shape, random), options, providers=["CPUExecutionProvider"]
            )
            fed = {"x": random.normal(size=input_shape(shape)).astype(np.float32)}
            began, runs = time.perf_counter(), 0
            while runs < WARM + RUNS or (runs < MOST and 1e6 * (time.perf_counter() - began) < ENOUGH_US):
                session.run(None, fed)
                runs += 1
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        kernels = [
            float(event["dur"])
            for event in events
            if (event.get("cat") == "Node" and str(event["name"]).endswith("_kernel_time")
            and "Conv" in event["args"]["op_name"]) or event.get("args", {}).get("op_name") in GEMMS
        ]  # fmt: skip
        return usual(kernels[WARM:])

    return measure


FEW = 65_537  # numbers, a prime, so that no two rows are alike
GEMMS = ("Gemm", "MatMul", "FusedGemm", "FusedMatMul", "QGemm", "QLinearMatMul")


def filled(few: Any, size: Any) -> Any:
    """An array of that size of a few numbers repeated: to draw a hundred million would take longer than the layer."""
    import numpy as np

    return np.resize(few, size)


def input_shape(shape: dict[str, Any]) -> tuple[int, ...]:
    """Of a batch of one."""
    if shape["op"] == "Gemm":
        return (shape["size"][0], shape["inputs"])
    return (1, shape["inputs"], *shape["size"])


def layer_graph(shape: dict[str, Any], random: Any) -> bytes:
    """An ONNX graph of one layer, for int8 with Q/DQ around it as zoo writes it for ONNX Runtime."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    conv, int8 = shape["op"] == "Conv", shape["precision"] == "int8"
    outputs = shape["outputs"]
    size = (outputs, shape["inputs"] // shape["groups"], *shape["kernel"]) if conv else (outputs, shape["inputs"])
    bias = np.zeros(outputs, np.float32)
    nodes: list[Any] = []
    constants: list[tuple[str, Any]] = []
    if int8:
        scale = np.float32(0.05)
        weights = filled(random.integers(-127, 128, FEW).astype(np.int8), size)
        constants += [("w8", weights), ("ws", np.full(outputs, 0.01, np.float32)), ("wz", np.zeros(outputs, np.int8))]
        constants += [("s", scale), ("z", np.uint8(128)), ("b8", bias.astype(np.int32))]
        constants += [("bs", np.full(outputs, 0.01 * scale, np.float32)), ("bz", np.zeros(outputs, np.int32))]
        nodes += [
            helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
            helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["a"]),
            helper.make_node("DequantizeLinear", ["w8", "ws", "wz"], ["w"], axis=0),
            helper.make_node("DequantizeLinear", ["b8", "bs", "bz"], ["b"], axis=0),
        ]
    else:
        constants += [("w", filled(random.normal(size=FEW).astype(np.float32), size)), ("b", bias)]
    given = ["a" if int8 else "x", "w", "b"]
    made = "y0" if int8 else "y"
    if conv:
        nodes.append(
            helper.make_node(
                "Conv", given, [made], kernel_shape=shape["kernel"], strides=shape["stride"],
                dilations=shape["dilation"], pads=[*shape["padding"], *shape["padding"]], group=shape["groups"],
            )
        )  # fmt: skip
    else:
        nodes.append(helper.make_node("Gemm", given, [made], transB=1))
    if int8:
        nodes.append(helper.make_node("QuantizeLinear", ["y0", "s", "z"], ["yq"]))
        nodes.append(helper.make_node("DequantizeLinear", ["yq", "s", "z"], ["y"]))
    graph = helper.make_graph(
        nodes, "layer", [helper.make_tensor_value_info("x", TensorProto.FLOAT, input_shape(shape))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", outputs, "h", "w"] if conv else ["n", outputs])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return model.SerializeToString()


def torch_timer(threads: int) -> Callable[[dict[str, Any]], float]:
    """TorchScript: a traced and frozen module of one layer, fp32 or torch's own quantised one."""
    import warnings

    import torch
    from torch import nn

    warnings.simplefilter("ignore")
    torch.set_num_threads(threads)

    def measure(shape: dict[str, Any]) -> float:
        conv = shape["op"] == "Conv"
        more = (shape["kernel"], shape["stride"], shape["padding"], shape["dilation"], shape["groups"])
        batch = torch.randn(input_shape(shape))
        module: Any = None
        if shape["precision"] == "int8":
            import torch.ao.nn.quantized as quantised

            torch.backends.quantized.engine = "x86"
            batch = torch.quantize_per_tensor(batch, 0.05, 128, torch.quint8)
            module = (
                quantised.Conv2d(shape["inputs"], shape["outputs"], *map(_pair, more))
                if conv
                else quantised.Linear(shape["inputs"], shape["outputs"])
            )
        else:
            module = (
                nn.Conv2d(shape["inputs"], shape["outputs"], *map(_pair, more))
                if conv
                else nn.Linear(shape["inputs"], shape["outputs"])
            )
        times: list[float] = []
        with torch.inference_mode():
            frozen = torch.jit.freeze(torch.jit.trace(module.eval(), batch, check_trace=False))
            while len(times) < WARM + RUNS or (len(times) < MOST and sum(times) < ENOUGH_US):
                begun = time.perf_counter()
                frozen(batch)
                times.append(1e6 * (time.perf_counter() - begun))
        return usual(times[WARM:])

    return measure


def _pair(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
