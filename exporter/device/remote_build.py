"""An artifact that the device itself builds (trt): what the device must have, what is sent, what comes back.

The folder goes there file by file; the device's own zoo verifies its hashes, builds it where that was left for later,
tries it on its golden images, and measures it. A plan that was built elsewhere is measured as it is, and never built
again unasked: what would be measured is another one.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ...errors import UnavailableError, UsageError, quoted
from ..artifact.folder import ARTIFACT, Artifact, load_artifact, read_manifest
from ..backends.registry import get_backend
from ..timing.engine import run_alone
from .bootstrap import ENGINE
from .ssh import Device, probe, run_program, understood
from .target import Place

OLDEST_PYTHON = (3, 11)
ROOM = 3  # times its size is needed to build: what was sent, the new artifact beside it, and its plan
TOOLS = (
    "on a Jetson an environment made with --system-site-packages sees JetPack's, elsewhere "
    'pip install "zoo-export[trt]" there; python = "/home/me/env/bin/python" in devices.toml names it'
)


def opened(what: Path) -> Artifact | None:
    """The artifact in a folder, if its backend builds on the device; None for a package and for other artifacts.

    Raises:
        IntegrityError: a file of it was changed.
    """
    if not (what / ARTIFACT).is_file() or not get_backend(read_manifest(what).backend).builds:
        return None
    return load_artifact(what)


def refuse(artifact: Artifact, batches: Sequence[int], threads: int | None, name: str | None) -> None:
    """Raise UsageError for what such an artifact does not take, before anything is sent."""
    manifest = artifact.manifest
    own = manifest.form
    if threads is not None:
        raise UsageError(f"--threads is of a runtime on the CPU, and {artifact.folder} runs on a GPU", fix="leave it")
    if name is not None and name != own:
        raise UsageError(f'no artifact "{name}" in it', fix=f"leave --artifact out: it is {own}")
    sizes = manifest.batch
    wrong = [one for one in batches if sizes is not None and not sizes.min <= one <= sizes.max]
    if wrong and sizes is not None:
        told = ", ".join(map(str, wrong))
        raise UsageError(
            f"{artifact.folder} takes {sizes.min} to {sizes.max} images at once, not {told}",
            fix="give other --batch-sizes, or export with another --batch",
        )


def lacks(place: Place, here: Device, own: str) -> UnavailableError | None:
    """What a device lacks to build and run an engine, and how to get it; None where nothing.

    Args:
        place: for its name.
        here: what it said of itself.
        own: the version of this zoo, which the device's must be: rows are its own.
    """
    number = tuple(int(part) for part in here.python.split(".")[:2])
    if here.tensorrt is None:
        only = f", only {here.trtexec}, which measures no artifact" if here.trtexec else ""
        return UnavailableError(
            f"{place.label} has no TensorRT that its Python {here.python} can import{only}", fix=TOOLS
        )
    if number < OLDEST_PYTHON:
        return UnavailableError(
            f"{place.label} has TensorRT {here.tensorrt} for Python {here.python}, and zoo needs 3.11 or later",
            fix='give its python = "…" of a later one with TensorRT in devices.toml',
        )
    if here.zoo is None:
        return UnavailableError(
            f"{place.label} has TensorRT {here.tensorrt} and no zoo to build and time an engine with",
            fix='pip install "zoo-export[cuda]" there, for the same Python',
        )
    if here.zoo != own:
        return UnavailableError(
            f"{place.label} has zoo {here.zoo}, here is {own}: their profiles may differ",
            fix=f'pip install "zoo-export[cuda]=={own}" there',
        )
    return None


def measure_here(place: Place, artifact: Artifact, batches: Sequence[int], samples: Path | None) -> dict[str, Any]:
    """On this machine, in a process of its own, as on a device.

    Raises:
        UnavailableError: it is not built, or TensorRT or a GPU is not here.
    """
    if not artifact.manifest.built:
        raise UnavailableError(f"{artifact.folder} is not built yet", fix=f"zoo build {quoted(artifact.folder)}")
    task = {"folder": str(artifact.folder.absolute()), "batches": list(batches),
            "samples": None if samples is None else str(samples)}  # fmt: skip
    done = run_alone([sys.executable, "-P", "-m", "zoo.exporter.device.engine", json.dumps(task)])
    return understood(place, {"code": done.returncode, "out": done.stdout, "err": done.stderr})


def measure_there(place: Place, artifact: Artifact, batches: Sequence[int], samples: dict[str, Path]) -> dict[str, Any]:
    """On a device: sent, built if that was left for it, measured; nothing is left there.

    Raises:
        UnavailableError: the device lacks something, or the plan was built for another.
        LinkError, IntegrityError, UsageError, GateError: as `ssh.run_there`, and what zoo there says.
    """
    here = probe(place)
    missing = lacks(place, here, own_version())
    if missing is not None:
        raise missing
    manifest = artifact.manifest
    names = {f"f{index}": name for index, name in enumerate((ARTIFACT, *manifest.files))}
    measured = {"folder": "artifact", "batches": list(batches), "samples": "." if samples else None}
    task = {"files": names, "build": not manifest.built, "measure": measured}
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "task"
        written.write_text(json.dumps(task), encoding="utf-8")
        files = {**{sent: artifact.folder / name for sent, name in names.items()}, **samples, "task": written}
        answer = run_program(place, here, files, ENGINE, room=1 if manifest.built else ROOM)
    try:
        found = understood(place, answer)
    except UnavailableError as error:
        if not manifest.built or "--rebuild" not in error.fix:
            raise
        raise UnavailableError(
            error.what, fix="zoo export --build-later: what is not built yet is built on the device it is measured on"
        ) from error
    return {**found, "built": _told(answer.get("built"))}


def own_version() -> str:
    """Of this zoo; "" where it is not installed."""
    try:
        return version("zoo-export")
    except PackageNotFoundError:
        return ""


def _told(text: str | None) -> dict[str, Any] | None:
    """What `zoo build --json` said there, in short."""
    if not text:
        return None
    (row,) = json.loads(text)["artifacts"]
    return {"seconds": row["seconds"], "golden": row["golden"]["verdict"], "notes": row["notes"]}
