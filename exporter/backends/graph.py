"""The typed ONNX graph that the onnx and trt backends share: written, verified, and its compute layers listed.

Precision is in the graph: fp16 comes from a half module, bf16 from the folded fp32 graph, int8 is Q/DQ. Nothing here
trusts a flag of a runtime; what a layer computes in is read from the types of its operands.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from ...calibration.targets.sites import name_nodes
from ...errors import UnavailableError, UsageError, one_line
from ...models.spec import ModelSpec
from ..artifact import Batch, Layer, Precision
from .retype import to_bfloat16

if TYPE_CHECKING:
    import onnx
    from torch import nn
    from torch.export import ExportedProgram

    from ...calibration.choice import Calibrated, Choice
    from .base import ExportOptions

INPUT, OUTPUT = "images", "logits"
OPSET = {"fp32": 20, "fp16": 20, "bf16": 22}  # bfloat16 convolutions came with opset 22
GIVEN_OPSETS = range(13, 23)  # of a graph that a user brings; per-channel Q/DQ came with 13
EXTERNAL_ABOVE = 2 << 30  # protobuf's limit
STACK = "pkg.torch.onnx.stack_trace"
_COMPUTE = {"Conv", "FusedConv", "ConvTranspose", "Gemm", "FusedGemm", "MatMul", "FusedMatMul", "NhwcFusedConv"}
_NAMES = {1: "fp32", 10: "fp16", 16: "bf16", 11: "fp64", 3: "int8", 2: "int8"}  # onnx.TensorProto's numbers
_INTEGER = {"QLinearConv", "QLinearMatMul", "QGemm", "ConvInteger", "MatMulInteger", "ConvIntegerBias"}
_PASSES_ON = ("Transpose", "Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze")
SMALL = 1024  # elements; larger constants are weights, and shapes do not depend on them
INT8_AT_LEAST = 0.5  # of the MACs of an int8 graph


def make_graph(
    module: nn.Module,
    spec: ModelSpec,
    options: ExportOptions,
    batch: Batch,
    rest: Precision,
    render: Callable[[Calibrated, Choice], onnx.ModelProto],
) -> onnx.ModelProto:
    """The graph of an export: the one that the user brings, else one written from the module.

    Args:
        module: the model in fp32.
        spec: its input and classes.
        options: precision, and for int8 the calibration or the user's file.
        batch: sizes it will be run with.
        rest: what the layers of an int8 graph that are not int8 compute in.
        render: writes the Q/DQ of the target.

    Raises:
        UsageError, UnavailableError: as `export_graph` and `read_graph`.
    """
    if options.graph is not None:
        return read_graph(options.graph, spec, options.precision, rest)
    if options.calibrated is not None:
        proto = render(options.calibrated, options.choice)
        verify_graph(proto, spec, options.precision, GIVEN_OPSETS, rest)
        return proto
    return export_graph(module, spec, options.precision, batch)


def export_graph(module: nn.Module, spec: ModelSpec, precision: Precision, batch: Batch) -> onnx.ModelProto:
    """A module as a verified ONNX graph of a precision; see `trace_graph`."""
    return trace_graph(module, spec, precision, batch)[0]


def trace_graph(
    module: nn.Module, spec: ModelSpec, precision: Precision, batch: Batch
) -> tuple[onnx.ModelProto, ExportedProgram]:
    """A module as a verified ONNX graph of a precision: `images` N x C x H x W to `logits` N x K, both float32.

    With it comes the torch.export graph it was made of; a tensor has the same name in both.

    Raises:
        UnavailableError: onnxscript is missing.
        UsageError: torch.onnx cannot export the module, or what it made is not what was asked for.
    """
    if not installed("onnxscript"):
        raise UnavailableError("exporting to ONNX needs onnxscript", fix='pip install "zoo-export[full]"')
    import torch

    from .torch_common import in_precision

    example = torch.randn(2, *spec.input, generator=torch.Generator().manual_seed(0))
    try:
        with _quiet(), torch.inference_mode(False), torch.no_grad():
            program = torch.onnx.export(
                in_precision(module, "fp32" if precision == "bf16" else precision),
                (example,),
                dynamo=True,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=max(2, batch.max))},),
                opset_version=OPSET[precision],
                verbose=False,
            )
    except Exception as error:  # torch.onnx wraps whatever its passes raise
        raise UsageError(f"{spec.name} cannot be exported to ONNX: {_cause(error)}") from error
    assert program is not None
    proto = program.model_proto
    if precision == "bf16":
        proto = to_bfloat16(proto)
    verify_graph(proto, spec, precision, {OPSET[precision]})
    assert program.exported_program is not None
    return proto, program.exported_program


def read_graph(path: Path, spec: ModelSpec, precision: Precision, rest: Precision) -> onnx.ModelProto:
    """A graph that the user brings for the model, such as one with Q/DQ from another tool; verified like our own.

    Its one input and one output get our names.

    Raises:
        UsageError: no such file, no ONNX, another interface than the model's, or another precision than asked for.
    """
    import onnx

    if not path.is_file():
        raise UsageError(f"{path}: no such file", fix="give an ONNX graph of this model")
    try:
        proto = onnx.load(path)
    except Exception as error:  # protobuf's own error class, and onnx's for external data
        raise UsageError(f"{path} is not an ONNX file ({one_line(error)})") from error
    graph = proto.graph
    name_nodes(proto)
    fed = [value for value in graph.input if value.name not in {one.name for one in graph.initializer}]
    if len(fed) == len(graph.output) == 1:
        renamed = {INPUT: f"{INPUT}_inner", OUTPUT: f"{OUTPUT}_inner", fed[0].name: INPUT, graph.output[0].name: OUTPUT}
        for one in graph.initializer:
            one.name = renamed.get(one.name, one.name)
        fed[0].name, graph.output[0].name = INPUT, OUTPUT
        for node in graph.node:
            for names in (node.input, node.output):
                for index, name in enumerate(names):
                    names[index] = renamed.get(name, name)
    verify_graph(proto, spec, precision, GIVEN_OPSETS, rest)
    return proto


def verify_graph(
    proto: onnx.ModelProto,
    spec: ModelSpec,
    precision: Precision,
    opsets: Collection[int],
    rest: Precision = "fp32",
) -> None:
    """Refuse a graph that is not what was asked for; part of every export.

    Checks the ONNX checker's full check, strict shape inference, the opset, one float input `images` with a dynamic
    batch, one float output `logits` N x K, and the precision of every compute layer: all of them in it, or for int8
    at least half of the MACs in int8 and the others in `rest`.

    Raises:
        UsageError: naming what is wrong.
    """
    import onnx

    try:
        if proto.ByteSize() < EXTERNAL_ABOVE:
            onnx.checker.check_model(proto, full_check=True)
            onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True, data_prop=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise UsageError(f"{spec.name}: the exported graph is not valid ONNX: {one_line(error)}") from error
    problems: list[str] = []
    used = opset_of(proto)
    if used not in opsets:
        problems.append(f"opset is {used}, not {' or '.join(map(str, opsets)) if len(opsets) < 4 else opsets}")
    constants = {one.name for one in proto.graph.initializer}
    for values, name, shape in (
        ([value for value in proto.graph.input if value.name not in constants], INPUT, spec.input),
        (proto.graph.output, OUTPUT, (len(spec.labels),)),
    ):
        if len(values) != 1 or values[0].name != name:
            problems.append(f"expected one `{name}`, got {[value.name for value in values]}")
            continue
        tensor = values[0].type.tensor_type
        dims = [dim.dim_value if dim.HasField("dim_value") else dim.dim_param for dim in tensor.shape.dim]
        if tensor.elem_type != onnx.TensorProto.FLOAT:
            problems.append(f"`{name}` is not float32")
        if tuple(dims[1:]) != tuple(shape):
            problems.append(f"`{name}` has shape {dims}")
        if not dims or isinstance(dims[0], int):
            problems.append(f"the batch of `{name}` is fixed to {dims[0] if dims else 'nothing'}")
    problems += wrong_precision(list_layers(proto), precision, rest)
    if problems:
        raise UsageError(f"{spec.name}: the exported graph is not what was asked for: {'; '.join(problems)}")


def wrong_precision(layers: Collection[Layer], precision: str, rest: str) -> list[str]:
    """Why layers are not what an export at this precision holds; empty when they are."""
    counted = dict(Counter(layer.precision for layer in layers))
    if not layers:
        return ["it holds no convolution and no matrix product"]
    if precision != "int8":
        return [f"compute layers by precision are {counted}, not all {precision}"] if set(counted) - {precision} else []
    problems: list[str] = []
    if set(counted) - {"int8", rest}:
        problems.append(f"compute layers by precision are {counted}, not int8 with {rest} for the rest")
    share = share_of(layers, "int8")
    if share < INT8_AT_LEAST:
        problems.append(f"{share:.0%} of its MACs are int8, at least {INT8_AT_LEAST:.0%} must be")
    return problems


def share_of(layers: Collection[Layer], precision: str) -> float:
    """The share of the MACs in this precision; by count where a shape is missing; 0 for no layers."""
    weigh = all(layer.macs for layer in layers)
    total = sum(layer.macs if weigh else 1 for layer in layers)
    part = sum(layer.macs if weigh else 1 for layer in layers if layer.precision == precision)
    return part / total if total else 0.0


def list_layers(proto: onnx.ModelProto) -> tuple[Layer, ...]:
    """The convolutions and matrix products of a graph, with the precision of each and its MACs for one image.

    Local functions are inlined. What lies inside control flow is listed with the precision "unknown": nothing here can
    tell how often it runs.
    """
    import onnx

    if proto.functions:
        from onnx import inliner

        proto = inliner.inline_local_functions(proto)
    known = _inferred(proto)
    produced = {output: node for node in proto.graph.node for output in node.output}

    def maker(name: str) -> onnx.NodeProto | None:
        """The node that makes a tensor, seen through those that only change its shape."""
        node = produced.get(name)
        while node is not None and node.op_type in _PASSES_ON:
            node = produced.get(node.input[0])
        return node

    def integer(name: str) -> bool:
        """Whether a tensor is the dequantised value of 8-bit integers."""
        node = maker(name)
        kinds = (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)
        return node is not None and node.op_type == "DequantizeLinear" and known.types.get(node.input[0]) in kinds

    found: list[Layer] = []
    for node in proto.graph.node:
        if node.op_type in _INTEGER:
            found.append(Layer(node.name, node.op_type, "int8", _macs(node, known.shapes)))
        elif node.op_type in _COMPUTE:
            both = all(integer(name) for name in node.input[:2])
            told = {known.types.get(name, 0) for name in node.input[:2]} - {0}  # a runtime's own operators tell none
            kinds = {_NAMES.get(kind, "unknown") for kind in told} or {"unknown"}
            precision = "int8" if both else kinds.pop() if len(kinds) == 1 else "unknown"
            found.append(Layer(node.name, node.op_type, precision, _macs(node, known.shapes)))
        else:
            found += [Layer(name, op, "unknown") for name, op in _inside(node)]
    return tuple(found)


def _inside(node: onnx.NodeProto) -> list[tuple[str, str]]:
    """Compute nodes in the bodies of control flow."""
    found: list[tuple[str, str]] = []
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                found += [(inner.name, inner.op_type)] if inner.op_type in _COMPUTE | _INTEGER else _inside(inner)
    return found


def count_layers(proto: onnx.ModelProto) -> dict[str, int]:
    """Compute layers of a graph by precision."""
    return dict(Counter(layer.precision for layer in list_layers(proto)))


def opset_of(proto: onnx.ModelProto) -> int:
    """The version of ONNX's own operators; 0 where a graph has none."""
    return next((one.version for one in proto.opset_import if one.domain in ("", "ai.onnx")), 0)


