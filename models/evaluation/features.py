"""What the last layer sees: the penultimate features, for every architecture, by a hook on its last linear layer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn


def last_linear(module: nn.Module) -> nn.Linear | None:
    """The linear layer that makes the logits: the last one that is no auxiliary head's."""
    found = [part for name, part in module.named_modules() if isinstance(part, nn.Linear) and "aux" not in name.lower()]
    return found[-1] if found else None


@contextmanager
def recorded_features(module: nn.Module) -> Iterator[list[npt.NDArray[np.float32]]]:
    """Collect the inputs of the last linear layer, N x D per batch, while the block runs.

    A module that does not give that layer one positional tensor leaves the list empty.
    """
    collected: list[npt.NDArray[np.float32]] = []
    layer = last_linear(module)

    def keep(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if inputs and isinstance(inputs[0], Tensor):  # else it was called by keyword
            collected.append(inputs[0].detach().float().cpu().flatten(1).numpy())

    handle = layer.register_forward_pre_hook(keep) if layer is not None else None
    try:
        yield collected
    finally:
        if handle is not None:
            handle.remove()
