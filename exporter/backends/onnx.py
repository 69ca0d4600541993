"""onnx: torch.export -> ONNX with a dynamic batch, checked, run by ONNX Runtime with an explicit provider."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from collections import Counter
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from ...errors import IntegrityError, UnavailableError, UsageError, one_line
from ...models.spec import ModelSpec
from ..artifact import Artifact, Precision, Receipt
from .base import Available, Backend, ExportOptions, Logits, Runner, Unavailable, Written

if TYPE_CHECKING:
    import onnx
    from torch import nn

MODEL = "model.onnx"
INPUT, OUTPUT = "images", "logits"
OPSET = {"fp32": 20, "fp16": 20, "bf16": 22}  # bfloat16 convolutions came with opset 22
EXTERNAL_ABOVE = 2 << 30  # protobuf's limit
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_COMPUTE = {"Conv", "FusedConv", "ConvTranspose", "Gemm", "FusedGemm", "MatMul", "FusedMatMul", "NhwcFusedConv"}


class Onnx(Backend):
    """Export by torch.onnx, run by ONNX Runtime."""

    name = "onnx"
    precisions: ClassVar[tuple[Precision, ...]] = ("fp32", "fp16", "bf16")

    def available(self) -> Available | Unavailable:
        """Wherever ONNX Runtime is; its devices are its providers."""
        try:
            import onnxruntime
        except ImportError as error:
            return Unavailable(f"onnxruntime cannot be imported ({error})", 'pip install "zoo-export[full]"')
        return Available(onnxruntime.__version__, tuple(_usable_devices(onnxruntime.get_available_providers())))

    def _export(self, module: nn.Module, spec: ModelSpec, options: ExportOptions, folder: Path) -> Written:
        import torch

        from .torch_common import in_precision

        if _onnxscript_missing():
            raise UnavailableError("exporting to onnx needs onnxscript", fix='pip install "zoo-export[full]"')
        typed = in_precision(module, options.precision)
        example = torch.randn(2, *spec.input, generator=torch.Generator().manual_seed(0))
        opset = OPSET[options.precision]
        try:
            with _quiet(), torch.inference_mode(False), torch.no_grad():
                program = torch.onnx.export(
                    typed,
                    (example,),
                    dynamo=True,
                    input_names=[INPUT],
                    output_names=[OUTPUT],
                    dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=options.max_batch)},),
                    opset_version=opset,
                    optimize=options.precision != "bf16",  # with it, bfloat16 weights come out as float
                    verbose=False,
                )
        except Exception as error:  # torch.onnx wraps whatever its passes raise
            raise UsageError(f"{spec.name} cannot be exported to ONNX: {_cause(error)}") from error
        assert program is not None
        proto = program.model_proto
        verify_graph(proto, spec, options.precision, opset)
        _save(proto, folder / MODEL)
        return Written(
            MODEL,
            options={"opset": opset, "batch": f"1..{options.max_batch}", "input": INPUT, "output": OUTPUT},
            tools={name: _version(name) for name in ("torch", "onnx", "onnxscript")},
        )

    def _load(self, artifact: Artifact, device: str) -> Runner:
        if artifact.manifest.precision == "bf16" and device == "cpu":
            raise UnavailableError(
                "ONNX Runtime's CPU has no bf16 convolution", fix="use --device cuda, where a GPU is"
            )
        _layers_as_claimed(artifact)
        return OrtRunner(str(artifact.folder), artifact.manifest.spec, artifact.model_path, device)


class OrtRunner(Runner):
    """An ONNX Runtime session on exactly one provider (and the CPU for what that one leaves to it)."""

    def __init__(self, name: str, spec: ModelSpec, path: Path, device: str) -> None:
        super().__init__(name, spec)
        self._path, self._device = path, device
        self._session: Any = None
        self._binding: Any = None

    def _start(self) -> None:
        self._session = self._make_session()

    def _make_session(self, optimised: Path | None = None) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if optimised is not None:
            options.optimized_model_filepath = str(optimised)
        wanted = PROVIDERS[self._device]
        try:
            session = onnxruntime.InferenceSession(str(self._path), options, providers=[wanted])
        except Exception as error:  # ONNX Runtime has one exception class per status, all outside RuntimeError
            raise IntegrityError(
                f"{self._path}: ONNX Runtime refuses it ({one_line(error)})", fix="export again"
            ) from error
        got = session.get_providers()
        if got[0] != wanted:
            raise UnavailableError(
                f"asked for {wanted}, ONNX Runtime fell back to {got[0]}",
                fix="install the CUDA version it was built for",
            )
        inputs = [(one.name, one.type) for one in session.get_inputs()]
        if inputs != [(INPUT, "tensor(float)")] or [one.name for one in session.get_outputs()] != [OUTPUT]:
            raise IntegrityError(
                f"{self._path}: expected one float input `{INPUT}` and output `{OUTPUT}`, got {inputs}"
            )
        return session

    def _stop(self) -> None:
        self._session = self._binding = None

    def _run(self, batch: npt.NDArray[np.float32]) -> Logits:
        return self._session.run([OUTPUT], {INPUT: batch})[0]

    def _prepare(self, batch: npt.NDArray[np.float32]) -> None:
        import onnxruntime

        self._binding = self._session.io_binding()
        value = onnxruntime.OrtValue.ortvalue_from_numpy(batch, self._device, 0)
        self._binding.bind_ortvalue_input(INPUT, value)
        self._binding.bind_output(OUTPUT, self._device)

    def _step(self) -> None:
        self._session.run_with_iobinding(self._binding)

    def _synchronize(self) -> None:
        if self._binding is not None:
            self._binding.synchronize_outputs()

    def _receipt(self) -> Receipt:
        """Count the compute layers of the graph that ONNX Runtime made of the file, by the type they compute in."""
        import onnx
        import onnxruntime

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "optimised.onnx"
            self._make_session(path)
            layers = compute_layers(onnx.load(path))
        provider = self._session.get_providers()[0]
        return Receipt(f"onnxruntime {onnxruntime.__version__}", self._device, provider, layers)


def verify_graph(proto: onnx.ModelProto, spec: ModelSpec, precision: str, opset: int) -> None:
    """Refuse a graph that is not what was asked for; part of every export.

    Checks the ONNX checker's full check, strict shape inference, the opset, one float input `images` with a dynamic
    batch, one float output `logits` N x K, and that every compute layer has weights of the precision.

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
    opsets = {one.domain: one.version for one in proto.opset_import}
    if opsets.get("", 0) != opset:
        problems.append(f"opset is {opsets.get('')}, not {opset}")
    for values, name, rest in (
        (proto.graph.input, INPUT, spec.input),
        (proto.graph.output, OUTPUT, (len(spec.labels),)),
    ):
        if len(values) != 1 or values[0].name != name:
            problems.append(f"expected one `{name}`, got {[value.name for value in values]}")
            continue
        tensor = values[0].type.tensor_type
        dims = [dim.dim_value if dim.HasField("dim_value") else dim.dim_param for dim in tensor.shape.dim]
        if tensor.elem_type != onnx.TensorProto.FLOAT:
            problems.append(f"`{name}` is not float32")
        if tuple(dims[1:]) != tuple(rest):
            problems.append(f"`{name}` has shape {dims}")
        if not dims or isinstance(dims[0], int):
            problems.append(f"the batch of `{name}` is fixed to {dims[0] if dims else 'nothing'}")
    layers = compute_layers(proto)
    if set(layers) - {precision}:
        problems.append(f"compute layers by precision are {layers}, not all {precision}")
    if problems:
        raise UsageError(f"{spec.name}: the exported graph is not what was asked for: {'; '.join(problems)}")


