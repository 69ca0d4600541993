"""`zoo package`: artifacts of one model, their evidence and what runs them, as one file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...atomic import beside, put_in_place
from ...config import to_json
from ...errors import GateError, IntegrityError, UsageError, unwritable
from ..artifact.folder import ANSWERS, ARTIFACT, GOLDEN, WEIGHTS, Artifact, load_artifact, read_manifest
from ..checks.evidence import Evidence, evidence_of, refuse_unchecked, versions
from ..checks.private import private_folder
from ..checks.record import not_passed
from ..runtime.container import Package
from ..runtime.manifest import manifest_of
from ..runtime.verify import verify
from .card import CARD, NO_LICENCE, card_of, judge_card
from .code import LICENCE, carried, judge_code
from .sbom import sbom_of
from .writer import measured, write

SUFFIX = ".zoo"


@dataclass(frozen=True)
class Packed:
    """A package that was written.

    Attributes:
        path: where.
        bytes: its size.
        checked: names of the artifacts whose evidence is in it, and not older than they are.
        failed: those of them that did not pass their check, each with the gates in words.
        unchecked: the others, each with the reason.
        replaced: whether an older package was there.
    """

    path: Path
    bytes: int
    checked: tuple[str, ...]
    failed: Mapping[str, str]
    unchecked: Mapping[str, str]
    replaced: bool


def pack(
    folders: Sequence[str | Path],
    out: Path | None = None,
    *,
    licence: Path | None = None,
    require_checked: bool = False,
    overwrite: bool = False,
) -> Packed:
    """Write a package, whole or not at all; it is opened and verified before it takes its place.

    Args:
        folders: artifacts of one model.
        out: the file; None for MODEL.zoo in the current folder.
        licence: of the weights, a text file.
        require_checked: refuse an artifact without evidence, or whose check did not pass.
        overwrite: replace a package that is there.

    Raises:
        UsageError: no artifacts, artifacts of several models, two of one name, or something in the way.
        IntegrityError: a file of an artifact was changed.
        GateError: an artifact that was not checked, or did not pass, where that is required.
    """
    if not folders:
        raise UsageError("nothing to package", fix="give the folders that zoo export wrote")
    with private_folder() as private:  # what is packed is what was hashed
        artifacts = [load_artifact(Path(folder), private / str(index)) for index, folder in enumerate(folders)]
        return _packed(artifacts, folders, out, licence, require_checked=require_checked, overwrite=overwrite)


def _packed(
    artifacts: Sequence[Artifact],
    folders: Sequence[str | Path],
    out: Path | None,
    licence: Path | None,
    *,
    require_checked: bool,
    overwrite: bool,
) -> Packed:
    names = refuse_strangers(artifacts)
    evidence = {name: evidence_of(one) for name, one in zip(names, artifacts, strict=True)}
    if require_checked:
        refuse_unchecked(evidence)
    place = place_of(folders, out)
    replaced = refuse_place(place, overwrite)
    text = read_licence(licence)
    files_in = contents(artifacts, names, evidence, text)
    manifest = manifest_of(
        [json.loads((one.place / ARTIFACT).read_text(encoding="utf-8")) for one in artifacts],
        [evidence[name].verdicts for name in names], [evidence[name].reason for name in names], versions()["zoo"],
    )  # fmt: skip
    files_in["sbom.cdx.json"] = sbom_of(manifest, artifacts[0].manifest).encode()
    hashes = {name: measured(content)[2] for name, content in files_in.items()}
    manifests = [one.manifest for one in artifacts]
    files_in[CARD] = card_of(manifest, manifests, evidence, text is not None, hashes).encode()
    try:
        with beside(place) as made:
            write(made, files_in, manifest)
            with Package(made) as package:  # nothing takes its place that its own reader would refuse
                gates = [
                    *verify(package, allow_code=True).gates,
                    judge_card(package),
                    judge_code(package),
                ]  # the user's own
            failed = [gate for gate in gates if gate.verdict == "fail"]
            if failed:
                raise GateError(f"{failed[0].name}: {failed[0].reason}", fix="nothing was written; export again")
            refuse_place(place, overwrite)
            put_in_place(made, place)
    except OSError as error:
        raise unwritable(OSError(error.errno, error.strerror or str(error), str(place))) from error
    unchecked = {name: one.reason for name, one in evidence.items() if one.content is None}
    checked = tuple(name for name in names if name not in unchecked)
    failed = {name: doubts for name, one in evidence.items() if (doubts := not_passed(one.verdicts))}
    return Packed(place, place.stat().st_size, checked, failed, unchecked, replaced)


def place_of(folders: Sequence[str | Path], out: Path | None) -> Path:
    """Where a package of these artifacts goes."""
    return out or Path(f"{read_manifest(Path(folders[0])).spec.name}{SUFFIX}")


def refuse_strangers(artifacts: Sequence[Artifact]) -> list[str]:
    """A name for each artifact; raises UsageError for artifacts that are not forms of one model."""
    first = artifacts[0].manifest
    names: list[str] = []
    for one in artifacts:
        manifest = one.manifest
        for what, mine, other in (
            ("weights", manifest.weights_sha256, first.weights_sha256),
            ("labels", manifest.spec.labels, first.spec.labels),
            ("preprocessing", manifest.spec.preprocess, first.spec.preprocess),
        ):
            if mine != other:
                raise UsageError(
                    f"{one.folder} and {artifacts[0].folder} have other {what}: a package is of one model",
                    fix="make a package for each",
                )
        name = manifest.form
        if name in names:
            raise UsageError(f"two of the artifacts are {name}", fix="give one of them")
        names.append(name)
    return names


def contents(
    artifacts: Sequence[Artifact], names: Sequence[str], evidence: Mapping[str, Evidence], licence: str | None
) -> dict[str, bytes | Path]:
    """All files but the card, the SBOM and the manifest; golden samples once, as one model's answers hold."""
    found: dict[str, bytes | Path] = dict(carried())
    found["LICENSE"] = (licence or NO_LICENCE).encode()
    found[LICENCE] = licence_of_zoo()
    spec = artifacts[0].manifest.spec
    found["preprocess.json"] = to_json(spec.preprocess).encode()
    found["labels.txt"] = "".join(f"{label}\n" for label in spec.labels).encode()
    golden = artifacts[0]
    pictures = {name: kept for name, kept in golden.manifest.files.items() if name.startswith(f"{GOLDEN}/")}
    pictures.pop(ANSWERS, None)
    for name in pictures:
        found[name] = golden.place / name
    for name, one in zip(names, artifacts, strict=True):
        found[f"artifacts/{name}/{ARTIFACT}"] = one.place / ARTIFACT
        for file in one.manifest.files:
            if file == ANSWERS and {name: one.manifest.files.get(name) for name in pictures} == pictures:
                # of the images that the package has
                found[f"artifacts/{name}/{Path(ANSWERS).name}"] = one.place / file
            elif not file.startswith(f"{GOLDEN}/") and file != WEIGHTS:  # the reference's, which production needs not
                found[f"artifacts/{name}/{file}"] = one.place / file
        kept = evidence[name].content
        if kept is not None:
            found[f"checks/{name}.check.json"] = kept
    return found


