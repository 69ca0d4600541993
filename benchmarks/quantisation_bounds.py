"""What bounds two ratios of benchmarks/quantisation.py, and what its parts give: alexnet on ONNX Runtime, resnet50.

    .venv/bin/python benchmarks/quantisation_bounds.py [alexnet] [resnet50] [parts]

parts: on ONNX Runtime, an int8 file without the stem by fours over the file with it, and without blocks over with.
alexnet: microseconds by operator of both files from ONNX Runtime's profile, and float over int8 for the file as it is,
with uint8 weights, and by quantize_static. resnet50: the operators of its int8 trace by torch's profile, and float
over int8, as torch runs it by itself and for the engine onednn.
"""

from __future__ import annotations

import io
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from quantisation import SHAPE, calibrated, time_scripts, told
from quantize_static import static
from timed_files import candidates, measured, ratios
from zoo.calibration.blocks import wide_layers
from zoo.calibration.choice import Choice
from zoo.calibration.engine import quantised_engine
from zoo.calibration.view import View
from zoo.exporter.backends.graph.layers import list_layers
from zoo.exporter.backends.onnx import int8 as for_onnx
from zoo.exporter.timing.setup import default_threads


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


RUNS = 40


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
        profiled = measured({"float": base.SerializeToString(), "int8": ours}, SHAPE, operators=40)
        for name, one in profiled.items():
            kinds: dict[str, float] = defaultdict(float)
            for node, _, microseconds in one.rounds[0].facts["operators"]:
                kinds["Gemm" if "Gemm" in node else "Conv" if "Conv" in node or "relu" in node else "rest"] += (
                    microseconds
                )
            print(f"alexnet {name}, microseconds: " + ", ".join(f"{kind} {kinds[kind]:.0f}" for kind in sorted(kinds)))
        found = ratios(base.SerializeToString(), graphs, SHAPE)
    for name, several in found.items():
        print(f"alexnet, {name}: {told(several)}", flush=True)


def resnet50() -> None:
    """Print the operators' times and the ratio, as torch runs the file by itself and for the engine onednn."""
    model, made, _ = calibrated("resnet50")
    files = candidates("torchscript", model, made, {"x86": Choice(), "onednn": Choice(fused=True)})
    print(f"resnet50, TorchScript int8, microseconds: {operators(files['x86'], 'x86')}")
    print(f"the same for the engine onednn: {operators(files['onednn'], 'onednn')}", flush=True)
    for name, several in time_scripts(model, made).items():
        print(f"resnet50, TorchScript, engine {name}: {told(several)}", flush=True)


def operators(content: bytes, engine: str) -> str:
    """The slowest operators of a TorchScript file, by its own time in torch's profile: microseconds an image."""
    import torch

    torch.set_num_threads(default_threads())
    with quantised_engine(engine), torch.inference_mode():
        module, images = torch.jit.load(io.BytesIO(content)), torch.randn(1, *SHAPE)
        for _ in range(RUNS // 2):
            module(images)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as found:
            for _ in range(RUNS):
                module(images)
    slowest = sorted(found.key_averages(), key=lambda one: -one.self_cpu_time_total)[:4]
    return ", ".join(f"{one.key} {one.self_cpu_time_total / RUNS:.0f}" for one in slowest)


def parts() -> None:
    """Print, for each network, what the stem by fours and the blocks give."""
    by_fours = for_onnx.read_by_fours
    for name in ("resnet18", "resnet50", "googlenet", "mobilenet_v2", "vgg11", "alexnet"):
        _, made, _ = calibrated(name)
        base = for_onnx.prepare(made.graph)
        layers = [layer.name for layer in list_layers(base)]

        def file(made=made, base=base, layers=layers, blocks: bool = False) -> bytes:
            return for_onnx.render(base, made.table, layers, Choice(blocks=blocks)).SerializeToString()

        ours = file()
        for_onnx.read_by_fours = lambda _proto, _sizes: None
        plain = file()
        for_onnx.read_by_fours = by_fours
        told_of = {"stem by fours": told(ratios(plain, {"ours": ours}, SHAPE)["ours"])}
        if wide_layers(View(base)):
            told_of["blocks"] = told(ratios(ours, {"ours": file(blocks=True)}, SHAPE)["ours"])
        print(f"{name}: " + ", ".join(f"{part} {ratio}" for part, ratio in told_of.items()), flush=True)


if __name__ == "__main__":
    import warnings

    warnings.simplefilter("ignore")
    for job in sys.argv[1:] or ["alexnet", "resnet50", "parts"]:
        {"alexnet": alexnet, "resnet50": resnet50, "parts": parts}[job]()
