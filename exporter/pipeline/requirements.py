"""What this machine lacks for a node, told without importing anything heavy, so that the rest can go on."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path

from ...errors import UnavailableError
from .expand import TRT, Node
from .kinds import Build, Check, Export, Profile

MODULES = ("torch", "onnxruntime", "onnxscript", "tensorrt", "torch_pruning", "torchao", "cyclonedx", "mlflow",
           "tritonclient", "model_signing")  # fmt: skip
INSTALL = {
    "torch": "full", "onnxruntime": "full", "onnxscript": "full", "tensorrt": "trt", "torch_pruning": "prune",
    "torchao": "qat", "cyclonedx": "package", "mlflow": "mlflow", "tritonclient": "triton", "model_signing": "sign",
}  # fmt: skip


@dataclass(frozen=True)
class Facts:
    """A machine.

    Attributes:
        modules: those of MODULES that can be imported.
        gpus: how many NVIDIA GPUs it has.
        cores: that may be used.
        memory: gigabytes.
        names: of the GPUs.
    """

    modules: frozenset[str]
    gpus: int
    cores: int
    memory: float
    names: tuple[str, ...] = ()


def look() -> Facts:
    """This machine."""
    from .cache_keys import cores_here, gpu_names

    found = frozenset(name for name in MODULES if importlib.util.find_spec(name) is not None)
    names = gpu_names()
    gpus = len(names) or int(Path("/dev/nvhost-gpu").exists())  # the latter is a Jetson's
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    except (ValueError, OSError):
        memory = 8.0
    return Facts(found, gpus, cores_here(), memory, names)


def lacking(node: Node, facts: Facts) -> UnavailableError | None:
    """Why a node cannot be made on a machine, and how to get what is missing; None where it can."""
    for name in needed(node):
        if name not in facts.modules:
            return UnavailableError(f"{name} is not installed here", fix=f'pip install "zoo-export[{INSTALL[name]}]"')
    gpus = node.machine.gpus or 0
    if gpus > facts.gpus:
        what = "a GPU is needed" if gpus == 1 else f"{gpus} GPUs are needed"
        return UnavailableError(f"{what}, and {facts.gpus or 'none'} is here", fix="run the same command where it is")
    kind, there = node.machine.accelerator_type, ", ".join(facts.names) or "no GPU"
    if kind and kind.lower() not in there.lower():
        return UnavailableError(f"a {kind} is needed, and {there} is here", fix="run the same command where it is")
    if node.machine.device == "cuda" and not facts.gpus:
        return UnavailableError("device is cuda, and no GPU is here", fix="run the same command where one is")
    if node.machine.resources:
        named = ", ".join(node.machine.resources)
        return UnavailableError(f"{named} is a resource of a Ray cluster", fix="zoo run --on ray://HOST:PORT")
    return None


def needed(node: Node) -> list[str]:
    """The modules that a node imports."""
    options = node.options
    found = ["torch"] if options.command in ("train", "prune", "calibrate", "export", "check") else []
    if getattr(options, "qat", None):
        found.append("torchao")
    if options.command == "prune":
        found.append("torch_pruning")
    if isinstance(options, Export) and node.backend in ("onnx", TRT):
        found.append("onnxscript")
    if isinstance(options, (Export, Check, Profile)) and node.backend == "onnx":
        found.append("onnxruntime")
    if isinstance(options, Build) or (isinstance(options, Check) and node.backend == TRT):
        found.append("tensorrt")
    if options.command == "package":
        layout = getattr(options, "layout", "zoo")
        found.append("tritonclient" if layout == "triton" else "cyclonedx")
        found += ["mlflow"] if layout == "mlflow" else []
        found += ["model_signing"] if getattr(options, "sign", None) else []
    return found
