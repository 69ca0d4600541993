"""torchscript: traced and frozen; the file loads with plain torch.jit.load, without zoo."""

from __future__ import annotations

import contextlib
import io
import warnings
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from ....errors import IntegrityError, UsageError, one_line
from ....models.spec import ModelSpec
from ...artifact.folder import Artifact
from ...artifact.manifest import Layer, Precision, Receipt
from ..base import Backend
from ..eager.backend import torch_available
from ..graph.layers import list_layers, told_reasons
from ..options import Available, ExportOptions, Progress, Unavailable, Written
from ..recent import Recent
from ..runner import Runner
from .info import INFO
from .tracing import example, trace

if TYPE_CHECKING:
    from torch import nn

    from ....calibration.choice import Calibrated, Choice
    from ....models.sources import Model

_VERSIONS = (".data/version", "version")  # where newer and older files have theirs
_WRITERS_OWN = (*_VERSIONS, ".data/byteorder", "byteorder", ".data/serialization_id")  # records that the writer adds


@dataclass(frozen=True)
class ScriptOptions:
    """Given as `--set torchscript.KEY=VALUE`.

    Attributes:
        engine: any, for an int8 file that torch runs as it is. onednn: residual additions are computed in the
            convolutions before them, which is faster, and who loads the file sets `torch.backends.quantized.engine`
            to "onednn" first.
    """

    engine: Literal["any", "onednn"] = "any"


class TorchScript(Backend):
    """Export by torch.jit.trace and freeze."""

    info = INFO
    settings = ScriptOptions
    takes_pixels: ClassVar[bool] = True

    def available(self) -> Available | Unavailable:
        """Wherever torch is."""
        return torch_available()

    def start(self, choice: Choice, options: ExportOptions) -> Choice:
        """Additions in convolutions where the engine onednn is asked for."""
        return replace(choice, fused=self.own_settings(options).engine == "onednn")

    def float_layers(self, calibrated: Calibrated, choice: Choice) -> frozenset[str]:
        """Those that torch does not convert, or whose tensors have no range."""
        from .int8 import float_layers

        return float_layers(calibrated, choice)

    def own_settings(self, options: ExportOptions) -> ScriptOptions:
        """From `options.settings`. Raises UsageError also for an engine where nothing is quantised."""
        found: ScriptOptions = super().own_settings(options)
        if found.engine != "any" and options.precision != "int8":
            raise UsageError(f"torchscript.engine is of int8, not {options.precision}", fix="leave it out there")
        return found

    def _export(
        self, module: nn.Module, spec: ModelSpec, options: ExportOptions, folder: Path, progress: Progress
    ) -> Written:
        import torch

        from ....calibration.engine import count_fused
        from ..eager.modules import FromPixels, in_precision, run_once
        from ..eager.runner import layers_run

        if options.calibrated is not None:
            typed = _recent(options.calibrated, options.choice)
        else:
            typed = in_precision(module, options.precision)
        # what a trace loses does not depend on the precision, and a CPU computes half precision many times slower
        half = options.precision in ("fp16", "bf16")
        if half:
            trace(module, spec)
            run_once(typed, spec, options.precision)
        if options.with_preprocess:
            typed = FromPixels(typed, spec.preprocess).eval()
        with _engine(options.choice.fused):
            frozen, content = script(typed, spec, options.with_preprocess, tried=not half)
        (folder / INFO.model).write_bytes(content)
        fused = count_fused(frozen)
        plan: tuple[Layer, ...] = ()
        if options.calibrated is not None:
            with _engine(options.choice.fused):
                ran = layers_run(lambda: frozen(example(spec, options.with_preprocess)))
            plan = _plan(ran, options.calibrated, options.choice)
        return Written(
            INFO.model,
            options={"method": "trace, freeze", "batch": "dynamic", **({"engine": "onednn"} if fused else {})},
            tools={"torch": str(torch.__version__)},
            notes=(*_notes(options, fused), *told_reasons(plan, options.precision)),
            plan=plan,
        )

    def write_candidate(self, model: Model, calibrated: Calibrated, choice: Choice | None, folder: Path) -> None:
        """The traced int8 module, or the traced float one."""
        if choice is None:
            content = script(calibrated.module, model.spec)[1]
        else:
            with _engine(choice.fused):
                content = script(_recent(calibrated, choice), model.spec, tried=False)[1]
        (folder / INFO.model).write_bytes(content)

    def write_float(self, model: Model, folder: Path, precision: Precision = "fp32") -> None:
        """The traced module."""
        from ..eager.modules import in_precision

        content = script(in_precision(model.module, precision), model.spec, tried=False)[1]
        (folder / INFO.model).write_bytes(content)

    def open_candidate(self, folder: Path, spec: ModelSpec, device: str) -> Runner:
        """The file, with the engine that its operators need."""
        import torch

        from ....calibration.engine import count_fused
        from ..eager.runner import TorchRunner

        module = torch.jit.load(folder / INFO.model, map_location=device)
        around = partial(_engine, bool(count_fused(module)))
        if count_fused(module):
            with around():
                module = torch.jit.load(folder / INFO.model, map_location=device)  # again: the engine packs the weights
        return TorchRunner(folder.name, spec, module, device, around)

    def candidate(self, model: Model, calibrated: Calibrated, choice: Choice) -> Runner:
        """The converted module, run eagerly: the kernels are those that the trace will call."""
        from ..eager.runner import TorchRunner

        around = partial(_engine, choice.fused)
        return TorchRunner(f"int8 {choice}", model.spec, _recent(calibrated, choice), "cpu", around)

    def _load(self, artifact: Artifact, device: str) -> Runner:
        import torch

        from ....calibration.engine import count_fused
        from ..eager.runner import TorchRunner

        plan = artifact.manifest.plan
        engine = artifact.manifest.options.get("engine")
        around = partial(_engine, engine == "onednn")

        class ScriptRunner(TorchRunner):
            def _receipt(self) -> Receipt:
                ran = self._ran()  # in the order in which they run, which is the plan's
                names = {layer.name: found for layer, found in zip(plan, ran, strict=False)}
                return replace(super()._receipt(), ran=names if len(plan) == len(ran) else {})

        try:
            with warnings.catch_warnings(), around():
                warnings.simplefilter("ignore", DeprecationWarning)
                warnings.simplefilter("ignore", FutureWarning)
                module = torch.jit.load(artifact.model_path, map_location=device)
        except RuntimeError as error:
            raise IntegrityError(f"{artifact.model_path}: {one_line(error)}", fix="export again") from error
        if engine != ("onednn" if count_fused(module) else None):
            what = f"{artifact.model_path} has {count_fused(module)} operators for torch's engine onednn"
            raise IntegrityError(f"{what}, and artifact.json says options.engine {engine!r}", fix="export again")
        return ScriptRunner(str(artifact.folder), artifact.manifest.spec, module, device, around)