def save_graph(proto: onnx.ModelProto, path: Path) -> None:
    """Write a graph; weights beyond protobuf's limit go into a file beside it.

    Where the source files lay that a node comes from is left out: it tells of the machine, and would make the same
    model another file on each.
    """
    import onnx

    for node in (*proto.graph.node, *(inner for function in proto.functions for inner in function.node)):
        for entry in [entry for entry in node.metadata_props if entry.key == STACK]:
            node.metadata_props.remove(entry)
    if proto.ByteSize() < EXTERNAL_ABOVE:
        path.write_bytes(proto.SerializeToString())
    else:
        onnx.save(proto, path, save_as_external_data=True, location=f"{path.name}.data")


def installed(package: str) -> str:
    """A package's version, or an empty string."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


@dataclass(frozen=True)
class _Known:
    """Shapes (for one image) and element types of tensors, by name; what cannot be inferred is missing."""

    shapes: dict[str, tuple[int, ...]]
    types: dict[str, int]


def _inferred(proto: onnx.ModelProto) -> _Known:
    """Infer with the batch set to 1, on a copy without the large weights, of which only the shapes matter."""
    import onnx

    light = type(proto)()
    light.opset_import.extend(proto.opset_import)
    light.ir_version = proto.ir_version
    light.graph.name = "light"
    light.graph.node.extend(proto.graph.node)
    light.graph.output.extend(proto.graph.output)
    constants = {one.name for one in proto.graph.initializer}
    for one in proto.graph.initializer:
        if math.prod(one.dims) <= SMALL and one.data_location != onnx.TensorProto.EXTERNAL:
            light.graph.initializer.append(one)
        else:
            light.graph.input.append(onnx.helper.make_tensor_value_info(one.name, one.data_type, one.dims))
    for value in proto.graph.input:
        if value.name not in constants:
            fed = light.graph.input.add()
            fed.CopyFrom(value)
            dims = fed.type.tensor_type.shape.dim
            if dims and not dims[0].dim_value:
                dims[0].dim_value = 1
    for value in light.graph.output:
        value.type.tensor_type.ClearField("shape")
    with contextlib.suppress(onnx.shape_inference.InferenceError):  # then what is not known counts as unknown
        light = onnx.shape_inference.infer_shapes(light, data_prop=True)
    shapes = {one.name: tuple(one.dims) for one in proto.graph.initializer}
    types = {one.name: one.data_type for one in proto.graph.initializer}
    for value in (*light.graph.input, *light.graph.value_info, *light.graph.output):
        tensor = value.type.tensor_type
        types.setdefault(value.name, tensor.elem_type)
        if tensor.HasField("shape") and all(dim.dim_value > 0 for dim in tensor.shape.dim):
            shapes.setdefault(value.name, tuple(dim.dim_value for dim in tensor.shape.dim))
    for (
        value
    ) in proto.graph.value_info:  # of tensors that inference did not reach, such as those of a runtime's operators
        types.setdefault(value.name, value.type.tensor_type.elem_type)
    return _Known(shapes, types)


def _macs(node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]]) -> int:
    """Multiply-accumulates of a node for one image; 0 where shapes are not known."""
    data, weight = (shapes.get(name) for name in node.input[:2])
    made = shapes.get(node.output[0])
    if made is None or data is None or weight is None or len(weight) < 2:
        return 0
    if node.op_type == "ConvTranspose":  # every input element meets every kernel element of its group
        return math.prod(data) * math.prod(weight[1:])
    if "Conv" in node.op_type:
        return math.prod(made) * math.prod(weight[1:])
    turned = any(one.name == "transA" and one.i for one in node.attribute)
    return math.prod(made) * data[-2 if turned else -1]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """torch.onnx reports its steps on stdout and warns of its own deprecations; neither is for our user."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    before = [logger.level for logger in loggers]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, before, strict=True):
                logger.setLevel(level)


def _cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {one_line(error)}"[:300]
