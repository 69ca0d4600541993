"""Which tensor of one graph is which of another graph of the same model: by what both see of the same few images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from .ranges import observe

if TYPE_CHECKING:
    import numpy.typing as npt

ALIKE = 1e-3  # of the spread: batch norm is folded in one graph and not in the other
Print = tuple[tuple[int, ...], tuple[float, ...]]


def fingerprint(tensor: Tensor) -> Print:
    """Shape, smallest and largest value, mean and deviation."""
    values = tensor.detach().double()
    low, high = torch.aminmax(values)
    return tuple(values.shape), tuple(float(one) for one in (low, high, values.mean(), values.std(correction=0)))


def apart(one: Print, other: Print) -> float:
    """How far two fingerprints are apart, over the spread; rounding is all there is between those of one tensor."""
    if int(np.prod(one[0])) != int(np.prod(other[0])):
        return np.inf
    low, high = other[1][:2]
    return max(abs(a - b) for a, b in zip(one[1], other[1], strict=True)) / max(high - low, 1e-12)


def known_edges(program: torch.export.ExportedProgram, sample: npt.NDArray[np.float32]) -> dict[str, Print]:
    """The fingerprint of every float tensor of a torch.export graph, by its name."""
    known: dict[str, Print] = {}
    observe(program, sample, lambda name, tensor: known.__setitem__(name, fingerprint(tensor)))
    return known


def seen_by(observers: Iterable[tuple[str, nn.Module]], run: Callable[[], object]) -> dict[str, list[Print]]:
    """What modules are given while `run` is called, by their name; one may stand at several places of a graph."""
    prints: dict[str, list[Print]] = defaultdict(list)
    hooks = [
        part.register_forward_hook(lambda _part, given, _made, name=name: prints[name].append(fingerprint(given[0])))
        for name, part in observers
    ]
    try:
        with torch.inference_mode():
            run()
    finally:
        for hook in hooks:
            hook.remove()
    return prints
