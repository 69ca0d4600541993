"""trt: NVIDIA TensorRT 10.3 to 11.x. A typed ONNX graph, built into a plan where a GPU is.

`export` writes the graph, lints it, and builds it; with `--build-later` it stops before the last step, which
`zoo build` does on the device. The modules: machine.py (what is there), options.py, builder.py, runner.py with
cuda.py, inspector.py (the receipt), plan.py (does a plan fit this machine).
"""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ....config import from_mapping, to_mapping
from ....errors import GateError, IntegrityError, UnavailableError, UsageError, quoted
from ....models.spec import ModelSpec
from ...artifact.folder import Artifact
from ...artifact.manifest import Batch, Platform
from ...lint import lint_errors
from ..base import Backend
from ..graph.graph import INPUT, OUTPUT, installed, make_graph, opset_of, save_graph
from ..graph.layers import asked_in_float32, list_layers, told_reasons, with_reasons, wrong_precision
from ..graph.pixels import read_pixels
from ..graph.retype import to_float16, widened
from ..graph.sparse import sparse_layers, told_sparse, verified_sparse
from ..options import Available, ExportOptions, Progress, Unavailable, Written
from ..runner import Runner
from . import machine
from .cache import read_cache, write_cache
from .info import INFO
from .options import BuildOptions

if TYPE_CHECKING:
    import onnx
    from torch import nn

    from ....calibration.choice import Calibrated, Choice
    from ....models.sources import Model

PLAN, GRAPH, TIMING = INFO.model, INFO.graph, "timing.cache"
DEFAULT_BATCH = Batch(1, 8, 32)


