"""The artifact: a folder with a model, the reference's weights, golden answers, and artifact.json written last."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..config import from_mapping, to_json
from ..errors import IntegrityError, UsageError, one_line
from ..models.preprocess import decode
from ..models.runs import Origin, Reached
from ..models.spec import ModelSpec

ARTIFACT, WEIGHTS, GOLDEN = "artifact.json", "weights.safetensors", "golden"
FORMAT = 1

Precision = Literal["fp32", "fp16", "bf16", "int8"]


@dataclass(frozen=True)
class FileRecord:
    """One file of the folder, by its content."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Receipt:
    """What really runs, read from the runtime.

    Attributes:
        runtime: name and version.
        device: cpu or cuda.
        provider: who executes, as the runtime calls it.
        layers: number of compute layers (convolutions, matrix products) by the precision they run in.
    """

    runtime: str
    device: str
    provider: str
    layers: dict[str, int]


@dataclass(frozen=True)
class Manifest:
    """The content of artifact.json.

    Attributes:
        backend: whose format the model is in.
        precision: of the exported graph.
        model: the model's file in the folder.
        spec: name, input, preprocessing, labels.
        origin: how the reference module is built again.
        weights: which weights were taken, in words.
        weights_sha256: over the reference's names, types, shapes and bytes.
        meaningful: False for random weights, of which no accuracy is judged.
        created: UTC.
        reached: the accuracy that training measured.
        options: what the export was asked for.
        receipt: what ran when the golden images were tried at export; None where this machine cannot run it.
        tools: versions.
        notes: what a person should know.
        files: every other file of the folder.
    """

    backend: str
    precision: Precision
    model: str
    spec: ModelSpec
    origin: Origin
    weights: str
    weights_sha256: str
    meaningful: bool
    created: str
    reached: Reached | None = None
    options: dict[str, Any] = field(default_factory=dict)
    receipt: Receipt | None = None
    tools: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    files: dict[str, FileRecord] = field(default_factory=dict)
    format: int = FORMAT


@dataclass(frozen=True)
class Golden:
    """A few raw images and the logits that the source gave them through its own transforms, float32 N x K."""

    images: tuple[Image.Image, ...]
    logits: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Artifact:
    """A folder on disk whose hashes were verified."""

    folder: Path
    manifest: Manifest

    @property
    def model_path(self) -> Path:
        """The file that the backend loads."""
        return self.folder / self.manifest.model

    @property
    def weights_path(self) -> Path:
        """The reference's weights."""
        return self.folder / WEIGHTS

    def golden(self) -> Golden:
        """Read the golden images and logits. Raises IntegrityError when they do not belong together."""
        path = self.folder / GOLDEN / "logits.json"
        try:
            logits = json.loads(path.read_text(encoding="utf-8"))
            images = tuple(decode(self.folder / GOLDEN / name) for name in logits)
            values = np.asarray(list(logits.values()), np.float32)
        except (ValueError, TypeError, AttributeError, OSError, RecursionError, UsageError) as error:
            raise IntegrityError(f"{path} is corrupt ({one_line(error)})", fix="export again") from error
        if not images or values.shape != (len(images), len(self.manifest.spec.labels)):
            raise IntegrityError(f"{self.folder}: golden logits are {values.shape} for {len(images)} images")
        return Golden(images, values)


def write_golden(folder: Path, golden: Golden) -> None:
    """Write golden/0.png, ... and golden/logits.json into an artifact that is being made."""
    place = folder / GOLDEN
    place.mkdir()
    names = [f"{index}.png" for index in range(len(golden.images))]
    for name, image in zip(names, golden.images, strict=True):
        image.save(place / name)
    rows = [[float(value) for value in row] for row in golden.logits]
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(row)}" for name, row in zip(names, rows, strict=True))
    (place / "logits.json").write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")


def seal(folder: Path, manifest: Manifest) -> Artifact:
    """Hash every file of the folder and write artifact.json, the last one."""
    files = {name: record(folder / name) for name in _files_in(folder)}
    sealed = Manifest(**{**vars(manifest), "files": files})
    (folder / ARTIFACT).write_text(to_json(sealed), encoding="utf-8")
    return Artifact(folder, sealed)


def read_manifest(folder: Path) -> Manifest:
    """Read artifact.json without looking at the other files.

    Raises:
        UsageError: no such folder, or no artifact.
        IntegrityError: artifact.json is corrupt, or of a later zoo.
    """
    path = folder / ARTIFACT
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such artifact", fix="`zoo export` makes one")
    if not path.is_file():
        raise UsageError(f"{folder} is no artifact (it has no {ARTIFACT})", fix="give the folder `zoo export` printed")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise IntegrityError(f"{path} is corrupt ({one_line(error)})", fix="export again") from error
    if isinstance(data, dict) and data.get("format", FORMAT) != FORMAT:
        raise IntegrityError(f"{path} has format {data['format']}, this zoo reads {FORMAT}", fix="update zoo")
    try:
        manifest = from_mapping(Manifest, data, str(path))
    except UsageError as error:
        raise IntegrityError(str(error), fix="export again") from error
    inside = set(manifest.files)
    if not {manifest.model, WEIGHTS, f"{GOLDEN}/logits.json"} <= inside or any(
        Path(name).is_absolute() or ".." in Path(name).parts for name in inside
    ):
        raise IntegrityError(
            f"{path} lists files that an artifact cannot have, or lacks some that it must", fix="export again"
        )
    return manifest


def load_artifact(folder: Path) -> Artifact:
    """Open an artifact and verify the hash of every file in it.

    Raises:
        UsageError: no artifact there.
        IntegrityError: a file is missing, was changed, or does not belong to it; all of them are named.
    """
    manifest = read_manifest(folder)
    problems: list[str] = []
    for name, expected in manifest.files.items():
        path = folder / name
        if path.is_symlink() or not path.is_file():
            problems.append(f"{name} is missing")
        elif record(path) != expected:
            problems.append(f"{name} was changed")
    problems += [f"{name} is not listed" for name in _files_in(folder) if name not in manifest.files]
    if problems:
        raise IntegrityError(f"{folder}: {', '.join(problems)}", fix="export again")
    return Artifact(folder, manifest)


def may_replace(folder: Path) -> None:
    """Raise unless an export may take this place: nothing there, an empty folder, or an older artifact."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise UsageError(f"{folder} is in the way and no folder", fix="give another --out")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    try:
        known = read_manifest(folder).files
    except (UsageError, IntegrityError) as error:
        raise UsageError(f"{folder} is not empty and holds no artifact ({error})", fix="give another --out") from error
    others = [name for name in _files_in(folder) if name not in known]
    if others:
        raise UsageError(f"{folder} holds files that are not the artifact's: {', '.join(others[:5])}", fix="move them")


def record(path: Path) -> FileRecord:
    """Hash and size of a file."""
    with path.open("rb") as file:
        return FileRecord(hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size)


def _files_in(folder: Path) -> list[str]:
    found = (path for path in folder.rglob("*") if path.is_file() or path.is_symlink())
    return sorted(str(path.relative_to(folder)) for path in found if path.name != ARTIFACT or path.parent != folder)
