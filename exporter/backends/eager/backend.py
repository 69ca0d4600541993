"""eager: the reference itself, rebuilt from its origin and weights, run by torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ....errors import IntegrityError
from ....models.spec import ModelSpec
from ...artifact.folder import WEIGHTS, Artifact
from ..base import Backend
from ..options import Available, ExportOptions, Progress, Unavailable, Written
from ..runner import Runner
from .info import INFO

if TYPE_CHECKING:
    from torch import nn


class Eager(Backend):
    """The model file is the reference's weights; the module is built again from its origin."""

    info = INFO

    def available(self) -> Available | Unavailable:
        """Wherever torch is."""
        return torch_available()

    def _export(
        self, module: nn.Module, spec: ModelSpec, options: ExportOptions, folder: Path, progress: Progress
    ) -> Written:
        import torch

        from .modules import in_precision, run_once

        if options.precision != "fp32":
            run_once(in_precision(module, options.precision), spec, options.precision)
        return Written(WEIGHTS, tools={"torch": str(torch.__version__)})

    def _load(self, artifact: Artifact, device: str) -> Runner:
        from ....models.sources import rebuild
        from .modules import in_precision
        from .runner import TorchRunner

        manifest = artifact.manifest
        if manifest.model != WEIGHTS:
            raise IntegrityError(f"{artifact.folder}: an eager artifact's model is {WEIGHTS}, not {manifest.model}")
        module = in_precision(rebuild(manifest.origin, artifact.weights_path), manifest.precision)
        return TorchRunner(str(artifact.folder), manifest.spec, module, device)


def torch_available() -> Available | Unavailable:
    """Torch's version and devices, or how to get it."""
    try:
        import torch

        from .runner import devices
    except ImportError as error:
        return Unavailable(f"torch cannot be imported ({error})", 'pip install "zoo-export[full]"')
    return Available(str(torch.__version__), devices())
