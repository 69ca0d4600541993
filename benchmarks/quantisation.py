"""int8 against float, batch 1, 2 threads: ONNX Runtime (ours and its own quantize_static) and TorchScript.

    .venv/bin/python benchmarks/quantisation.py [MODEL ...]

Each graph in processes of its own, five rounds in an order drawn anew; ratios of medians of 40
runs, with the smallest and largest round. Weights are random with live statistics, images are noise: speed only.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
from quantize_static import static
from timed_files import candidates, ratios
from zoo.calibration.blocks import wide_layers
from zoo.calibration.choice import Calibrated, Choice
from zoo.calibration.ranges import collect
from zoo.calibration.view import View
from zoo.exporter.artifact.manifest import Batch
from zoo.exporter.backends.graph.graph import trace_graph
from zoo.exporter.backends.graph.layers import list_layers
from zoo.exporter.backends.onnx import int8 as for_onnx
from zoo.exporter.quantize import partition
from zoo.models.sources import Model, SourceOptions, resolve

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


def calibrated(name: str) -> tuple[Model, Calibrated, np.ndarray]:
    """A network with random weights and live statistics, its ranges on noise, and the noise."""
    model = resolve(name, SourceOptions(weights="random"))
    images = np.random.default_rng(0).normal(size=(16, *SHAPE)).astype(np.float32)
    graph, program = trace_graph(model.module, model.spec, "fp32", Batch(1, 8, 64))
    table = collect(program, for_onnx.edges(for_onnx.prepare(graph)), images.reshape(4, 4, *SHAPE))
    return model, Calibrated(model.module, graph, program, table, images[:4]), images


def told(ratios: list[float]) -> str:
    """Median and spread."""
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def time_scripts(model: Model, made: Calibrated) -> dict[str, list[float]]:
    """TorchScript float over int8: a file that torch runs by itself, and one for its engine onednn."""
    choices = {"float": None, "any": Choice(), "onednn": Choice(fused=True)}
    files = candidates("torchscript", model, made, choices)
    return ratios(files.pop("float"), files, SHAPE, "torchscript")


def main(names: list[str]) -> None:
    """Print a Markdown table, a row a model."""
    print("| model | ONNX Runtime | with --batch 1 | MACs int8 | quantize_static | TorchScript | engine onednn |")
    print("|---|---|---|---|---|---|---|")
    for name in names:
        model, made, images = calibrated(name)
        base, table = for_onnx.prepare(made.graph), made.table
        layers = list_layers(base)

        def render(keep: frozenset[str], blocks: bool = False, base=base, table=table, layers=layers) -> bytes:
            choice = Choice(keep=dict.fromkeys(keep, ""), blocks=blocks)
            return for_onnx.render(base, table, [layer.name for layer in layers], choice).SerializeToString()

        kept = partition.candidates(base, layers)
        raced = ratios(base.SerializeToString(), {key: render(keep) for key, keep in kept.items()}, SHAPE)
        best = max(kept, key=lambda key: statistics.median(raced[key]))
        with tempfile.TemporaryDirectory() as place:
            graphs = {"ours": render(kept[best]), "static": static(made.graph, images, Path(place), "MinMax")}
        if wide_layers(View(base)):
            graphs["blocks"] = render(kept[best], blocks=True)
        found = ratios(base.SerializeToString(), graphs, SHAPE)
        blocks = told(found["blocks"]) if "blocks" in found else "the same"
        scripts = [told(several) for several in time_scripts(model, made).values()]
        share = partition.integer_share(layers, kept[best])
        row = [name, told(found["ours"]), blocks, f"{share:.0%}", told(found["static"]), *scripts]
        print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    import warnings

    warnings.simplefilter("ignore")
    main(sys.argv[1:] or MODELS)
