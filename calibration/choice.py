"""What was decided for an int8 export: how ranges are chosen, what is corrected, and which layers are integers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from .adaround import Rounder
from .ranges import Method, RangeTable

if TYPE_CHECKING:
    import onnx
    import torch
    from torch import nn

    from .view import View

ENDS = "first or last layer"  # why a layer stays float by that policy
DEPTHWISE = "depthwise layer"


@dataclass(frozen=True)
class Calibrated:
    """A model's float graph and what its tensors look like: collected once, written for every target.

    Attributes:
        module: float32, in eval mode.
        graph: float32 ONNX, from `program`.
        program: the torch.export graph.
        table: ranges of its tensors.
        sample: a few prepared images, to recognise tensors of other graphs of the same model by.
        rounder: rounds weights by what the layers read.
        notes: what a person should know.
    """

    module: nn.Module
    graph: onnx.ModelProto
    program: torch.export.ExportedProgram
    table: RangeTable
    sample: npt.NDArray[np.float32]
    rounder: Rounder | None = None
    notes: tuple[str, ...] = ()

    @cached_property
    def view(self) -> View:
        """Of `graph`, which nobody changes."""
        from .view import View

        return View(self.graph)


@dataclass(frozen=True)
class Choice:
    """One way to quantise.

    Attributes:
        method: how a range is chosen from what was seen.
        bias_correction: whether biases take back what rounding the weights shifts.
        equalised: whether the channels between layers were given like ranges first.
        adaround: whether weights are rounded for the least change of the output, not to the nearest integer.
        weight_bits: 8, or 7 for a CPU without VNNI.
        blocks: whether the target reads wide linear layers in blocks, which suits one image at a time.
        fused: whether residual additions are in convolutions, for torch's engine onednn; the export asks for it, and
            no plan keeps it.
        keep: layers that stay float, with the reason.
    """

    method: Method = "minmax"
    bias_correction: bool = False
    equalised: bool = False
    adaround: bool = False
    weight_bits: int = 8
    blocks: bool = False
    fused: bool = False
    keep: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        parts = [self.method]
        parts += ["bias correction"] if self.bias_correction else []
        parts += ["equalised"] if self.equalised else []
        parts += ["AdaRound"] if self.adaround else []
        parts += ["7-bit weights"] if self.weight_bits == 7 else []
        parts += ["linear layers in blocks"] if self.blocks else []
        parts += ["additions in convolutions"] if self.fused else []
        parts += ["first and last layer float"] if ENDS in self.keep.values() else []
        parts += ["depthwise layers float"] if DEPTHWISE in self.keep.values() else []
        return ", ".join(parts)
