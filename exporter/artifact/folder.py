"""The artifact: a folder with a model, the reference's weights, golden answers, and artifact.json written last."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from ...atomic import require_writable
from ...config import from_mapping, to_json
from ...errors import IntegrityError, UsageError, one_line, quoted, remedy
from ...models.preprocess import decode, prepare
from .golden_answers import parse_answers
from .manifest import FORMAT, WITHOUT_TRUTH, FileRecord, Manifest
from .probes import PROBES, Probes, read_probes, write_probes

ARTIFACT, WEIGHTS, GOLDEN = "artifact.json", "weights.safetensors", "golden"
LOGITS, ANSWERS = f"{GOLDEN}/logits.json", f"{GOLDEN}/answers.json"
EVIDENCE, ATTESTATION = ".check.json", ".intoto.json"
BESIDE = (EVIDENCE, ATTESTATION)  # what a check writes beside an artifact's folder, by the end of its name


@dataclass(frozen=True)
class Golden:
    """A few raw images and what an artifact's answers to them are judged by, each N x K.

    Attributes:
        images: decoded.
        logits: the source's own, in float32, through its own transforms.
        truth: the source's in float64; None where it cannot be computed so.
        yardstick: the source's in torch at the artifact's precision, for int8 as its plan rounds; None where there is
            none.
        computed: how the yardstick was computed, or why truth or yardstick are missing.
        jitter: how far two right computations of the yardstick are apart, in its distances to the truth, the median
            over the images; 0 where only one is known.
        rounded: how many layers of the yardstick run on integers, for int8.
        probes: made pictures that mistakes in preprocessing change; None in artifacts of before there were any.
    """

    images: tuple[Image.Image, ...]
    logits: npt.NDArray[np.float32]
    truth: npt.NDArray[np.float64] | None = None
    yardstick: npt.NDArray[np.float32] | None = None
    computed: str = ""
    jitter: float = 0.0
    rounded: int = 0
    probes: Probes | None = None

    @property
    def reference_error(self) -> float:
        """The largest difference of a logit between the source in float32 and in float64; 0 where it is not known."""
        return 0.0 if self.truth is None else float(np.abs(self.logits - self.truth).max())


@dataclass(frozen=True)
class Artifact:
    """A folder on disk whose hashes were verified.

    Attributes:
        folder: where it lies, and how messages call it.
        manifest: its artifact.json.
        copy: a private copy of it that was hashed, of which everything is read; None where the folder itself is read.
        seal: SHA-256 of artifact.json, which holds the hashes of all other files; "" of one that is being made.
    """

    folder: Path
    manifest: Manifest
    copy: Path | None = None
    seal: str = ""

    @property
    def place(self) -> Path:
        """Where its files are read."""
        return self.copy or self.folder

    @property
    def model_path(self) -> Path:
        """The file that the backend loads."""
        return self.place / self.manifest.model

    @property
    def weights_path(self) -> Path:
        """The reference's weights."""
        return self.place / WEIGHTS

    def golden(self) -> Golden:
        """Read the golden images and answers. Raises IntegrityError when they do not belong together."""
        path = self.place / LOGITS
        try:
            logits = json.loads(path.read_text(encoding="utf-8"))
            images = tuple(decode(self.place / GOLDEN / name) for name in logits)
            values = np.asarray(list(logits.values()), np.float32)
            found = Golden(images, values)
            if self.manifest.format > WITHOUT_TRUTH:
                path = self.place / ANSWERS
                answers = parse_answers(json.loads(path.read_text(encoding="utf-8")), values.shape)
                found = Golden(images, values, *answers)
            if PROBES in self.manifest.files:
                path = self.place / PROBES
                found = replace(found, probes=read_probes(self.place, len(self.manifest.spec.labels)))
        except (ValueError, TypeError, AttributeError, KeyError, OSError, RecursionError, UsageError) as error:
            raise IntegrityError(f"{path} is corrupt ({one_line(error)})", fix="export again") from error
        if not images or values.shape != (len(images), len(self.manifest.spec.labels)):
            raise IntegrityError(f"{self.folder}: golden logits are {values.shape} for {len(images)} images")
        return found


