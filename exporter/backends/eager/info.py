"""eager, as data."""

from __future__ import annotations

from ..info import BackendInfo

INFO = BackendInfo(
    name="eager",
    backend=".backends.eager.backend:Eager",
    title="PyTorch itself, the reference",
    runtime="PyTorch",
    module="torch",
    wheels=("torch",),
    packages={"torch": "torch"},
    aliases=("pytorch", "torch"),
    precisions=("fp32", "fp16", "bf16"),
)
