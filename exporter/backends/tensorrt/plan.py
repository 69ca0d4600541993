"""Does a plan fit this machine? Decided from what its artifact recorded, before TensorRT is asked to load it."""

from __future__ import annotations

import re

from ...artifact.manifest import Platform
from .options import BuildOptions


def misfit(built: Platform, here: Platform, options: BuildOptions) -> str:
    """Why a plan built there cannot run here, naming both; "" when it can.

    A plan is bound to the TensorRT version, the platform and the GPU it was built on, unless it was built
    version-compatible (then it loads in the same or a later version, of the next major at most) or
    hardware-compatible. Source: TensorRT documentation, "Engine Compatibility".
    """
    problems: list[str] = []
    if built.system != here.system:
        problems.append(f"on {built.system}, this is {here.system}")
    if not _version_fits(built.runtime, here.runtime, options.version_compatible):
        problems.append(f"with TensorRT {built.runtime}, this machine has {here.runtime}")
    if not _gpu_fits(built, here, options.hardware_compatibility):
        problems.append(
            f"on {built.gpu} (compute capability {built.compute_capability}), "
            f"this machine has {here.gpu} ({here.compute_capability})"
        )
    return "; ".join(problems)


def _version_fits(built: str, here: str, compatible: bool) -> bool:
    if built == here:
        return True
    old, new = _numbers(built), _numbers(here)
    return compatible and bool(old and new) and old <= new and new[0] - old[0] <= 1


def _gpu_fits(built: Platform, here: Platform, level: str) -> bool:
    if level == "ampere_plus":
        return _numbers(here.compute_capability) >= (8, 0)
    if level == "same_compute_capability":
        return built.compute_capability == here.compute_capability
    return (built.gpu, built.compute_capability) == (here.gpu, here.compute_capability)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)))