class TensorRT(Backend):
    """Export to a typed ONNX graph and build it with TensorRT."""

    info = INFO
    settings: ClassVar[type[Any] | None] = BuildOptions
    takes_graph: ClassVar[bool] = True
    takes_pixels: ClassVar[bool] = True

    def available(self) -> Available | Unavailable:
        """Where TensorRT can make a runtime, which takes a driver and a GPU."""
        _, facts = machine.look()
        return machine.diagnose(facts) or Available(facts.version, ("cuda",))

    def rehearse(self, artifact: Artifact) -> Runner | None:
        """The graph on ONNX Runtime's CPU; a bf16 graph with its rounded weights in fp32 arithmetic."""
        if importlib.util.find_spec("onnxruntime") is None:
            return None
        import onnx

        from ..onnx.runner import OrtRunner

        path, spec = artifact.place / GRAPH, artifact.manifest.spec
        wide = artifact.manifest.precision == "bf16"
        content = widened(onnx.load(path)).SerializeToString() if wide else None
        runner = OrtRunner(str(artifact.folder), spec, path, "cpu", content)
        runner.pixels = artifact.manifest.pixels
        if wide:
            runner.notes.append("bfloat16 weights in float32 arithmetic")
        return runner

    def candidate(self, model: Model, calibrated: Calibrated, choice: Choice) -> Runner:
        """The rendered graph on ONNX Runtime's CPU: the same integers, its own arithmetic between them."""
        from ..onnx.runner import OrtRunner

        content = _render(calibrated, choice).SerializeToString()
        return OrtRunner(f"int8 {choice}", model.spec, Path(GRAPH), "cpu", content)

    def _export(
        self, module: nn.Module, spec: ModelSpec, options: ExportOptions, folder: Path, progress: Progress
    ) -> Written:
        batch, settings = options.batch or DEFAULT_BATCH, self.own_settings(options)
        proto = make_graph(module, spec, options, batch, "fp16", _render)
        layers = with_reasons(list_layers(proto), options.precision)
        if options.with_preprocess:
            read_pixels(proto, spec)
        errors, warnings = lint_errors(proto, "trt")
        if errors:
            raise GateError(
                f"TensorRT would not take the graph of {spec.name}: {'; '.join(map(str, errors[:3]))}",
                fix="zoo lint shows all findings",
            )
        sparse = sparse_layers(proto) if options.graph else verified_sparse(module, proto, spec.name)
        if settings.sparse_weights is None:
            settings = replace(settings, sparse_weights=bool(sparse) and not settings.refit)
        save_graph(proto, folder / GRAPH)
        written = Written(
            PLAN,
            options={"opset": opset_of(proto), "input": INPUT, "output": OUTPUT, "build": to_mapping(settings)},
            tools={name: installed(name) for name in ("torch", "onnx", "onnxscript")},
            notes=(
                *(f"lint: {one}" for one in warnings),
                *_told(proto, sparse, settings),
                *told_reasons(layers, options.precision),
            ),
            batch=batch,
            plan=layers,
            built=False,
        )
        return written if options.build_later else self._finish(written, settings, folder, progress)

    def _build(self, artifact: Artifact, progress: Progress) -> Written:
        import onnx

        manifest = artifact.manifest
        settings = _build_options(artifact)
        layers = with_reasons(list_layers(onnx.load(artifact.place / GRAPH)), manifest.precision)
        wrong = wrong_precision(layers, manifest.precision, "fp16", asked_in_float32(manifest.plan))
        if wrong:
            raise IntegrityError(
                f"{artifact.folder} says {manifest.precision}, but of {GRAPH} {'; '.join(wrong)}", fix="export again"
            )
        written = Written(PLAN, batch=manifest.batch, plan=layers)
        return self._finish(written, settings, artifact.folder, progress)

    def _finish(self, written: Written, settings: BuildOptions, folder: Path, progress: Progress) -> Written:
        """Build the plan of the graph in the folder, on this machine."""
        from .builder import build

        self.require_available()
        trt = _module()
        here = _platform(trt)
        cache = read_cache(here) if settings.timing_cache else b""
        built = build(trt, (folder / GRAPH).read_bytes(), written.batch or DEFAULT_BATCH, settings, cache, progress)
        (folder / PLAN).write_bytes(built.plan)
        notes = list(built.notes)
        if built.timing_cache:
            (folder / TIMING).write_bytes(built.timing_cache)
            notes += filter(None, [write_cache(here, built.timing_cache)])
        return replace(
            written,
            built=True,
            platform=replace(here, seconds=round(built.seconds, 2)),
            tools={**written.tools, "tensorrt": str(trt.__version__)},
            notes=(*written.notes, *notes),
        )

    def _load(self, artifact: Artifact, device: str) -> Runner:
        from .cuda import open_cuda
        from .plan import misfit
        from .runner import TensorRTRunner

        trt, manifest, settings = _module(), artifact.manifest, _build_options(artifact)
        reason = misfit(manifest.platform, _platform(trt), settings) if manifest.platform else "on an unknown machine"
        if reason:
            raise UnavailableError(
                f"{artifact.model_path} does not fit this machine: it was built {reason}",
                fix=f"zoo build --rebuild {quoted(artifact.folder)}",
            )
        return TensorRTRunner(
            str(artifact.folder),
            manifest.spec,
            manifest.batch or DEFAULT_BATCH,
            artifact.model_path,
            trt,
            open_cuda,
            layers=manifest.plan,
            tf32=settings.tf32,
            host_code=settings.version_compatible,
        )


def _render(calibrated: Calibrated, choice: Choice) -> onnx.ModelProto:
    from . import int8 as target

    graph = target.prepare(calibrated.graph, calibrated.view)
    layers = [layer.name for layer in list_layers(graph)]
    return to_float16(target.render(graph, calibrated.table, layers, choice, calibrated.rounder))


def _told(proto: onnx.ModelProto, sparse: tuple[str, ...], settings: BuildOptions) -> list[str]:
    """What a person should know of sparse weights."""
    if not sparse:
        return ["sparse_weights: no layer of the graph is 2:4 sparse"] if settings.sparse_weights else []
    given = "the builder may pick sparse kernels" if settings.sparse_weights else "the builder is not told to use that"
    return [f"{told_sparse(proto, sparse)}; {given}"]


def _build_options(artifact: Artifact) -> BuildOptions:
    try:
        return from_mapping(BuildOptions, artifact.manifest.options.get("build", {}), "artifact.json: options.build")
    except UsageError as error:
        raise IntegrityError(str(error), fix="export again") from error


def _module() -> Any:
    return importlib.import_module("tensorrt")


def _platform(trt: Any) -> Platform:
    from .cuda import open_cuda

    cuda = open_cuda()
    try:
        gpu = cuda.gpu()
    finally:
        cuda.close()
    return Platform(str(trt.__version__), gpu.name, gpu.compute_capability, gpu.driver, machine.system())
