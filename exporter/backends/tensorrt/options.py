"""What a TensorRT engine is built with: zoo's options, in TensorRT's words where it has one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

HardwareCompatibility = Literal["none", "same_compute_capability", "ampere_plus"]


@dataclass(frozen=True)
class BuildOptions:
    """Given as `--set trt.KEY=VALUE`; kept in artifact.json, so that a rebuild makes the same engine.

    Attributes:
        optimization_level: 0 (build fast) to 5 (search longest); TensorRT's default is 3.
        workspace_mib: scratch memory a layer may use; None leaves TensorRT's default, all of the device's.
        timing_cache: reuse the measurements of earlier builds on this GPU, and keep those of this one.
        version_compatible: the plan also loads in later TensorRT versions. It then carries host code, which runs when
            the plan is loaded: a plan of somebody else is as trusted as a program of theirs.
        hardware_compatibility: GPUs the plan loads on beside the one it is built on.
        tf32: let fp32 layers use TF32, 10 bits of mantissa instead of 23. TensorRT's own default is yes; zoo's is no,
            because an fp32 export claims fp32.
        sparse_weights: let layers whose weights are 2:4 sparse use sparse kernels; None where the graph has such
            layers.
        refit: keep what is needed to change the weights of a built engine.
    """

    optimization_level: int = 3
    workspace_mib: int | None = None
    timing_cache: bool = True
    version_compatible: bool = False
    hardware_compatibility: HardwareCompatibility = "none"
    tf32: bool = False
    sparse_weights: bool | None = None
    refit: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.optimization_level <= 5:
            raise ValueError(f"optimization_level is 0 to 5, got {self.optimization_level}")
        if self.workspace_mib is not None and not 1 <= self.workspace_mib <= 1 << 20:
            raise ValueError(f"workspace_mib is 1 to {1 << 20}, got {self.workspace_mib}")
        if self.sparse_weights and self.refit:
            raise ValueError("sparse_weights and refit contradict each other: new weights need not be sparse")
