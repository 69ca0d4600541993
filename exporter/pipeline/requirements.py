"""What this machine lacks for a node, told without importing anything heavy, so that the rest can go on."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path

from ...errors import UnavailableError
from ..backends.infos import backend_infos, known_info
from .expand import Node
from .kinds import Build, Check, Export, Profile

# Modules that a step may need, and the extra of zoo that brings each; backends bring their own.
OWN = {
    "torch": "full", "torch_pruning": "prune", "torchao": "qat", "cyclonedx": "package", "mlflow": "mlflow",
    "tritonclient": "triton", "model_signing": "sign",
}  # fmt: skip


def modules() -> dict[str, str]:
    """Return the modules that steps may need, with the extra of zoo that brings each."""
    of_backends = {
        module: info.extra for info in backend_infos() for module in (info.module, *info.export_modules) if module
    }
    return {**of_backends, **OWN}


@dataclass(frozen=True)
class Facts:
    """A machine.

    Attributes:
        modules: those of `modules()` that can be imported.
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

    found = frozenset(name for name in modules() if importlib.util.find_spec(name) is not None)
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
            return UnavailableError(f"{name} is not installed here", fix=f'pip install "zoo-export[{modules()[name]}]"')
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
    info = known_info(node.backend)
    if info is not None and isinstance(options, Export):
        found += info.export_modules
    runs_there = isinstance(options, (Build, Check)) if info is not None and info.builds else True
    if info is not None and info.module and runs_there and isinstance(options, (Export, Build, Check, Profile)):
        found.append(info.module)
    if options.command == "package":
        layout = getattr(options, "layout", "zoo")
        found.append("tritonclient" if layout == "triton" else "cyclonedx")
        found += ["mlflow"] if layout == "mlflow" else []
        found += ["model_signing"] if getattr(options, "sign", None) else []
    return found