def refuse_place(place: Path, overwrite: bool) -> bool:
    """Whether a package is there that may be replaced; raises UsageError for anything else in the way."""
    if place.is_symlink() or (place.exists() and not place.is_file()):
        raise UsageError(f"{place} is in the way and no file", fix="give another --out")
    if not place.parent.is_dir():
        raise UsageError(f"{place.parent}: no such folder", fix="make it, or give another --out")
    if not place.exists():
        return False
    try:
        with Package(place):
            pass
    except IntegrityError as error:
        raise UsageError(f"{place} is there and no package of zoo", fix="give another --out") from error
    if not overwrite:
        raise UsageError(f"{place} is there", fix="give --overwrite, or another --out")
    return True


def read_licence(path: Path | None) -> str | None:
    """The text of a licence. Raises UsageError."""
    if path is None:
        return None
    if path.exists() and not path.is_file():
        raise UsageError(f"--licence {path} is no regular file", fix="give a text file")
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--licence {path} cannot be read as text", fix="give a text file") from error


def licence_of_zoo() -> bytes:
    """Of the modules that travel in the package."""
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        found = distribution("zoo-export")
        for name in ("licenses/LICENSE", "LICENSE"):
            text = found.read_text(name)
            if text:
                return text.encode()
    except PackageNotFoundError:
        pass
    return b"zoo is under the Apache License, Version 2.0: https://www.apache.org/licenses/LICENSE-2.0\n"
