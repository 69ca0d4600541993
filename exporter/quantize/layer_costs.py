"""What each layer costs in int8 on a target, measured on a model's own images; and giving back until accuracy holds."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ...calibration.choice import Calibrated, Choice
from ...calibration.sensitivity import Cost, Effect, Logits, measure
from ..backends.base import Backend
from ..backends.graph.layers import list_layers
from ..backends.infos import find
from ..backends.onnx.runner import OrtRunner
from ..timing.engine import measure as time_subjects
from ..timing.openers import candidate_subject
from ..timing.setup import LAYERS, Subject

if TYPE_CHECKING:
    import onnx

    from ...models.sources import Model


@dataclass(frozen=True)
class Costs:
    """The layers of a model on a target, the one that float helps most first.

    Attributes:
        whole: the effect of int8 everywhere.
        layers: what each costs.
        images: how many were compared.
        timed: whether microseconds were measured.
        modules: where in the module a layer comes from, such as layer1.0.conv1, as far as its weights tell.
    """

    whole: Effect
    layers: tuple[Cost, ...]
    images: int
    timed: bool
    modules: Mapping[str, str] = field(default_factory=dict)


def measure_costs(
    backend: Backend,
    model: Model,
    calibrated: Calibrated,
    choice: Choice,
    images: npt.NDArray[np.float32],
    progress: Callable[[str, int, int], None] | None = None,
) -> Costs:
    """Quantise a model 2 L + 1 times, and on ONNX Runtime time its layers in float and in int8.

    Args:
        backend: whose target it is.
        model: the float model.
        calibrated: graph and ranges.
        choice: ranges and rounding; what it keeps float is not looked at.
        images: prepared, N x C x H x W, not those of the calibration.
        progress: is told (what, done, in all).
    """
    told = progress or (lambda _what, _done, _all: None)
    layers = [layer for layer in list_layers(calibrated.graph) if layer.name not in choice.keep]
    with OrtRunner(model.spec.name, model.spec, Path(), "cpu", calibrated.graph.SerializeToString()) as runner:
        reference = runner.run(images)

    def run(keep: frozenset[str]) -> Logits:
        if len(keep) == len(layers) == 1:
            return reference
        own = replace(choice, keep={**choice.keep, **dict.fromkeys(keep, "")})
        with backend.candidate(model, calibrated, own) as runner:
            return runner.run(images)

    saved = None
    if backend.info.layer_times:
        saved = time_layers(backend, model, calibrated, choice, lambda done, all_: told("timing", done, all_))
    whole, costs = measure(
        [(layer.name, layer.op, layer.macs) for layer in layers], run, reference, saved,
        lambda done, all_: told("quantising", done, all_),
    )  # fmt: skip
    modules = {
        node.name: node.input[1].removesuffix(".weight")
        for node in calibrated.graph.graph.node
        if len(node.input) > 1 and node.input[1].endswith(".weight")
    }
    return Costs(whole, costs, len(images), saved is not None, modules)


def time_layers(
    backend: Backend,
    model: Model,
    calibrated: Calibrated,
    choice: Choice,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, float]:
    """Microseconds that int8 saves on each layer: by the runtime's own profile, batch of one, medians of the rounds."""
    by_layer = find(backend.info.layer_times)
    names = [layer.name for layer in list_layers(calibrated.graph)]
    told = progress or (lambda _done, _total: None)
    with tempfile.TemporaryDirectory() as folder:
        subjects: list[Subject] = []
        graphs: dict[str, onnx.ModelProto] = {}
        for key, own in (("float", None), ("int8", choice)):
            place = Path(folder) / key
            place.mkdir()
            backend.write_candidate(model, calibrated, own, place)
            graphs[key] = _graph(place / backend.info.graph)
            subjects.append(candidate_subject(key, backend.name, place, model.spec))
        found = time_subjects(subjects, LAYERS, lambda now: told(now.done, now.total))
    rounds = {
        key: [
            by_layer({name: us for name, _, us in one.facts["operators"]}, graphs[key], names)
            for one in found[key].rounds
        ]
        for key in graphs
    }

    def median(key: str, name: str) -> float:
        return statistics.median(one.get(name, 0.0) for one in rounds[key])

    return {name: median("float", name) - median("int8", name) for name in names}


def _graph(path: Path) -> onnx.ModelProto:
    import onnx

    return onnx.load(path)