def write_golden(folder: Path, golden: Golden) -> None:
    """Write golden/0.png, ..., logits.json, answers.json and the probes into an artifact that is being made."""
    place = folder / GOLDEN
    place.mkdir()
    names = [f"{index}.png" for index in range(len(golden.images))]
    for name, image in zip(names, golden.images, strict=True):
        image.save(place / name)
    rows = [[float(value) for value in row] for row in golden.logits]
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(row)}" for name, row in zip(names, rows, strict=True))
    (folder / LOGITS).write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
    answers = {
        "truth": None if golden.truth is None else [[float(f"{value:.12g}") for value in row] for row in golden.truth],
        "yardstick": None if golden.yardstick is None else [list(map(float, row)) for row in golden.yardstick],
        "computed": golden.computed,
        "jitter": golden.jitter,
        "rounded": golden.rounded,
    }
    (folder / ANSWERS).write_text(json.dumps(answers) + "\n", encoding="utf-8")
    if golden.probes is not None:
        write_probes(folder, golden.probes)


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
    if folder.is_file():
        package = folder.suffix == ".zoo"
        fix = f"a package is for zoo verify {quoted(folder)}" if package else f"give its folder, {folder.parent}"
        raise UsageError(f"{folder} is a file", fix=fix)
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such artifact", fix="`zoo export` makes one")
    if not path.is_file():
        raise UsageError(f"{folder} is no artifact (it has no {ARTIFACT})", fix="give the folder `zoo export` printed")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise IntegrityError(f"{path} is corrupt ({one_line(error)})", fix="export again") from error
    return parse_manifest(content, path)


def parse_manifest(content: bytes, path: Path) -> Manifest:
    """Of the content of an artifact.json. Raises IntegrityError."""
    try:
        data = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"{path} is corrupt ({one_line(error)})", fix="export again") from error
    if isinstance(data, dict) and data.get("format", FORMAT) not in (WITHOUT_TRUTH, FORMAT):
        raise IntegrityError(
            f"{path} has format {data['format']}, this zoo reads {WITHOUT_TRUTH} and {FORMAT}", fix="update zoo"
        )
    try:
        manifest = from_mapping(Manifest, data, str(path))
    except UsageError as error:
        raise IntegrityError(str(error), fix="export again") from error
    inside = set(manifest.files)
    needed = {WEIGHTS, LOGITS} | ({manifest.model} if manifest.built else set())
    needed |= {ANSWERS} if manifest.format > WITHOUT_TRUTH else set()
    plain = Path(manifest.model).name == manifest.model and (manifest.built or manifest.model not in inside)
    if (
        not plain
        or not needed <= inside
        or any(Path(name).is_absolute() or ".." in Path(name).parts for name in inside)
    ):
        raise IntegrityError(
            f"{path} lists files that an artifact cannot have, or lacks some that it must", fix="export again"
        )
    return manifest


def load_artifact(folder: Path, copy: Path | None = None) -> Artifact:
    """Open an artifact and verify the hash of every file in it.

    Args:
        folder: where it lies.
        copy: an empty folder that nobody else writes to: every file is copied there, and what is hashed and read from
            then on is that copy, whatever becomes of the folder meanwhile.

    Raises:
        UsageError: no artifact there, or no room for the copy.
        IntegrityError: a file is missing, was changed, or does not belong to it; all of them are named.
    """
    manifest = read_manifest(folder)
    place = folder
    if copy is not None:
        _copy(folder, ARTIFACT, copy)
        manifest, place = parse_manifest((copy / ARTIFACT).read_bytes(), folder / ARTIFACT), copy
    problems: list[str] = []
    for name, expected in manifest.files.items():
        path = folder / name
        if path.is_symlink() or not path.is_file():
            problems.append(f"{name} is missing")
            continue
        if copy is not None:
            _copy(folder, name, copy)
        if record(place / name) != expected:
            problems.append(f"{name} was changed")
    problems += [f"{name} is not listed" for name in _files_in(folder) if name not in manifest.files]
    if problems:
        raise IntegrityError(f"{folder}: {', '.join(problems)}", fix="export again")
    return Artifact(folder, manifest, copy, record(place / ARTIFACT).sha256)


def _copy(folder: Path, name: str, copy: Path) -> None:
    try:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / name, copy / name)
    except FileNotFoundError as error:
        raise IntegrityError(f"{folder}: {name} went away while it was read", fix="try again") from error
    except OSError as error:
        raise UsageError(
            f"{folder} cannot be copied to {copy.parent} to be judged there: {error.strerror or error}",
            fix=f"{remedy(error)}; TMPDIR says where",
        ) from error


def evidence_path(folder: Path) -> Path:
    """Where the evidence of an artifact lies: what checks found of it, beside the sealed folder."""
    folder = folder.absolute()
    return folder.with_name(f"{folder.name}{EVIDENCE}")


def attestation_path(folder: Path) -> Path:
    """Where the same evidence lies as an in-toto statement."""
    folder = folder.absolute()
    return folder.with_name(f"{folder.name}{ATTESTATION}")


def may_replace(folder: Path) -> None:
    """Raise unless an export may take this place: nothing there, an empty folder, or an older artifact.

    It is made beside its place, so what is above that must be a folder that can be written to.
    """
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise UsageError(f"{folder} is in the way and no folder", fix="give another --out")
    require_writable(folder)
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


def golden_batch(golden: Golden, artifact: Artifact) -> npt.NDArray[np.float32]:
    """The golden images from the raw file on, through artifact.json's preprocessing."""
    return prepare(list(golden.images), artifact.manifest.spec.preprocess)
