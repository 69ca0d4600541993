"""What was decided for an int8 export: how ranges are chosen, what is corrected, and which layers are integers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from .observers import Method
from .ranges import RangeTable

if TYPE_CHECKING:
    import onnx
    import torch


@dataclass(frozen=True)
class Calibrated:
    """A model's float graph and what its tensors look like: collected once, written for every target.

    Attributes:
        graph: float32 ONNX, from `program`.
        program: the torch.export graph.
        table: ranges of its tensors.
        sample: a few prepared images, to recognise tensors of other graphs of the same model by.
        notes: what a person should know.
    """

    graph: onnx.ModelProto
    program: torch.export.ExportedProgram
    table: RangeTable
    sample: npt.NDArray[np.float32]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Choice:
    """One way to quantise.

    Attributes:
        method: how a range is chosen from what was seen.
        bias_correction: whether biases take back what rounding the weights shifts.
        weight_bits: 8, or 7 for a CPU without VNNI.
        keep: layers that stay float, with the reason.
    """

    method: Method = "minmax"
    bias_correction: bool = False
    weight_bits: int = 8
    keep: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        parts = [self.method, *(["bias correction"] if self.bias_correction else [])]
        return ", ".join([*parts, *(["7-bit weights"] if self.weight_bits == 7 else [])])
