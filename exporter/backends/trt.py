"""trt: NVIDIA TensorRT. This version of zoo only finds out whether it is there; exporting to it is still to come."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ...errors import UnavailableError
from ...models.spec import ModelSpec
from ..artifact import Artifact, Precision
from .base import Available, Backend, ExportOptions, Runner, Unavailable, Written

if TYPE_CHECKING:
    from torch import nn

NOT_YET = Unavailable(
    "this version of zoo does not build TensorRT engines yet",
    "export to onnx with --fp16 and build on the device with trtexec --onnx=model.onnx --stronglyTyped",
)


class TensorRT(Backend):
    """Unavailable, with the reason."""

    name = "trt"
    precisions: ClassVar[tuple[Precision, ...]] = ("fp32", "fp16", "bf16")

    def available(self) -> Available | Unavailable:
        """Never yet: the reason is what is missing first."""
        if importlib.util.find_spec("tensorrt") is None:
            return Unavailable(
                "TensorRT is not installed on this machine",
                "this version of zoo does not build engines yet: export to onnx with --fp16, "
                "and build it on the device with trtexec --onnx=model.onnx",
            )
        return NOT_YET

    def _export(self, module: nn.Module, spec: ModelSpec, options: ExportOptions, folder: Path) -> Written:
        raise UnavailableError(f"trt: {NOT_YET.reason}", fix=NOT_YET.remedy)

    def _load(self, artifact: Artifact, device: str) -> Runner:
        raise UnavailableError(f"trt: {NOT_YET.reason}", fix=NOT_YET.remedy)
