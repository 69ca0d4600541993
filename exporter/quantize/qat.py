"""Training with fake quantisation, joined to the export: what it learned is named as the float graph's tensors are."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ...calibration.qat import FakeQuantised, QatOptions
from ...calibration.recognise import ALIKE, apart, known_edges, seen_by
from ...errors import UsageError
from ...models.data.dataset import Dataset, batches
from ...models.preprocess import normalise
from ...models.runs import Learned
from ..artifact.manifest import Batch
from ..backends.graph.graph import trace_graph
from ..backends.infos import rules_of

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import nn
    from torch.export import ExportedProgram

    from ...models.spec import ModelSpec
    from ...models.training.recipe import Recipe

SAMPLE = 8


class QatStandin:
    """What `models.training.loop.train` trains in the module's place; its `Standin`."""

    def __init__(self, options: QatOptions, spec: ModelSpec, data: Dataset) -> None:
        self.options, self._spec, self._rules = options, spec, rules_of(options.target)
        self.facts: dict[str, Any] = {"qat": asdict(options)}
        if not len(data.train):
            raise UsageError(f"{data.name} has no images to train on", fix="add a train/ folder")
        split = data.train.take(np.arange(min(SAMPLE, len(data.train))))
        pixels, _ = next(batches(split, spec.preprocess, SAMPLE))
        self._sample = normalise(pixels, spec.preprocess)
        self.unmatched: tuple[str, ...] = ()

    def start(self, module: nn.Module) -> FakeQuantised:
        """The module's graph with fake quantisation; one that could not be exported is refused before the training."""
        trace_graph(module, self._spec, "fp32", Batch(1, 8, 1024))
        self._trained = FakeQuantised(module, self._spec.input, self.options, self._rules)
        return self._trained

    def at(self, share: float) -> None:
        """Freezes norms and ranges when their time has come."""
        self._trained.at(share)

    def finish(self, module: nn.Module, accuracy: float) -> Learned:
        """Weights to the module, ranges by the names of its float graph."""
        trained = self._trained.to("cpu")
        trained.write_back(module)
        module.to("cpu").eval()
        _, program = trace_graph(module, self._spec, "fp32", Batch(1, 8, 1024))
        ranges, self.unmatched = learned_ranges(trained, program, self._sample)
        return Learned(self.options.target, self.options.bits, ranges, accuracy)


def learned_ranges(
    trained: FakeQuantised, program: ExportedProgram, sample: npt.NDArray[np.float32]
) -> tuple[dict[str, tuple[float, float]], tuple[str, ...]]:
    """The range of each tensor of the trained module's float graph that was rounded in training, and what matched none.

    Tensors are recognised by what they are for a few images, without rounding (calibration/recognise.py). One that only
    moves another's numbers gets its range too; of several ranges for one tensor the union is taken.
    """
    import torch

    known = known_edges(program, sample)
    prints = seen_by(trained.ranges().items(), lambda: trained.in_float(torch.from_numpy(sample)))
    found: dict[str, tuple[float, float]] = {}
    unmatched: list[str] = []
    for name, (low, high) in trained.spans().items():
        same = [edge for edge, own in known.items() for seen in prints[name] if apart(seen, own) <= ALIKE]
        for edge in same:
            before = found.get(edge, (low, high))
            found[edge] = min(low, before[0]), max(high, before[1])
        if not same:
            unmatched.append(name)
    return found, tuple(unmatched)


def qat_recipe(recipe: Recipe) -> Recipe:
    """A recipe in float32: what rounds to 8 bits has to be more exact than 8 bits, and bfloat16 is not.

    Raises:
        UsageError: another precision was asked for.
    """
    if recipe.average:
        raise UsageError("--qat learns ranges that belong to the last weights, not to their average", fix="average=0")
    if recipe.precision not in ("auto", "fp32"):
        raise UsageError(
            f"--qat trains in fp32, precision={recipe.precision} is as coarse as the integers", fix="leave it out"
        )
    return replace(recipe, precision="fp32")
