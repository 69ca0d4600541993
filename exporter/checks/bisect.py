"""Where an ONNX graph leaves its yardstick: the first layer that is wrong, not the one that rounds.

The source's torch.export graph and the ONNX graph that was made of it have the same names for the same tensors. The
source runs once in float32 and once as the yardstick does (in half precision, or rounding as the int8 plan says), and
its tensors are kept; how far these two are apart is what rounding does to a tensor. The ONNX graph is cut at one tensor
at a time, a session each, about log2 of the layers: the first that is clearly farther from the yardstick has diverged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ...errors import ZooError, one_line
from ...models.preprocess import as_input
from ..artifact.folder import Artifact
from ..artifact.manifest import Batch
from ..backends.graph.graph import INPUT, OUTPUT, trace_graph
from ..backends.infos import known_info, rules_of
from .faithful import RULES

if TYPE_CHECKING:
    import onnx
    import torch
    from torch import nn
    from torch.export import ExportedProgram

    from ...calibration.choice import Calibrated, Choice

Tensors = dict[str, npt.NDArray[Any]]
IMAGES = 4  # whose tensors are kept
HALF = ("fp16", "bf16")
FP16_MAX = 65504.0
WEIGH = ("Conv", "ConvTranspose", "Gemm", "MatMul")

# The relative error (L2) of a tensor from which on it counts as diverged where there is no yardstick to say so.
DIVERGED = {"fp32": 1e-3, "fp16": 2e-2, "bf16": 1e-1, "int8": 2.5e-1}
BEYOND = 2.0  # times the limit of the gate: a tensor within is rounded otherwise, not wrong
BACK = "_DequantizeLinear"  # behind the name of a tensor: what its integers stand for


@dataclass(frozen=True)
class Finding:
    """The first layer that diverges.

    Attributes:
        layer, op: the ONNX node.
        weight: its weights' name; empty where it has none.
        tensor: its output.
        error: of the output, relative, L2.
        input_error: the largest of its inputs'.
        low, high: the range of its data input, in the reference.
        advice: what to try.
        sessions: how many cuts were looked at.
    """

    layer: str
    op: str
    weight: str
    tensor: str
    error: float | None
    input_error: float
    low: float
    high: float
    advice: str
    sessions: int

    def __str__(self) -> str:
        of = f" with {self.weight}" if self.weight else ""
        error = "not finite" if self.error is None else f"{self.error:.2g}"
        return (
            f"first diverges at {self.layer} ({self.op}{of}): error {error} from inputs with {self.input_error:.1g}, "
            f"which range over {self.low:.3g} to {self.high:.3g}; {self.advice}"
        )


def bisect_artifact(
    artifact: Artifact,
    module: nn.Module,
    images: npt.NDArray[np.float32],
    calibrated: Calibrated | None = None,
    choice: Choice | None = None,
) -> Finding | str:
    """The finding for an artifact that holds an ONNX graph, or in words why there is none.

    Args:
        artifact: that is not faithful.
        module: the reference.
        images: normalised, those that differ most first.
        calibrated: of an int8 export that was just made, what it was rendered from.
        choice: its plan. Without these two an int8 graph is compared with the float reference.
    """
    import onnx

    manifest = artifact.manifest
    info = known_info(manifest.backend)
    path = artifact.place / info.graph if info is not None and info.graph in manifest.files else None
    if path is None:
        return f"a {manifest.backend} file does not name its tensors; export to onnx to find the layer that diverges"
    images = images[:IMAGES]
    given = as_input(images, manifest.spec.preprocess, manifest.pixels)
    try:
        fresh, program = trace_graph(module, manifest.spec, "fp32", manifest.batch or Batch(1, 8, 64))
        exact = tensors_of(program, images, None)
        kept, limits = exact, {}
        if manifest.precision in HALF:
            kept = tensors_of(program, images, manifest.precision)
        elif calibrated is not None and choice is not None:
            kept, exact = _rounded(calibrated, choice, manifest.backend, images, exact)
        if kept is not exact:
            rule = RULES[manifest.precision]
            noise = {name: relative_error(exact[name], kept[name]) for name in kept if name in exact}
            limits = {name: BEYOND * rule.apart * max(own, rule.floor) for name, own in noise.items()}
    except ZooError as error:
        return f"the layer cannot be looked for: {error.what}"
    return first_divergence(onnx.load(path), fresh, kept, images, manifest.precision, given, limits)


def tensors_of(program: ExportedProgram, images: npt.NDArray[np.float32], precision: str | None) -> Tensors:
    """Every float tensor of a torch.export graph by name, in float32 or in a half precision."""
    from ...calibration.ranges import observe

    kept: Tensors = {}

    def keep(name: str, value: torch.Tensor) -> None:
        kept[name] = value.float().numpy()

    observe(program, images, keep, INPUT, OUTPUT, precision)
    return kept


def _rounded(
    calibrated: Calibrated, choice: Choice, target: str, images: npt.NDArray[np.float32], exact: Tensors
) -> tuple[Tensors, Tensors]:
    """The tensors of an int8 plan, and the float ones under the same names.

    What is rounded is kept as its integers stand for, behind the name that the ONNX graph has for that: cut there, the
    layer before it still runs on integers.
    """
    from ...calibration.simulate import Simulation

    rounded = Simulation(calibrated, choice, rules_of(target)).tensors(images, BACK)
    return rounded, {name: exact[name.removesuffix(BACK)] for name in rounded if name.removesuffix(BACK) in exact}


def first_divergence(
    graph: onnx.ModelProto,
    fresh: onnx.ModelProto,
    kept: Mapping[str, npt.NDArray[Any]],
    images: npt.NDArray[np.float32],
    precision: str,
    given: npt.NDArray[Any] | None = None,
    limits: Mapping[str, float] | None = None,
) -> Finding | str:
    """Search a graph for the first tensor that is not the yardstick's.

    Args:
        graph: the artifact's.
        fresh: the graph that the reference gives today, with whose weights the layer's are compared.
        kept: the yardstick's tensors by name, for these images.
        images: what both are given.
        precision: row of `DIVERGED`.
        given: the images as the artifact's graph reads them, where that is another form.
        limits: the error from which on a tensor has diverged, by name; else that of the precision.
    """
    limits = limits or {}
    makers = {name: node for node in graph.graph.node for name in node.output}
    order = [name for node in graph.graph.node for name in node.output if name in kept]
    errors: dict[str, float] = {INPUT: 0.0}
    given = images if given is None else given

    def error_of(name: str) -> float:
        if name not in errors:
            try:
                errors[name] = relative_error(kept[name], run_until(graph, name, given))
            except Exception as error:
                raise _CutError(f"the graph cannot be cut at {name}: {one_line(error)}") from error
        return errors[name]

    def diverged(name: str) -> bool:
        return error_of(name) > limits.get(name, DIVERGED[precision])

    try:
        if not order or not diverged(order[-1]):
            return "no layer stands out: the error accumulates evenly over the layers"
        found = order[search(len(order), lambda index: diverged(order[index]))]
        while True:  # the order is of one path among several: an input that diverged already is nearer to the cause
            inputs = known_inputs(found, makers, kept)
            worse = [name for name in inputs if diverged(name)]
            if not worse:
                break
            found = worse[0]
    except _CutError as error:
        return str(error)
    node = _made_by(found, makers)
    source = kept[inputs[0]] if inputs else images
    weight = node.input[1] if node.op_type in WEIGH and len(node.input) > 1 else ""
    error = errors[found]
    return Finding(
        layer=node.name,
        op=node.op_type,
        weight=weight,
        tensor=found,
        error=error if np.isfinite(error) else None,
        input_error=max((error_of(name) for name in inputs), default=0.0),
        low=float(source.min()),
        high=float(source.max()),
        advice=_advice(node, graph, fresh, precision, float(np.abs(source).max())),
        sessions=len(errors) - 1,
    )


def _made_by(name: str, makers: Mapping[str, onnx.NodeProto]) -> onnx.NodeProto:
    """The node that computes a tensor, seen through Q/DQ and the activation that is folded into it."""
    node = makers[name]
    while node.op_type in ("DequantizeLinear", "QuantizeLinear", "Relu", "Clip") and node.input[0] in makers:
        node = makers[node.input[0]]
    return node


def search(count: int, diverged: Callable[[int], bool]) -> int:
    """The first of `count` places that diverged, by binary search; the last one has."""
    low, high = 0, count - 1
    while low < high:
        middle = (low + high) // 2
        if diverged(middle):
            high = middle
        else:
            low = middle + 1
    return low


def known_inputs(name: str, makers: Mapping[str, onnx.NodeProto], kept: Mapping[str, Any]) -> list[str]:
    """The nearest tensors before one that the reference has too, seen through nodes that it has not (Q/DQ, Cast)."""
    found: list[str] = []
    waiting = list(makers[name].input[:]) if name in makers else []
    while waiting:
        one = waiting.pop(0)
        if one in kept and one not in found:
            found.append(one)
        elif one in makers and one not in kept:
            waiting += makers[one].input
    return found


def relative_error(reference: npt.NDArray[Any], got: npt.NDArray[Any]) -> float:
    """Norm of the difference over the norm of the reference; infinite for another shape, NaN or infinity."""
    if reference.shape != got.shape or not np.isfinite(got).all():
        return np.inf
    a = reference.astype(np.float64)
    signal, noise = np.linalg.norm(a), np.linalg.norm(a - got)
    return float(noise / signal) if signal > 0 else (0.0 if noise == 0 else np.inf)


def run_until(graph: onnx.ModelProto, name: str, images: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A tensor of a graph, from a session that has it as its only output, on the CPU."""
    import onnx
    import onnxruntime

    cut = onnx.ModelProto()
    cut.CopyFrom(graph)
    del cut.graph.output[:]
    cut.graph.output.add().name = name
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(cut.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def run(batch: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.asarray(session.run([name], {INPUT: batch})[0])

    try:
        return run(images)
    except Exception:  # noqa: BLE001 - a graph that takes one image at a time
        return np.concatenate([run(images[index : index + 1]) for index in range(len(images))])


class _CutError(Exception):
    pass


def _advice(
    node: onnx.NodeProto, graph: onnx.ModelProto, fresh: onnx.ModelProto, precision: str, largest: float
) -> str:
    """What to try, from what is known of the layer."""
    off = _weights_off(node.input, graph, fresh) if precision == "fp32" else ""
    if off:
        return f"{off}: export again from these weights"
    if precision == "fp16" and largest > FP16_MAX / 10:
        return f"its values come near fp16's largest, {FP16_MAX:,.0f}: use --bf16, or leave this layer in fp32"
    if precision == "int8":
        return "leave this layer in float (zoo sensitivity tells what each costs), or calibrate on more images"
    return (
        "its attributes or its kernel differ from the reference: export again, or with another version of the runtime"
    )


def _weights_off(inputs: Sequence[str], graph: onnx.ModelProto, fresh: onnx.ModelProto) -> str:
    """Which of a node's constants are not those of the fresh graph, and by how much."""
    from onnx import numpy_helper

    mine = {one.name: one for one in graph.graph.initializer}
    theirs = {one.name: one for one in fresh.graph.initializer}
    for name in inputs:
        if name in mine and name in theirs:
            error = relative_error(numpy_helper.to_array(theirs[name]), numpy_helper.to_array(mine[name]))
            if error > 1e-5:
                return f"{name} is not the reference's (off by {error:.2g})"
    return ""
