"""torchscript: traced and frozen; the file loads with plain torch.jit.load, without zoo."""

from __future__ import annotations

import io
import warnings
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ...errors import IntegrityError, UsageError, one_line
from ...models.spec import ModelSpec
from ..artifact import Artifact, Precision
from .base import Available, Backend, ExportOptions, Runner, Unavailable, Written
from .eager import torch_available

if TYPE_CHECKING:
    from torch import nn

MODEL = "model.pt"
_COMPUTE = {"aten::_convolution", "aten::conv2d", "aten::linear", "aten::addmm", "aten::matmul"}


class TorchScript(Backend):
    """Export by torch.jit.trace and freeze."""

    name = "torchscript"
    precisions: ClassVar[tuple[Precision, ...]] = ("fp32", "fp16", "bf16")

    def available(self) -> Available | Unavailable:
        """Wherever torch is."""
        return torch_available()

    def _export(self, module: nn.Module, spec: ModelSpec, options: ExportOptions, folder: Path) -> Written:
        import torch

        from .torch_common import in_precision

        typed = in_precision(module, options.precision)
        example = torch.randn(2, *spec.input, generator=torch.Generator().manual_seed(0))
        try:
            with warnings.catch_warnings(), torch.inference_mode():
                warnings.simplefilter("ignore", DeprecationWarning)
                warnings.simplefilter("ignore", FutureWarning)
                warnings.simplefilter("error", torch.jit.TracerWarning)
                traced: Any = torch.jit.trace(typed, example, check_trace=False)
                frozen = torch.jit.freeze(traced.eval())
                torch.jit.save(frozen, made := io.BytesIO())  # to a full disk torch would abort the process
        except torch.jit.TracerWarning as error:
            raise UsageError(
                f"{spec.name} depends on its input in a way that a trace cannot hold: {one_line(error)}",
                fix="write it without Python control flow on tensors",
            ) from error
        except (RuntimeError, torch.jit.TracingCheckError) as error:
            raise UsageError(f"{spec.name} cannot be traced: {one_line(error)}") from error
        (folder / MODEL).write_bytes(made.getvalue())
        notes = ("fp16 TorchScript is for GPUs: on a CPU it is many times slower than fp32",)
        return Written(
            MODEL,
            options={"method": "trace, freeze", "batch": "dynamic"},
            tools={"torch": str(torch.__version__)},
            notes=notes if options.precision == "fp16" else (),
        )

    def _load(self, artifact: Artifact, device: str) -> Runner:
        import torch

        from .torch_common import NAMES, TorchRunner

        class ScriptRunner(TorchRunner):
            def _layers(self) -> dict[str, int]:
                graph: Any = self._module.inlined_graph
                found: Counter[str] = Counter()
                for node in graph.nodes():
                    if node.kind() in _COMPUTE:
                        dtypes = [value.toIValue().dtype for value in node.inputs() if _is_constant_tensor(value)]
                        found[NAMES.get(dtypes[0], str(dtypes[0])) if dtypes else "unknown"] += 1
                return dict(found)

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                warnings.simplefilter("ignore", FutureWarning)
                module = torch.jit.load(artifact.model_path, map_location=device)
        except RuntimeError as error:
            raise IntegrityError(f"{artifact.model_path}: {one_line(error)}", fix="export again") from error
        return ScriptRunner(str(artifact.folder), artifact.manifest.spec, module, device)


def _is_constant_tensor(value: Any) -> bool:
    return value.type().kind() == "TensorType" and value.node().kind() == "prim::Constant"
