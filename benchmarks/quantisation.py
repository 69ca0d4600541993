"""int8 against float, batch 1, 2 threads: ONNX Runtime (ours and its own quantize_static) and TorchScript.

    .venv/bin/python benchmarks/quantisation.py [MODEL ...]

Each graph in processes of its own, five rounds in an order drawn anew (exporter/faster.py); ratios of medians of 40
runs, with the smallest and largest round. Weights are random with live statistics, images are noise: speed only.
"""

from __future__ import annotations

import json
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from quantize_static import static
from zoo.calibration.choice import Calibrated, Choice
from zoo.calibration.ranges import collect
from zoo.calibration.targets import onnx as for_onnx
from zoo.calibration.targets import torchscript as for_torchscript
from zoo.exporter import faster
from zoo.exporter.artifact import Batch
from zoo.exporter.backends.graph import list_layers, trace_graph
from zoo.models.sources import SourceOptions, resolve

MODELS = [
    "resnet18",
    "resnet50",
    "googlenet",
    "alexnet",
    "vgg11",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "efficientnet_b0",
]
SHAPE = (3, 224, 224)
SCRIPT = """
import json, sys, time, warnings; warnings.simplefilter("ignore"); import torch
torch.set_num_threads(2); model = torch.jit.load(sys.argv[1]); batch = torch.randn(1, 3, 224, 224); times = []
with torch.inference_mode():
    for index in range(48):
        begun = time.perf_counter(); model(batch); times.append(1e3 * (time.perf_counter() - begun))
print(json.dumps(times[8:]))
"""


def scripts(paths: dict[str, Path]) -> list[float]:
    """Ratios of TorchScript, float over int8, a round each."""
    found: list[float] = []
    order = list(paths)
    for _ in range(5):
        random.shuffle(order)
        medians: dict[str, float] = {}
        for name in order:
            done = subprocess.run(
                [sys.executable, "-c", SCRIPT, paths[name]], capture_output=True, text=True, check=True
            )
            medians[name] = statistics.median(json.loads(done.stdout))
        found.append(medians["float"] / medians["int8"])
    return found


def told(ratios: list[float]) -> str:
    """Median and spread."""
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def main(names: list[str]) -> None:
    """Print a Markdown table, a row a model."""
    print("| model | ONNX Runtime int8 over float | MACs int8 | its quantize_static | TorchScript int8 over float |")
    print("|---|---|---|---|---|")
    for name in names:
        model = resolve(name, SourceOptions(weights="random"))
        images = np.random.default_rng(0).normal(size=(16, *SHAPE)).astype(np.float32)
        graph, program = trace_graph(model.module, model.spec, "fp32", Batch(1, 8, 64))
        base = for_onnx.prepare(graph)
        table = collect(program, for_onnx.edges(base), images.reshape(4, 4, *SHAPE))
        calibrated = Calibrated(model.module, graph, program, table, images[:4])
        layers = list_layers(base)

        def render(keep: frozenset[str], base=base, table=table, layers=layers) -> bytes:
            choice = Choice(keep=dict.fromkeys(keep, ""))
            return for_onnx.render(base, table, [layer.name for layer in layers], choice).SerializeToString()

        best, _ = faster.fastest(base, layers, render, SHAPE)
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            graphs = {"ours": render(best.keep), "static": static(graph, images, folder, "MinMax")}
            ratios = faster.measure(base.SerializeToString(), graphs, (1, *SHAPE))
            paths = {"float": folder / "f.pt", "int8": folder / "q.pt"}
            quantised = for_torchscript.render(calibrated, Choice())
            for key, module in (("float", model.module), ("int8", quantised)):
                with torch.inference_mode():
                    traced = torch.jit.trace(module.eval(), torch.from_numpy(images[:2]), check_trace=False)
                    assert isinstance(traced, torch.jit.ScriptModule)
                    torch.jit.save(torch.jit.freeze(traced), paths[key])
            row = [name, told(ratios["ours"]), f"{best.share:.0%}", told(ratios["static"]), told(scripts(paths))]
        print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    import warnings

    warnings.simplefilter("ignore")
    main(sys.argv[1:] or MODELS)
