"""A node's key: the hash of all that its result depends on. A key that was seen before is not done again."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ...models.processors import cpus
from .config import Settings
from .expand import Node
from .imports import closure, factory_of
from .kinds import Kind, Source, Train, Values

ROOT = Path(__file__).parents[2]
# What of zoo's own code a command's result depends on.
CODE: Mapping[str, tuple[str, ...]] = {
    "source": (),
    "train": ("models", "exporter/train.py", "exporter/quantize", "calibration"),
    "prune": ("models", "calibration", "exporter/prune", "exporter/timing", "exporter/backends", "exporter/checks"),
    "calibrate": ("models", "calibration", "exporter/quantize"),
    "export": (
        *("models", "calibration", "exporter/artifact", "exporter/backends", "exporter/checks", "exporter/lint"),
        *("exporter/timing", "exporter/quantize", "exporter/*.py"),
    ),
    "build": ("exporter/artifact", "exporter/backends", "exporter/checks", "exporter/*.py"),
    "check": ("models", "exporter/artifact", "exporter/backends", "exporter/timing", "exporter/checks"),
    "package": (
        *("models/preprocess.py", "models/processors.py", "models/spec.py", "errors.py"),
        *("exporter/runtime", "exporter/package", "exporter/checks", "exporter/timing"),
    ),
    "profile": ("exporter/runtime", "exporter/timing", "exporter/package", "exporter/device", "exporter/backends"),
    "report": ("exporter/report", "exporter/pipeline"),
}
# Kinds of which the command builds the model anew, by the user's code where that is a factory.
BUILDS = ("train", "prune", "calibrate", "export", "check")
TOOLS: Mapping[str, tuple[str, ...]] = {
    "train": ("torch", "torchvision"),
    "prune": ("torch", "torchvision", "torch-pruning"),
    "calibrate": ("torch", "torchvision"),
    "export": ("torch", "torchvision", "onnx", "onnxscript", "onnxruntime", "onnxruntime-gpu", "torchao"),
    "build": ("tensorrt",),
    "check": ("torch", "onnxruntime", "onnxruntime-gpu", "tensorrt"),
    "profile": ("onnxruntime", "onnxruntime-gpu"),
}


def facts_of(
    node: Node,
    settings: Settings,
    parents: Sequence[str],
    folder: Path,
    seen: dict[str, str] | None = None,
    where: str = "",
    models: Sequence[str] = (),
) -> dict[str, Any]:
    """All that a node's result hangs on, as plain values; `digest_of` makes its key of them.

    Args:
        node: what is to be made.
        settings: seed and data root; not where results go or how many cores there are.
        parents: digests of what its needs left, in their order; "" for one that could not be had.
        folder: that names of files are relative to.
        seen: fingerprints that were taken already; it is added to.
        where: as `machine` says it, the machine that will measure; "" for this one.
        models: sources of the models that it is made of, however far away: a factory's code makes the model again
            in every step, and the weights that the steps between have left do not tell of it.
    """
    seen = {} if seen is None else seen
    factories = [one for source in models if node.kind in BUILDS and (one := factory_of(folder, source))]
    for value in (*(value for _, value in outside(node.options, settings)), *factories):
        if value not in seen:
            seen[value] = fingerprint(folder, value)
    facts: dict[str, Any] = {
        "kind": node.kind,
        "form": node.form,
        "options": asdict(node.options),
        "outside": {name: seen[value] for name, value in outside(node.options, settings)},
        "parents": list(parents),
        "seed": settings.seed,
        "device": node.machine.device,
        "cores": node.machine.cores,  # sums are of another order with other threads
        "accelerator": node.machine.accelerator_type,
        "code": code_hash(node.kind),
        "tools": {name: found for name in TOOLS.get(node.kind, ()) if (found := _version(name))},
    }
    if factories:
        facts["models"] = [seen[one] for one in factories]
    if of_machine(node):
        facts["machine"] = named(node) or where or machine()  # what was measured, or built, is of one machine
    return facts


def of_machine(node: Node) -> bool:
    """Whether what a node leaves is of one machine."""
    return node.alone or node.kind in ("build", "profile")


def named(node: Node) -> str:
    """The machine that a step asks for by name, which is the same from wherever zoo is called; "" for any."""
    asked = node.machine
    found = [f"accelerator {asked.accelerator_type}"] if asked.accelerator_type else []
    return ", ".join([*found, *(f"{name} {amount:g}" for name, amount in sorted(asked.resources.items()))])


def plan_key(node: Node, parent: str, settings: Settings, data: str, where: str = "") -> str:
    """Of the choices of an int8 export, with the fingerprint of its data: the code may change, the choices stay."""
    options = {name: value for name, value in asdict(node.options).items() if name != "set"}
    return digest_of([node.form, options, data, parent, settings.seed, named(node) or where or machine()])


def outside(options: Kind, settings: Settings) -> list[tuple[str, str]]:
    """Names of what lies outside of the pipeline, by key."""
    found = [(one.name, getattr(options, one.name)) for one in fields(options) if one.metadata["file"]]
    if isinstance(options, Source | Train):
        found.append(("source", options.source))
        chosen: Values = getattr(options, "set", {})
        found += [(f"set.{name}", value) for name, value in chosen.items() if isinstance(value, str)]
    if getattr(options, "data", None) and settings.data_root:
        found.append(("data_root", f"{settings.data_root}/{getattr(options, 'data', '')}"))
    return [(name, value) for name, value in found if isinstance(value, str) and value]


def fingerprint(folder: Path, name: str) -> str:
    """Of a file its hash; of a folder the names, sizes and times of what is in it; of a factory all its modules.

    What is no path (resnet18, digits, imagenet) is its name.
    """
    path = folder / name
    if path.is_file():
        return hash_of(path)
    if path.is_dir():
        if (path / "run.json").is_file():  # a run is what its weights and facts are, wherever it was copied to
            parts = [fingerprint(path, one) for one in ("run.json", "weights.safetensors")]
            code = code_of(folder, factory_of(folder, name))  # that the model is built by is in no run
            return digest_of([*parts, code] if code else parts)
        return digest_of(sorted(_listing(path)))
    code = code_of(folder, factory_of(folder, name))
    return (digest_of(code) if len(code) > 1 else next(iter(code.values()))) if code else name


def code_of(folder: Path, factory: str) -> dict[str, str]:
    """Hashes of a factory's module and of all that it imports of the user's own, by name; none for another source."""
    return {one.name: _readable_hash(one.file) for one in closure(folder, factory)} if factory else {}


def hash_of(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _readable_hash(path: Path) -> str:
    try:
        return hash_of(path)
    except OSError:  # the command will say so
        return ""


def _listing(folder: Path) -> Iterable[tuple[str, int, int]]:
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        with os.scandir(here) as entries:
            for entry in entries:
                if entry.is_dir():
                    waiting.append(Path(entry.path))
                else:
                    facts = entry.stat()
                    yield str(Path(entry.path).relative_to(folder)), facts.st_size, facts.st_mtime_ns


@cache
def code_hash(kind: str) -> str:
    """Over the files of zoo that make this kind's results."""
    return digest_of([_files_hash(one) for one in CODE[kind]])


@cache
def _files_hash(place: str) -> str:
    path = ROOT / place
    files = sorted(ROOT.glob(place)) if "*" in place else sorted(path.rglob("*.py")) if path.is_dir() else [path]
    return digest_of([(str(one.relative_to(ROOT)), hashlib.sha256(one.read_bytes()).hexdigest()) for one in files])


@cache
def machine() -> str:
    """What latencies are of: the CPU's model, the cores that this may use, and the GPUs."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return f"{model or platform.machine()}, {cores_here()} cores, {', '.join(gpu_names()) or 'no GPU'}"


def gpu_names() -> tuple[str, ...]:
    """Of this machine, as NVIDIA's driver tells them."""
    places = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    return tuple(path.read_text(encoding="utf-8").splitlines()[0].partition(":")[2].strip() for path in places)


def cores_here() -> int:
    """Return how many CPUs this process may really use."""
    return cpus()


def digest_of(value: Any) -> str:
    """SHA-256 of plain values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


@cache
def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