def _render(calibrated: Calibrated, choice: Choice) -> nn.Module:
    from .int8 import render

    return render(calibrated, choice)


_recent = Recent(_render)


def _engine(fused: bool) -> contextlib.AbstractContextManager[None]:
    """The engine that a file with fused additions is loaded, packed and run with; for others, whatever is set."""
    from ....calibration.engine import quantised_engine

    return quantised_engine("onednn") if fused else contextlib.nullcontext()


def _notes(options: ExportOptions, fused: int) -> tuple[str, ...]:
    if options.precision == "fp16":
        return ("fp16 TorchScript is for GPUs: on a CPU it is many times slower than fp32",)
    if fused:
        told = f"{fused} residual addition{'s are' if fused > 1 else ' is'} computed in convolutions"
        return (f'{told}: set torch.backends.quantized.engine = "onednn" before torch.jit.load',)
    if options.choice.fused:
        return ("no addition fits in a convolution: the file needs no engine onednn",)
    return ()


def script(module: nn.Module, spec: ModelSpec, pixels: bool = False, tried: bool = True) -> tuple[Any, bytes]:
    """Return a module traced and frozen, and its file.

    Args:
        module: in eval mode on the CPU.
        spec: its input.
        pixels: it reads uint8 N x H x W x C.
        tried: compare the trace with the module on other images; off for a module that was only made to be timed.

    Raises:
        UsageError: it cannot be traced, or the trace answers otherwise than the module.
    """
    import torch

    traced = trace(module, spec, pixels, tried)
    try:
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")  # torch.jit is deprecated and stays: docs/decisions/0004
            frozen = torch.jit.freeze(traced.eval())
            torch.jit.save(frozen, made := io.BytesIO())  # to a full disk torch would abort the process
    except Exception as error:  # torch's own error classes, for what its compiler cannot write
        raise UsageError(
            f"{spec.name} is traced, but cannot be frozen and saved: {one_line(error)}", fix="try --to onnx"
        ) from error
    return frozen, without_debug(made.getvalue())


def without_debug(content: bytes) -> bytes:
    """A TorchScript file without its debug records.

    They hold the lines of source that each operator comes from and where these lay: they tell of the machine, and would
    make the same model another file on each.
    """
    import torch

    reader, made = torch._C.PyTorchFileReader(io.BytesIO(content)), io.BytesIO()
    writer = torch._C.PyTorchFileWriter(made)
    names = reader.get_all_records()
    writer.set_min_version(int(reader.get_record(next(name for name in _VERSIONS if name in names))))
    for name in names:
        if not name.endswith(".debug_pkl") and name not in _WRITERS_OWN:
            record = reader.get_record(name)
            writer.write_record(name, record, len(record))
    writer.write_end_of_file()
    return made.getvalue()


def _plan(ran: list[str], calibrated: Calibrated, choice: Choice) -> tuple[Layer, ...]:
    """The compute layers of an int8 trace, with the MACs of the float graph's, which has them in the same order."""
    from .int8 import why_float

    known = list_layers(calibrated.graph)
    if len(known) != len(ran):
        return tuple(Layer(f"layer_{index}", "", precision) for index, precision in enumerate(ran))
    why = why_float(calibrated)
    return tuple(
        replace(
            layer,
            precision=precision,
            reason=choice.keep.get(layer.name, "" if precision == "int8" else why(layer.name)),
        )
        for layer, precision in zip(known, ran, strict=True)
    )
