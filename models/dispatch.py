"""Operators as torch dispatches them, seen or changed one by one."""

from __future__ import annotations

from torch.utils._python_dispatch import TorchDispatchMode


class EachOperator(TorchDispatchMode):
    """A dispatch mode that does not import the compiler.

    Without this, the first operator under a mode imports torch._dynamo to keep it from compiling the mode, which takes
    as long as importing torch, and each further one goes through a wrapper. Nothing here is ever compiled.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False
