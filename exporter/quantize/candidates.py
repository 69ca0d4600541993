"""The climb: of the ways to quantise, the cheapest one whose accuracy holds on images that calibration did not see."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ...calibration.choice import DEPTHWISE, ENDS, Choice
from ...models.data.dataset import Dataset, batches
from ...models.data.labels import Unmatched, match_classes
from ...models.preprocess import normalise
from ...models.spec import ModelSpec
from ..artifact.manifest import Layer
from ..backends.graph.layers import INT8_AT_LEAST
from ..backends.runner import Runner
from ..checks.accuracy import judge_accuracy, measure_accuracy
from ..checks.gate import Gate

if TYPE_CHECKING:
    import onnx

Logits = npt.NDArray[np.float32]
Run = Callable[[npt.NDArray[np.float32]], Logits]
JUDGED = 2000  # images, of the validation split
BATCH = 50

# From the cheapest; each costs a rendering of the graph and a pass over the images that judge it. Equalising also
# calibrates again, and AdaRound takes a pass over calibration images and seconds a layer. Layers in float cost time
# whenever the model runs, so that the many depthwise ones come last.
RUNGS = (
    Choice("minmax"),
    Choice("percentile"),
    Choice("mse"),
    Choice("minmax", bias_correction=True),
    Choice("percentile", bias_correction=True),
    Choice("mse", bias_correction=True),
    Choice("mse", bias_correction=True, keep={"first": ENDS, "last": ENDS}),
    Choice("mse", bias_correction=True, equalised=True),
    Choice("mse", bias_correction=True, adaround=True),
    Choice("mse", bias_correction=True, equalised=True, adaround=True),
    Choice("percentile", bias_correction=True, keep={"first": ENDS, "last": ENDS, "depthwise": DEPTHWISE}),
)


@dataclass(frozen=True)
class Tried:
    """One rung and how it did."""

    choice: Choice
    gate: Gate

    def as_mapping(self) -> dict[str, Any]:
        """As artifact.json keeps it."""
        return {"choice": str(self.choice), **self.gate.as_mapping()}


@dataclass(frozen=True)
class Judge:
    """Images with labels that no calibration saw, and what the float model answers.

    Attributes:
        images: prepared batches, made anew on each call.
        labels: indices of the model's outputs.
        reference: logits of the float model.
    """

    images: Callable[[], Iterator[npt.NDArray[np.float32]]]
    labels: npt.NDArray[np.int64]
    reference: Logits


def make_judge(
    spec: ModelSpec, data: Dataset, meaningful: bool, run: Run, limit: int = JUDGED, after: int = 0
) -> Judge | str:
    """A judge, or why there can be none: random weights, or labels that do not belong to the model.

    Args:
        spec: of the float model.
        data: its validation images judge.
        meaningful: whether the weights are.
        run: the float model.
        limit: images at most.
        after: leave so many out, in an order that is always the same: those of another judge.
    """
    if not meaningful:
        return "the weights are random: no accuracy is judged, and the cheapest way to quantise is taken"
    matched = match_classes(spec, data.classes)
    if isinstance(matched, Unmatched):
        return f"{matched.reason}: no accuracy is judged, and the cheapest way to quantise is taken"
    count = min(limit, len(data.val) - after)
    if count <= 0:
        return "there are no validation images: no accuracy is judged, and the cheapest way to quantise is taken"
    order = np.sort(np.random.default_rng(0).permutation(len(data.val))[after : after + count])
    split = data.val.take(order)

    def images() -> Iterator[npt.NDArray[np.float32]]:
        for pixels, _ in batches(split, spec.preprocess, BATCH):
            yield normalise(pixels, spec.preprocess)

    reference = np.concatenate([run(batch) for batch in images()])
    return Judge(images, matched.index[split.labels], reference)


def answers(judge: Judge, run: Run) -> Logits:
    """What a model answers to the judge's images."""
    return np.concatenate([run(batch) for batch in judge.images()])


def depthwise_layers(graph: onnx.ModelProto) -> tuple[str, ...]:
    """Names of the convolutions with one input channel a group."""
    shapes = {one.name: one.dims for one in graph.graph.initializer}
    return tuple(
        node.name
        for node in graph.graph.node
        if node.op_type == "Conv" and any(one.name == "group" and one.i > 1 for one in node.attribute)
        if list(shapes.get(node.input[1], ()))[1:2] == [1]
    )


def rungs_for(base: Choice, layers: Sequence[Layer], depthwise: Sequence[str] = ()) -> tuple[Choice, ...]:
    """The rungs for a model: bits and kept layers of `base`, and the names of its first, last and depthwise layers.

    Ranges that a training learned come before all others.
    A policy is left out where it has nothing to keep, and where it would leave less than half of the MACs to int8.
    """
    ends = {one.name: ENDS for one in (layers[0], layers[-1]) if one.name not in base.keep} if layers else {}
    inner = {name: DEPTHWISE for name in depthwise if name not in {**base.keep, **ends}}
    total = sum(layer.macs for layer in layers) or 1
    found = [base] if base.method == "learned" else []
    for rung in RUNGS:
        more = {**(ends if "first" in rung.keep else {}), **(inner if "depthwise" in rung.keep else {})}
        keep = {**base.keep, **more}
        left = sum(layer.macs for layer in layers if layer.name not in keep)
        if rung.keep and (not more or ("depthwise" in rung.keep and not inner) or left / total < INT8_AT_LEAST):
            continue
        own = {"weight_bits": base.weight_bits, "blocks": base.blocks, "fused": base.fused}
        found.append(replace(rung, **own, keep=keep))
    return tuple(found)


def climb(
    judge: Judge,
    render: Callable[[Choice], Runner],
    rungs: Sequence[Choice],
    tell: Callable[[str], None] | None = None,
    limit: float | None = None,
) -> tuple[Choice, tuple[Tried, ...]]:
    """The first rung that passes, else the one that loses least; and all that were tried.

    Where there are too few images to tell, more tries would find the luckiest way and not a better one: the climb ends
    with a rung that loses nothing on them, and with learned ranges unless they lose more than is allowed. An asked-for
    limit has to be shown.

    Args:
        judge: images, labels, and the float model's answers.
        render: a choice as a runner.
        rungs: from the cheapest; see `rungs_for`.
        tell: is told a line for each rung.
        limit: the largest drop that passes, where another than the gate's was asked for.
    """
    tried: list[Tried] = []
    for choice in rungs:
        with render(choice) as runner:
            got = answers(judge, runner.run)
        paired = measure_accuracy(judge.reference, got, judge.labels)
        gate = judge_accuracy(paired, "int8", numerics_passed=True, limit=limit)
        tried.append(Tried(choice, gate))
        if tell is not None:
            tell(f"int8 with {choice}: {gate.verdict}: {gate.reason}")
        unclear = gate.verdict == "inconclusive" and limit is None
        if gate.verdict == "pass" or (unclear and (choice.method == "learned" or gate.numbers["drop"] <= 0)):
            return choice, tuple(tried)
    return _best(tried).choice, tuple(tried)


def _best(tried: Sequence[Tried]) -> Tried:
    return min(tried, key=lambda one: one.gate.numbers.get("drop", 1.0))
