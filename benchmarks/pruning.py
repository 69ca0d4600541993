"""What pruning leaves of the latency at 3x224x224, batch 1: measured, and as `zoo prune --will-it-pay` predicts it.

    .venv/bin/python benchmarks/pruning.py measured RUN PRUNED...    ONNX Runtime, fp32 and int8, over RUN in fp32
    .venv/bin/python benchmarks/pruning.py predicted [MODEL...]      random weights, uniform widths, and int8
    .venv/bin/python benchmarks/pruning.py rounded RUN SHARE         channels in multiples of 8, 16, 32, by magnitude

Graphs run in processes of their own, in rounds of a drawn order; medians of five rounds, the smallest and largest.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence
from dataclasses import replace

from timed_files import candidates, ratios
from zoo.calibration.choice import Choice
from zoo.calibration.pruning.budget import Budget, Spread
from zoo.calibration.pruning.structured import prune_channels
from zoo.exporter.prune.estimate import will_it_pay
from zoo.exporter.prune.latency_target import left, share_of_time
from zoo.exporter.prune.options import usual_block
from zoo.exporter.quantize.calibrate import calibrate
from zoo.exporter.quantize.initial import suitable_bits
from zoo.exporter.timing.machine import cpu_flags
from zoo.models.data.catalog import open_data
from zoo.models.sources import Model, SourceOptions, resolve

SHAPE = (3, 224, 224)
MODELS = ("resnet18", "resnet50", "mobilenet_v2", "googlenet", "vgg11_bn", "efficientnet_b0")


def main(what: str, *names: str) -> None:
    """Print a line for each model."""
    {"measured": measured, "predicted": predicted, "rounded": rounded}[what](*names)


def measured(base: str, *pruned: str) -> None:
    """Pruned runs, in fp32 and int8, beside the run they came from."""
    reference = files(base)[0]
    for name in pruned:
        fp32, int8 = files(name)
        both = {"fp32": fp32, "int8": int8}
        for precision, found in ratios(reference, both, SHAPE).items():
            print(f"{name} {precision}: {told(found)} of the latency of {base} in fp32")


def predicted(*names: str) -> None:
    """The table's prediction beside the measurement of the whole network."""
    step = usual_block(cpu_flags())
    for name in names or MODELS:
        model = resolve(name, SourceOptions(weights="random"))
        found = will_it_pay(model, "onnx", round_to=step)
        rows = {row.what: row.left for row in found.rows}
        for share in (0.75, 0.5):
            module = copy.deepcopy(model.module)
            prune_channels(module, SHAPE, Budget(share, "uniform", step))
            shares = share_of_time(model, module, "onnx", SHAPE)
            print(f"{name} {share:g} of the MACs: predicted {rows[f'{share:g} of the MACs']:.2f}, {told(shares)}")
        reference, integer = timing_of(model)
        found = ratios(reference, {"int8": integer}, SHAPE)["int8"]
        print(f"{name} int8: predicted {rows['int8']:.2f}, {told(found)}", flush=True)


def rounded(name: str, share: str) -> None:
    """What the number that channels are rounded to does at one share of the MACs."""
    model = resolve(name)
    spreads: tuple[Spread, ...] = ("global", "uniform")
    for spread in spreads:
        for step in (8, 16, 32):
            module = copy.deepcopy(model.module)
            prune_channels(module, SHAPE, Budget(float(share), spread, step))
            print(f"{spread}, multiples of {step}: {told(share_of_time(model, module, 'onnx', SHAPE))}", flush=True)


def files(run: str) -> tuple[bytes, bytes]:
    """A run's ONNX files in fp32 and int8, for images of 224 pixels."""
    model = resolve(run)
    return timing_of(replace(model, spec=model.spec.sized(*SHAPE[1:])))


def timing_of(model: Model) -> tuple[bytes, bytes]:
    """ONNX files in fp32 and with all layers int8; what calibrates does not matter for speed."""
    calibrated = calibrate(model, open_data("digits"), images=16)
    choices = {"float": None, "int8": Choice(weight_bits=suitable_bits("onnx", cpu_flags()))}
    files = candidates("onnx", model, calibrated, choices)
    return files["float"], files["int8"]


def told(ratios: Sequence[float]) -> str:
    """The share that is left, with the smallest and the largest round."""
    return f"{left(ratios):.3f} ({1 / max(ratios):.3f} to {1 / min(ratios):.3f})"


if __name__ == "__main__":
    main(*sys.argv[1:])
