"""The typed ONNX graph that the onnx and trt backends share: written, verified, and its compute layers listed.

Precision is in the graph: fp16 comes from a half module, bf16 from the folded fp32 graph, int8 is Q/DQ. Nothing here
trusts a flag of a runtime; what a layer computes in is read from the types of its operands.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Collection, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from ....errors import UnavailableError, UsageError, one_line
from ....models.spec import ModelSpec
from ....models.user_code import described
from ...artifact.manifest import Batch, Precision
from .layers import list_layers, wrong_precision
from .qdq_sites import name_nodes
from .retype import to_bfloat16
from .weights import fold_norms, fold_weights

if TYPE_CHECKING:
    import onnx
    from torch import nn
    from torch.export import ExportedProgram

    from ....calibration.choice import Calibrated, Choice
    from ..options import ExportOptions

INPUT, OUTPUT = "images", "logits"
OPSET = {"fp32": 20, "fp16": 20, "bf16": 22}  # bfloat16 convolutions came with opset 22
GIVEN_OPSETS = range(13, 23)  # of a graph that a user brings; per-channel Q/DQ came with 13
STACK = "pkg.torch.onnx.stack_trace"


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

    from ..eager.modules import in_precision

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
        raise UsageError(
            f"{spec.name} cannot be exported to ONNX: {described(_cause(error))}",
            fix="write it with torch's operators there, such as torch.where for if; float TorchScript may take it",
        ) from error
    assert program is not None
    fold_weights(program)
    fold_norms(program)
    proto = program.model_proto
    if precision == "bf16":
        proto = to_bfloat16(proto)
    verify_graph(proto, spec, precision, {OPSET[precision]}, asked=_in_float32(proto) if precision == "fp16" else ())
    assert program.exported_program is not None
    return proto, program.exported_program


def _in_float32(proto: onnx.ModelProto) -> frozenset[str]:
    """Layers in float32 of a graph that was made of a module in float16: its own code asks for that."""
    return frozenset(layer.name for layer in list_layers(proto) if layer.precision == "fp32")


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
    asked: Collection[str] = (),
) -> None:
    """Refuse a graph that is not what was asked for; part of every export.

    Checks the ONNX checker's full check, strict shape inference, the opset, one float input `images` with a dynamic
    batch, one float output `logits` N x K, and the precision of every compute layer: all of them in it but those that
    are `asked` for in float32, or for int8 at least half of the MACs in int8 and the others in `rest`.

    Raises:
        UsageError: naming what is wrong.
    """
    import onnx

    from ....calibration.view import bytes_of

    try:
        content = bytes_of(proto)
        if content:
            onnx.checker.check_model(content, full_check=True)
            onnx.shape_inference.infer_shapes(content, check_type=True, strict_mode=True, data_prop=True)
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
    problems += wrong_precision(list_layers(proto), precision, rest, asked)
    if problems:
        fixed = any(one.startswith("the batch of") for one in problems)
        raise UsageError(
            f"{spec.name}: the exported graph is not what was asked for: {'; '.join(problems)}",
            fix="use x.shape[0], and no len(x), no loop over the images and no number for it" if fixed else "",
        )


def opset_of(proto: onnx.ModelProto) -> int:
    """The version of ONNX's own operators; 0 where a graph has none."""
    return next((one.version for one in proto.opset_import if one.domain in ("", "ai.onnx")), 0)


def save_graph(proto: onnx.ModelProto, path: Path) -> None:
    """Write a graph; weights beyond protobuf's limit go into a file beside it.

    Where the source files lay that a node comes from is left out: it tells of the machine, and would make the same
    model another file on each.
    """
    import onnx

    from ....calibration.view import bytes_of

    for node in (*proto.graph.node, *(inner for function in proto.functions for inner in function.node)):
        for entry in [entry for entry in node.metadata_props if entry.key == STACK]:
            node.metadata_props.remove(entry)
    content = bytes_of(proto)
    if content:
        path.write_bytes(content)
    else:
        onnx.save(proto, path, save_as_external_data=True, location=f"{path.name}.data")


def installed(package: str) -> str:
    """A package's version, or an empty string."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """torch.onnx and torch.export tell their steps and whole graphs on all ways out; none of it is for our user."""
    before = logging.root.manager.disable
    out, errors = contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO())
    with warnings.catch_warnings(), out, errors:
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(before)


def _cause(error: BaseException) -> BaseException:
    """The error that came first: torch.onnx and torch.export wrap what their passes and the user's forward raise."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error
