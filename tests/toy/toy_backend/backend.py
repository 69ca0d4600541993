"""The backend: what an export writes, and the runner of what it wrote."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from zoo.errors import IntegrityError, one_line
from zoo.exporter.artifact.folder import Artifact
from zoo.exporter.artifact.manifest import Batch, Layer, Receipt
from zoo.exporter.backends.base import Backend
from zoo.exporter.backends.options import Available, ExportOptions, Progress, Unavailable, Written
from zoo.exporter.backends.runner import Logits, Runner
from zoo.models.spec import ModelSpec

from .info import INFO
from .run import evaluator, pack

if TYPE_CHECKING:
    import onnx
    from torch import nn
    from zoo.calibration.choice import Calibrated, Choice


class Toy(Backend):
    """Export to a graph that numpy runs, in float or with Q/DQ."""

    info = INFO

    def available(self) -> Available | Unavailable:
        """Everywhere."""
        return Available(np.__version__, ("cpu",))

    def _export(
        self, module: nn.Module, spec: ModelSpec, options: ExportOptions, folder: Path, progress: Progress
    ) -> Written:
        from zoo.exporter.backends.graph.graph import make_graph
        from zoo.exporter.backends.graph.layers import list_layers

        graph = make_graph(module, spec, options, options.batch or Batch(1, 8, 64), "fp32", _render)
        (folder / INFO.model).write_bytes(pack(graph.SerializeToString()))
        return Written(INFO.model, tools={"numpy": np.__version__}, plan=list_layers(graph))

    def _load(self, artifact: Artifact, device: str) -> Runner:
        return NumpyRunner(str(artifact.folder), artifact.manifest.spec, artifact.model_path, artifact.manifest.plan)


def _render(calibrated: Calibrated, choice: Choice) -> onnx.ModelProto:
    """Q/DQ where the rules of this backend, which are onnx's, put it."""
    from zoo.exporter.backends.graph.layers import list_layers
    from zoo.exporter.backends.graph.qdq_sites import prepare
    from zoo.exporter.backends.onnx.int8 import render

    graph = prepare(calibrated.graph, calibrated.view)
    layers = [layer.name for layer in list_layers(graph)]
    return render(graph, calibrated.table, layers, choice, calibrated.rounder)


class NumpyRunner(Runner):
    """Runs a file in numpy."""

    def __init__(self, name: str, spec: ModelSpec, path: Path, plan: tuple[Layer, ...]) -> None:
        super().__init__(name, spec)
        self._path, self._plan = path, plan
        self._batch: Any = None
        self._last: Any = None

    def _start(self) -> None:
        try:
            self._evaluate = evaluator(self._path.read_bytes())
        except Exception as error:  # protobuf's own error class
            raise IntegrityError(f"{self._path}: {one_line(error)}", fix="export again") from error

    def _stop(self) -> None:
        self._batch = self._last = None

    def _run(self, batch: Any) -> Logits:
        return self._evaluate(batch)

    def _prepare(self, batch: Any) -> None:
        self._batch = batch

    def _upload(self, batch: Any) -> None:
        self._batch = batch

    def _step(self) -> None:
        self._last = self._evaluate(self._batch)

    def _synchronize(self) -> None:
        """Nothing runs behind numpy's back."""

    def _fetch_last(self) -> Logits:
        return self._last

    def _receipt(self) -> Receipt:
        """Numpy computes what the graph says, layer by layer."""
        ran = {layer.name: layer.precision for layer in self._plan}
        return Receipt(f"numpy {np.__version__}", "cpu", "numpy", dict(Counter(ran.values())), ran)