def compute_layers(proto: onnx.ModelProto) -> dict[str, int]:
    """Convolutions and matrix products of a graph, counted by the type of their weights."""
    import onnx

    names: dict[int, str] = {
        onnx.TensorProto.FLOAT: "fp32",
        onnx.TensorProto.FLOAT16: "fp16",
        onnx.TensorProto.BFLOAT16: "bf16",
        onnx.TensorProto.INT8: "int8",
        onnx.TensorProto.UINT8: "int8",
    }
    types = {one.name: one.data_type for one in proto.graph.initializer}
    produced = {output: node for node in proto.graph.node for output in node.output}
    found: Counter[str] = Counter()
    for node in proto.graph.node:
        if node.op_type not in _COMPUTE:
            continue
        name = node.input[1]
        while name not in types and name in produced and produced[name].op_type in ("Transpose", "Identity", "Reshape"):
            name = produced[name].input[0]
        if name not in types and name in produced and produced[name].op_type == "Cast":
            to = next(attribute.i for attribute in produced[name].attribute if attribute.name == "to")
            found[names.get(to, str(to))] += 1
        else:
            found[names.get(types.get(name, -1), "unknown")] += 1
    return dict(found)


def _layers_as_claimed(artifact: Artifact) -> None:
    """The file, not the manifest, says which precision its layers have."""
    import onnx

    try:
        layers = compute_layers(onnx.load(artifact.model_path, load_external_data=False))
    except Exception as error:  # protobuf's own error class
        raise IntegrityError(
            f"{artifact.model_path}: not an ONNX file ({one_line(error)})", fix="export again"
        ) from error
    if set(layers) - {artifact.manifest.precision}:
        raise IntegrityError(
            f"{artifact.folder} says {artifact.manifest.precision}, the compute layers of its graph are {layers}",
            fix="export again",
        )


def _usable_devices(providers: list[str]) -> list[str]:
    """CUDA counts when ONNX Runtime was built with it and a GPU is there; its wheel says so without a driver."""
    found = ["cpu"]
    if PROVIDERS["cuda"] in providers and _has_nvidia_gpu():
        found.append("cuda")
    return found


def _has_nvidia_gpu() -> bool:
    return (
        Path("/proc/driver/nvidia/version").exists()
        or Path("/dev/nvidia0").exists()
        or Path("/dev/nvhost-gpu").exists()
    )


def _save(proto: onnx.ModelProto, path: Path) -> None:
    import onnx

    if proto.ByteSize() < EXTERNAL_ABOVE:
        path.write_bytes(proto.SerializeToString())
    else:
        onnx.save(proto, path, save_as_external_data=True, location=f"{path.name}.data")


@contextlib.contextmanager
def _quiet() -> Any:
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


def _onnxscript_missing() -> bool:
    return _version("onnxscript") == ""


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
