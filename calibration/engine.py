"""torch's quantised engine: whose kernels int8 weights are packed for as they are loaded, and which operators run."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from ..errors import UnavailableError

ENGINES = ("x86", "fbgemm", "onednn", "qnnpack")  # from the one to prefer
ONEDNN = "onednn"
FUSED = "quantized::conv2d_add"  # how operators begin that only this engine has
_one_at_a_time = threading.RLock()


@contextlib.contextmanager
def quantised_engine(name: str | None = None) -> Iterator[None]:
    """For the block, the engine of this name, or the best that this torch was built with.

    torch has one engine a process, not one a thread: other threads wait for the block to end.

    Raises:
        UnavailableError: this torch has no such engine.
    """
    import torch

    supported: list[str] = torch.backends.quantized.supported_engines
    chosen = next((one for one in ENGINES if one in supported and name in (None, one)), None)
    if chosen is None:
        which = f" {name}, only {', '.join(supported)}" if name else ""
        fix = "export again without torchscript.engine, or use another machine" if name else "export int8 to onnx"
        raise UnavailableError(f"this torch has no quantised engine{which}", fix=fix)
    with _one_at_a_time:
        before = torch.backends.quantized.engine
        torch.backends.quantized.engine = chosen
        try:
            yield
        finally:
            torch.backends.quantized.engine = before


def count_fused(module: Any) -> int:
    """How many operators of a TorchScript module only the engine onednn has."""
    return sum(node.kind().startswith(FUSED) for node in module.inlined_graph.nodes())
