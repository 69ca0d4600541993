"""onnx: torch.export -> ONNX with a dynamic batch, checked, run by ONNX Runtime with an explicit provider."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ....config import to_json
from ....errors import IntegrityError, UnavailableError, one_line
from ....models.preprocess import steps_outside
from ....models.spec import ModelSpec
from ...artifact.folder import Artifact
from ...artifact.manifest import Batch, Precision
from ..base import Backend, PrecisionClaimError
from ..graph.graph import INPUT, OUTPUT, export_graph, installed, make_graph, opset_of, save_graph
from ..graph.layers import asked_in_float32, list_layers, told_reasons, with_reasons, wrong_precision
from ..graph.pixels import read_pixels
from ..graph.qdq_sites import prepare
from ..graph.sparse import sparse_layers, told_sparse, verified_sparse
from ..options import Available, ExportOptions, Progress, Unavailable, Written
from ..recent import Recent
from ..runner import Runner
from .info import INFO
from .runner import PROVIDERS, OrtRunner

if TYPE_CHECKING:
    import onnx
    from torch import nn

    from ....calibration.choice import Calibrated, Choice
    from ....models.sources import Model

METADATA, OUTSIDE = "zoo.spec", "zoo.outside"  # what of the preprocessing is not in the graph, where some is


class Onnx(Backend):
    """Export by torch.onnx, run by ONNX Runtime."""

    info = INFO
    takes_graph: ClassVar[bool] = True
    takes_pixels: ClassVar[bool] = True

    def available(self) -> Available | Unavailable:
        """Wherever ONNX Runtime is; its devices are its providers."""
        try:
            import onnxruntime
        except ImportError as error:
            return Unavailable(f"onnxruntime cannot be imported ({error})", 'pip install "zoo-export[full]"')
        return Available(onnxruntime.__version__, tuple(_usable_devices(onnxruntime.get_available_providers())))

    def _export(
        self, module: nn.Module, spec: ModelSpec, options: ExportOptions, folder: Path, progress: Progress
    ) -> Written:
        batch = options.batch or Batch(1, 8, 1024)
        proto = make_graph(module, spec, options, batch, "fp32", _fresh)
        sparse = sparse_layers(proto) if options.graph else verified_sparse(module, proto, spec.name)
        plan = with_reasons(list_layers(proto), options.precision)
        if options.calibrated is not None:  # an int8 graph may read its images in more channels than the model does
            own = {layer.name: layer.macs for layer in list_layers(options.calibrated.graph)}
            plan = tuple(replace(layer, macs=own.get(layer.name, layer.macs)) for layer in plan)
        if options.with_preprocess:
            read_pixels(proto, spec)
        describe(proto, spec, options.with_preprocess)
        save_graph(proto, folder / INFO.model)
        return Written(
            INFO.model,
            options={"opset": opset_of(proto), "input": INPUT, "output": OUTPUT},
            tools={name: installed(name) for name in ("torch", "onnx", "onnxscript")},
            notes=(*filter(None, [told_sparse(proto, sparse)]), *told_reasons(plan, options.precision)),
            batch=batch,
            plan=plan,
        )

    def write_candidate(self, model: Model, calibrated: Calibrated, choice: Choice | None, folder: Path) -> None:
        """The rendered graph, or the float one that it was rendered from."""
        del model
        graph = prepare(calibrated.graph, calibrated.view) if choice is None else _recent(calibrated, choice)
        (folder / INFO.model).write_bytes(graph.SerializeToString())

    def write_float(self, model: Model, folder: Path, precision: Precision = "fp32") -> None:
        """The traced graph."""
        graph = export_graph(model.module, model.spec, precision, Batch(1, 8, 1024))
        (folder / INFO.model).write_bytes(graph.SerializeToString())

    def open_candidate(self, folder: Path, spec: ModelSpec, device: str) -> Runner:
        """A session of the graph."""
        return OrtRunner(folder.name, spec, folder / INFO.model, device)

    def candidate(self, model: Model, calibrated: Calibrated, choice: Choice) -> Runner:
        """The rendered graph in a session."""
        content = _recent(calibrated, choice).SerializeToString()
        return OrtRunner(f"int8 {choice}", model.spec, Path(INFO.model), "cpu", content)

    def block_layers(self, calibrated: Calibrated) -> frozenset[str]:
        """Those with so many weights that reading them takes the time."""
        from ....calibration.blocks import wide_layers
        from ....calibration.view import View

        return wide_layers(View(prepare(calibrated.graph, calibrated.view)))

    def _load(self, artifact: Artifact, device: str) -> Runner:
        if artifact.manifest.precision == "bf16" and device == "cpu":
            raise UnavailableError(
                "ONNX Runtime's CPU has no bf16 convolution", fix="use --device cuda, on a machine with a GPU"
            )
        _layers_as_claimed(artifact)
        return OrtRunner(str(artifact.folder), artifact.manifest.spec, artifact.model_path, device)


def describe(proto: onnx.ModelProto, spec: ModelSpec, pixels: bool = False) -> None:
    """Write the spec into the graph's metadata, in place: a file that is copied alone keeps its preprocessing."""
    for entry in [entry for entry in proto.metadata_props if entry.key in (METADATA, OUTSIDE)]:
        proto.metadata_props.remove(entry)
    proto.metadata_props.add(key=METADATA, value=to_json(spec))
    if pixels:
        proto.metadata_props.add(key=OUTSIDE, value="; ".join(steps_outside(spec.preprocess)))


def _render(calibrated: Calibrated, choice: Choice) -> onnx.ModelProto:
    from . import int8 as target

    graph = target.prepare(calibrated.graph, calibrated.view)
    return target.render(
        graph, calibrated.table, [layer.name for layer in list_layers(graph)], choice, calibrated.rounder
    )


_recent = Recent(_render)


def _fresh(calibrated: Calibrated, choice: Choice) -> onnx.ModelProto:
    """A rendering of its own, which an export writes into."""
    import onnx

    made = onnx.ModelProto()
    made.CopyFrom(_recent(calibrated, choice))
    return made


def _layers_as_claimed(artifact: Artifact) -> None:
    """The file, not the manifest, says which precision its layers have."""
    import onnx

    try:
        layers = list_layers(onnx.load(artifact.model_path, load_external_data=False))
    except Exception as error:  # protobuf's own error class
        raise IntegrityError(
            f"{artifact.model_path}: not an ONNX file ({one_line(error)})", fix="export again"
        ) from error
    asked = asked_in_float32(artifact.manifest.plan)
    problems = wrong_precision(layers, artifact.manifest.precision, "fp32", asked)
    if problems:
        raise PrecisionClaimError(
            f"{artifact.folder} says {artifact.manifest.precision}, but {'; '.join(problems)}", fix="export again"
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
