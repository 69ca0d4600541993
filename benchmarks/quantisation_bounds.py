"""What bounds two ratios of benchmarks/quantisation.py: alexnet on ONNX Runtime, resnet50 on TorchScript.

    .venv/bin/python benchmarks/quantisation_bounds.py

alexnet: microseconds by operator of both files from ONNX Runtime's profile, and float over int8 for the file as it is,
with uint8 weights, and by quantize_static. resnet50: float over int8 with each of torch's quantised engines.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from quantisation import SHAPE, calibrated, told
from quantize_static import static
from zoo.calibration.choice import Choice
from zoo.calibration.targets import onnx as for_onnx
from zoo.calibration.targets import torchscript as for_torchscript
from zoo.exporter import faster
from zoo.exporter.backends.layers import list_layers
from zoo.exporter.backends.torchscript import script


def with_uint8_weights(content: bytes) -> bytes:
    """The same numbers with unsigned weights: 128 added to each and to its zero point."""
    graph = onnx.load_from_string(content)
    constants = {one.name: one for one in graph.graph.initializer}
    for node in graph.graph.node:
        weight = constants.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
        if weight is not None and weight.data_type == onnx.TensorProto.INT8 and len(weight.dims) > 1:
            for one in (weight, constants[node.input[2]]):
                moved = (numpy_helper.to_array(one).astype(np.int16) + 128).astype(np.uint8)
                one.CopyFrom(numpy_helper.from_array(moved, one.name))
    return graph.SerializeToString()


def alexnet() -> None:
    """Print the profile and the ratios."""
    _, made, images = calibrated("alexnet")
    base = for_onnx.prepare(made.graph)
    layers = [layer.name for layer in list_layers(base)]
    ours = for_onnx.render(base, made.table, layers, Choice()).SerializeToString()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        graphs = {
            "as it is": ours,
            "uint8 weights": with_uint8_weights(ours),
            "quantize_static": static(made.graph, images, folder, "MinMax"),
        }
        for name, content in (("float", base.SerializeToString()), ("int8", ours)):
            path = folder / f"{name}.onnx"
            path.write_bytes(content)
            kinds: dict[str, float] = defaultdict(float)
            for node, microseconds in faster.time_graph(path, (1, *SHAPE), "nodes").items():
                kinds["Gemm" if "Gemm" in node else "Conv" if "Conv" in node or "relu" in node else "rest"] += (
                    microseconds
                )
            print(f"alexnet {name}, microseconds: " + ", ".join(f"{kind} {kinds[kind]:.0f}" for kind in sorted(kinds)))
        ratios = faster.measure(base.SerializeToString(), graphs, (1, *SHAPE))
    for name, several in ratios.items():
        print(f"alexnet, {name}: {told(several)}", flush=True)


def resnet50() -> None:
    """Print the ratio with each engine that prepares and converts."""
    model, made, _ = calibrated("resnet50")
    known, files = for_torchscript.ENGINES, {}
    for engine in ("x86", "fbgemm", "onednn"):
        for_torchscript.ENGINES = (engine,)
        files[engine] = script(for_torchscript.render(made, Choice()), model.spec, strict=False)[1]
    for_torchscript.ENGINES = known
    ratios = faster.measure(script(model.module, model.spec)[1], files, (1, *SHAPE), suffix=".pt")
    for name, several in ratios.items():
        print(f"resnet50, TorchScript, engine {name}: {told(several)}", flush=True)


if __name__ == "__main__":
    import warnings

    warnings.simplefilter("ignore")
    alexnet()
    resnet50()
