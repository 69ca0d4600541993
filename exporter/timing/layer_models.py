"""Single layers as timing workers open them: an ONNX graph of one layer, or a traced module of one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ..backends.onnx.operators import parse_profile, profiled
from .loop import Calls
from .setup import TimingSetup

WARM = 3


class KernelTimes:
    """A layer whose own kernel is timed by the runtime's profile, without what changes layouts or types around it.

    In a network these are between layers only where the layout changes.

    Args:
        times: runs to milliseconds of each run's kernels.
    """

    facts: Mapping[str, Any] = {}

    def __init__(self, times: Callable[[int], list[float]]) -> None:
        self.time_steps = times

    def block(self, setup: TimingSetup) -> list[float]:
        """Runs until they took as long together as the setup says, in one profile: a session each would cost more."""
        return self.time_steps(setup.least)


def open_onnx_layer(given: Mapping[str, Any], setup: TimingSetup, batch: int) -> Callable[[], Any]:
    """A layer on ONNX Runtime's CPU."""
    import numpy as np
    import onnxruntime

    del batch
    random = np.random.default_rng(0)

    @contextmanager
    def opened() -> Iterator[KernelTimes]:
        graph = layer_graph(dict(given), random)
        fed = {"x": random.normal(size=input_shape(dict(given))).astype(np.float32)}

        def make(options: Any) -> Any:
            options.intra_op_num_threads = setup.threads_here
            return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

        def run(session: Any) -> object:
            return session.run(None, fed)

        def times(runs: int) -> list[float]:
            events = profiled(make, Until(run, WARM + runs, WARM + setup.most, setup.block_ms), 1)
            kernels = parse_profile(events).values()
            layer = [one for one in kernels if "Conv" in one.kind or one.kind in GEMMS]
            return [us / 1e3 for us in layer[0].microseconds[WARM:]]

        yield KernelTimes(times)

    return opened


class Until:
    """Runs of a session, as one: at least so many, and more until they took so long together.

    Args:
        run: one run.
        least, most: how many.
        enough_ms: how long.
    """

    def __init__(self, run: Callable[[Any], object], least: int, most: int, enough_ms: float) -> None:
        self._run, self._least, self._most, self._enough_ms = run, least, most, enough_ms

    def __call__(self, session: Any) -> None:
        """Run it."""
        clock = Calls(lambda: self._run(session))
        took, runs = 0.0, 0
        while runs < self._least or (runs < self._most and took < self._enough_ms):
            took += clock.time_steps(1)[0]
            runs += 1


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


def open_torch_layer(given: Mapping[str, Any], setup: TimingSetup, batch: int) -> Callable[[], Any]:
    """A layer in torch: traced and frozen, fp32 or torch's own quantised one."""
    import warnings

    import torch
    from torch import nn

    del batch
    warnings.simplefilter("ignore")
    torch.set_num_threads(setup.threads_here)

    @contextmanager
    def opened() -> Iterator[KernelTimes]:
        shape = dict(given)
        conv = shape["op"] == "Conv"
        more = (shape["kernel"], shape["stride"], shape["padding"], shape["dilation"], shape["groups"])
        images = torch.randn(input_shape(shape))
        library: Any = nn
        if shape["precision"] == "int8":
            import torch.ao.nn.quantized as quantised

            torch.backends.quantized.engine = "x86"
            images = torch.quantize_per_tensor(images, 0.05, 128, torch.quint8)
            library = quantised
        module: Any = (
            library.Conv2d(shape["inputs"], shape["outputs"], *map(_pair, more))
            if conv
            else library.Linear(shape["inputs"], shape["outputs"])
        )
        with torch.inference_mode():
            frozen = torch.jit.freeze(torch.jit.trace(module.eval(), images, check_trace=False))

            def times(runs: int) -> list[float]:
                clock = Calls(lambda: frozen(images))
                clock.time_steps(WARM)
                found: list[float] = []
                while len(found) < runs or (len(found) < setup.most and sum(found) < setup.block_ms):
                    found += clock.time_steps(1)
                return found

            yield KernelTimes(times)

    return opened


def _pair(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
