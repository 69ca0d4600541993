"""Faults that are planted to see which gate finds them: in modules, in preprocessing, in quantised graphs."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from planted_graphs import IN_GRAPHS
from planted_modules import IN_LOW_PRECISION, IN_MODULES
from zoo.calibration.choice import Choice
from zoo.errors import ZooError
from zoo.exporter.artifact.folder import Golden, golden_batch
from zoo.exporter.artifact.golden import make_golden
from zoo.exporter.backends.onnx.runner import OrtRunner
from zoo.exporter.backends.options import ExportOptions
from zoo.exporter.backends.registry import get_backend
from zoo.exporter.checks.consistency import allowed_difference, judge_consistency, measure_consistency
from zoo.exporter.checks.precision import judge_precision
from zoo.exporter.checks.run import judge_golden
from zoo.exporter.checks.yardstick import with_yardstick
from zoo.exporter.quantize.calibrate import calibrate
from zoo.exporter.quantize.initial import suitable_bits
from zoo.exporter.timing.machine import cpu_flags
from zoo.models.data.dataset import Dataset
from zoo.models.preprocess import prepare
from zoo.models.sources import Model

IN_PREPROCESSING: dict[str, dict[str, Any]] = {
    "BGR for RGB": {"channels": "BGR"},
    "bicubic for bilinear": {"interpolation": "bicubic"},
    "nearest for bilinear": {"interpolation": "nearest"},
    "pixels over 256": {"scale": 1 / 256},
    "mean moved by 0.01": {"mean": 0.01},
}


def plant(
    model: Model, data: Dataset, done: set[Any], only: str
) -> Iterator[tuple[tuple[str, str, str], dict[str, Any]]]:
    """Each fault with what saw it; those that a network cannot have, or that are done, are left out."""
    base = make_golden(model, data)
    known = {tuple(one[3:]) for one in done}
    for precision, plants in (("fp32", IN_MODULES), ("fp16", IN_LOW_PRECISION), ("bf16", IN_LOW_PRECISION)):
        golden = None
        for fault in plants:
            case = (fault.__name__.replace("_", " "), "torchscript", precision)
            if case in known or (only and precision not in only.split(",")):
                continue
            golden = golden or with_yardstick(base, model, precision)  # type: ignore[arg-type]
            made = fault(copy.deepcopy(model.module))
            if made is not None:
                yield case, of_module(replace(model, module=made.eval()), golden, precision)
    if not only or "preprocessing" in only.split(","):
        golden = with_yardstick(make_golden(model, None), model, "fp32")  # of colours: the digits are grey
        for name, changed in IN_PREPROCESSING.items():
            if (name, "preprocessing", "fp32") not in known:
                yield (name, "preprocessing", "fp32"), of_preprocessing(model, golden, changed)
    if not only or "int8" in only.split(","):
        yield from of_graphs(model, data, base, known)


def verdict(gates: list[Any], golden: Golden, got: Any, precision: str, trained: bool, backend: str) -> dict[str, Any]:
    """What saw it: the first gate that fails."""
    from verdicts import numbers_of

    seen = next((gate for gate in gates if gate.verdict == "fail"), None)
    numbers = numbers_of(golden, got, precision, backend, trained) if got is not None else {}
    shown = seen or gates[0]
    return {"seen_by": seen.name if seen else "", "reason": shown.reason, **numbers}


def of_module(faulty: Model, golden: Golden, precision: str) -> dict[str, Any]:
    """A faulty module exported to TorchScript with the right one's golden answers."""
    backend = get_backend("torchscript")
    with tempfile.TemporaryDirectory() as folder:
        try:
            options = ExportOptions(precision)  # type: ignore[arg-type]
            artifact = backend.export(faulty, golden, options, Path(folder) / "a")
        except ZooError as error:
            return {"seen_by": "export", "reason": str(error)}
        images = golden_batch(golden, artifact)
        try:
            with backend.load(artifact) as runner, backend.load(artifact) as again:
                got = runner.run(images)
                gates = [judge_golden(golden, got, artifact.manifest)]
                gates.append(judge_precision("torchscript", precision, runner.receipt(), artifact.manifest.plan))
                if all(gate.verdict != "fail" for gate in gates):
                    allowed = allowed_difference("torchscript", precision, trained=faulty.meaningful, golden=golden)
                    looks = measure_consistency(runner.run, images, allowed=allowed, again=again.run)
                    gates.append(judge_consistency(looks))
        except ZooError as error:
            return {"seen_by": "consistency", "reason": str(error)}
        return verdict(gates, golden, got, precision, faulty.meaningful, "torchscript")


def of_preprocessing(model: Model, golden: Golden, changed: dict[str, Any]) -> dict[str, Any]:
    """The right module, with a mistake in the preprocessing that artifact.json says."""
    given = dict(changed)
    before = model.spec.preprocess
    if "mean" in given:
        given["mean"] = tuple(value + given["mean"] for value in before.mean)
    images = prepare(list(golden.images), replace(before, **given))
    with torch.inference_mode():
        got = model.module(torch.from_numpy(images)).numpy()
    from zoo.exporter.checks.faithful import judge_faithful

    assert golden.truth is not None and golden.yardstick is not None
    gate = judge_faithful(golden.truth, golden.yardstick, got, "fp32")
    return verdict([gate], golden, got, "fp32", model.meaningful, "eager")


def of_graphs(
    model: Model, data: Dataset, base: Golden, known: set[Any]
) -> Iterator[tuple[tuple[str, str, str], dict[str, Any]]]:
    """Faults in a quantised ONNX graph, judged by the yardstick of the plan that it was rendered from."""
    from zoo.exporter.backends.onnx.backend import _render
    from zoo.exporter.checks.faithful import judge_faithful

    names = [*IN_GRAPHS, "8-bit weights that saturate"]
    if all((name, "onnx", "int8") in known for name in names):
        return
    calibrated = calibrate(model, data, images=64)
    suits = suitable_bits("onnx", cpu_flags())
    for name in names:
        if (name, "onnx", "int8") in known:
            continue
        choice = Choice(weight_bits=suits)
        if name == "8-bit weights that saturate":
            if suits == 8:
                continue  # this CPU does not
            choice = Choice(weight_bits=8)
        golden = with_yardstick(base, model, "int8", target="onnx", calibrated=calibrated, choice=choice)
        if golden.truth is None or golden.yardstick is None:
            continue
        graph = _render(calibrated, choice)
        if name in IN_GRAPHS and IN_GRAPHS[name](graph) is False:
            continue
        images = np.concatenate([model.transform(image) for image in golden.images])
        try:
            with OrtRunner("planted", model.spec, Path("model.onnx"), "cpu", graph.SerializeToString()) as runner:
                got = runner.run(images)
        except ZooError as error:
            yield (name, "onnx", "int8"), {"seen_by": "runtime", "reason": str(error)}
            continue
        gate = judge_faithful(golden.truth, golden.yardstick, got, "int8", jitter=golden.jitter)
        yield (name, "onnx", "int8"), verdict([gate], golden, got, "int8", model.meaningful, "onnx")
