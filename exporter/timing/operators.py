"""The time of each operator of a graph, from the runtime's own profile."""

from __future__ import annotations

import json
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...models.preprocess import as_input
from ...models.processors import limited_cpus
from ..runtime.container import Package
from ..runtime.predictor import INPUT, Predictor

OPERATOR_RUNS = 50


@dataclass(frozen=True)
class Operator:
    """A node of the graph that the runtime made.

    Attributes:
        name: of the node.
        kind: its operator.
        microseconds: a run, in the median.
    """

    name: str
    kind: str
    microseconds: float


def operators(package: Package, predictor: Predictor) -> tuple[Operator, ...]:
    """The time of each node, from ONNX Runtime's own profile; nothing of another runtime."""
    if predictor.artifact["backend"] != "onnx":
        return ()
    import onnxruntime

    pixels = np.zeros((1, *predictor.spec.input), np.uint8)
    images = as_input(pixels, predictor.spec.preprocess, predictor.pixels)
    durations: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        options.intra_op_num_threads = predictor.threads or limited_cpus() or 0  # 0: as many as ONNX Runtime counts
        session = onnxruntime.InferenceSession(
            package.read(predictor.artifact["model"]), options, providers=["CPUExecutionProvider"]
        )
        for _ in range(OPERATOR_RUNS):
            session.run(None, {INPUT: images})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    for event in events:
        if event.get("cat") == "Node" and str(event["name"]).endswith("_kernel_time"):
            key = str(event["name"]).removesuffix("_kernel_time"), str(event["args"].get("op_name", ""))
            durations.setdefault(key, []).append(float(event["dur"]))
    found = (Operator(name, kind, statistics.fmean(sorted(values)[len(values) // 4 : -len(values) // 4 or None]))
             for (name, kind), values in durations.items())  # fmt: skip
    return tuple(sorted(found, key=lambda one: -one.microseconds))
