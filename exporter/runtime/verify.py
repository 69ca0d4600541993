"""Is a package what it says: its structure, every hash, and its own samples on this machine; and what a mistake gives.

The skew test answers the golden images with the mistakes that integrators make. Whose own pipeline gives a number close
to one of them knows the mistake.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import IntegrityError, UnavailableError, UsageError, one_line
from ...models.preprocess import Images, batch_to_pixels
from ...models.spec import Preprocess
from ..artifact.golden_answers import parse_answers
from ..backends.infos import backend_infos
from ..checks.faithful import judge_faithful, other_plan, relative_distance
from ..checks.gate import Gate
from ..checks.mistakes import mistakes, prepared
from ..checks.numerics import judge_numerics, measure_numerics
from ..checks.record import REQUIRED, not_passed, parse_record
from .container import Package
from .manifest import manifest_of
from .predictor import Predictor, ProgramError, golden_of, refuse_odd, spec_of
from .safety import refuse_dangerous

SOURCE_ERROR = 0.05  # of float32 against float64: what no network here comes near, and other answers are far beyond
ANSWERS = "golden/answers.json"
PRECISIONS = ("fp32", "fp16", "bf16", "int8")


@dataclass(frozen=True)
class Skew:
    """What a mistake in the preprocessing gives on the golden images.

    Attributes:
        mistake: in words.
        agreement: share of the images with the right preprocessing's top answer.
        distance: norm of the difference of the logits over their norm.
        logits: of the first image, its first three classes, to compare with.
    """

    mistake: str
    agreement: float
    distance: float
    logits: tuple[float, ...]

    def as_mapping(self) -> dict[str, Any]:
        """As --json shows it, which has no numbers beyond all numbers: None in their place."""
        finite = [one if math.isfinite(one) else None for one in (self.distance, *self.logits)]
        return {"mistake": self.mistake, "agreement": self.agreement, "distance": finite[0], "logits": finite[1:]}


@dataclass(frozen=True)
class Verified:
    """What was found.

    Attributes:
        gates: structure, hashes, and for each artifact what zoo check found of it and its samples, in this order;
            where no artifact ran, one that cannot tell.
        skews: of the first artifact that runs here.
    """

    gates: tuple[Gate, ...]
    skews: tuple[Skew, ...]


def verify(package: Package, artifact: str | None = None, *, allow_code: bool = False) -> Verified:
    """Read everything, refuse what is dangerous, and run the golden samples of each artifact that runs here.

    Args:
        package: opened, which has checked its structure.
        artifact: only that one.
        allow_code: whether artifacts that are programs (TorchScript) are opened too: of somebody trusted.

    Raises:
        IntegrityError: a changed file, a manifest that lies, or a dangerous file.
    """
    count = package.verify_all()
    refuse_odd(package.manifest)
    spec = spec_of(package.manifest)
    backends = {one["model"]: str(one["backend"]) for one in package.manifest["artifacts"]}
    for name in package.names():
        if name in backends or _may_be_dangerous(package, name):
            refuse_dangerous(name, package.read(name), backends.get(name, ""))
    refuse_lies(package)
    gates = [
        Gate("structure", "pass", f"canonical, {count} files, nothing between or behind them"),
        Gate("hashes", "pass", f"SHA-256 of {count} files"),
    ]
    images, wanted = golden_of(package)
    if wanted.shape[1] != len(spec.labels):
        raise IntegrityError(f"golden logits have {wanted.shape[1]} classes, the labels are {len(spec.labels)}")
    skews: tuple[Skew, ...] = ()
    for one in package.manifest["artifacts"]:
        if artifact is not None and one["name"] != artifact:
            continue
        gates.append(recorded(one))
        try:
            predictor = Predictor(package, one["name"], allow_code=allow_code)
        except (UnavailableError, ProgramError) as error:
            gates.append(Gate(f"samples {one['name']}", "skipped", str(error)))
            continue
        try:
            got = np.concatenate([predictor.logits(batch_to_pixels([image], spec.preprocess)) for image in images])
        except UsageError as error:  # a picture that its preprocessing refuses is no sample
            raise IntegrityError(f"the golden samples are corrupt: {error.what}", fix="make it again") from error
        gate = judge_samples(package, one, wanted, got)
        gates.append(dataclasses.replace(gate, name=f"samples {one['name']}"))
        skews = skews or measure_skews(images, spec.preprocess, predictor.logits, predictor.pixels)
    if artifact is not None and len(gates) == 2:
        Predictor(package, artifact, allow_code=allow_code)  # says which ones there are
    if all(gate.verdict == "skipped" for gate in gates if gate.name.startswith("samples ")):
        gates.append(Gate("samples", "inconclusive", "no artifact was run here: its answers are unproved"))
    return Verified(tuple(gates), skews)


def judge_samples(
    package: Package, artifact: Mapping[str, Any], wanted: npt.NDArray[np.float32], got: npt.NDArray[np.float32]
) -> Gate:
    """Judge golden samples as zoo check does: by truth and yardstick where the package has them, else by tolerances.

    Args:
        package: opened.
        artifact: its entry of the manifest.
        wanted: the source's own logits, N x K.
        got: the artifact's.
    """
    name = f"artifacts/{artifact['name']}/answers.json"
    if name in package.names():
        try:
            truth, yardstick, _, jitter, rounded = parse_answers(json.loads(package.read(name)), wanted.shape)
            own = json.loads(package.read(f"artifacts/{artifact['name']}/artifact.json"))
            planned = sum(layer["precision"] == "int8" for layer in own.get("plan", ()))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise IntegrityError(f"{name} is corrupt ({one_line(error)})", fix="make it again") from error
        other = other_plan(artifact["precision"], planned, rounded)
        if truth is not None and yardstick is not None and not other:
            apart = float(relative_distance(wanted, truth).max())
            if not apart <= SOURCE_ERROR:
                reason = f"golden/logits.json is {apart:.1e} away from the source's answers in float64"
                return Gate("numerics", "fail", reason)
            return judge_faithful(truth, yardstick, got, artifact["precision"], jitter=jitter)
    return judge_numerics(
        measure_numerics(wanted, got), artifact["precision"], "golden images",
        trained=bool(package.manifest["meaningful"]), backend=artifact["backend"],
    )  # fmt: skip


def recorded(artifact: Mapping[str, Any]) -> Gate:
    """Return what zoo check had found of an artifact when it was packaged; it is told, and not judged again.

    Args:
        artifact: its entry of the manifest.
    """
    verdicts: dict[str, str] = artifact.get("verdicts") or {}
    name = f"check {artifact['name']}"
    if not verdicts:
        return Gate(name, "skipped", "zoo check had not judged it when it was packaged")
    skipped = [gate for gate in REQUIRED if verdicts.get(gate, "skipped") == "skipped"]
    if skipped and not not_passed(verdicts):
        return Gate(name, "skipped", f"zoo check had not judged it: {' and '.join(skipped)} skipped")
    if doubts := not_passed(verdicts):
        return Gate(name, "skipped", f"DID NOT PASS zoo check: {doubts}; verify proves the package, not the model")
    passed = sum(verdict == "pass" for verdict in verdicts.values())
    return Gate(name, "pass", f"zoo check had passed it: {passed} of {len(verdicts)} gates, none failed")


def refuse_lies(package: Package) -> None:
    """Raise IntegrityError where the manifest says something else than artifact.json files, evidence and texts do.

    All of the manifest but the hashes follows from them; it is made again and compared.
    """
    manifest = package.manifest
    files = manifest["files"]
    try:
        listed = manifest["artifacts"]
        owns = [json.loads(package.read(f"artifacts/{one['name']}/artifact.json")) for one in listed]
        verdicts = [verdicts_in(package, one["name"]) for one in listed]
        unchecked = [str(one["unchecked"]) for one in listed]
        for one, own, found, why in zip(listed, owns, verdicts, unchecked, strict=True):
            name = one["name"]
            if bool(found) is bool(why):
                raise IntegrityError(f"the manifest lies about {name}: it says that it was checked, and why it was not")
            for file, record in own["files"].items():
                held = files.get(f"artifacts/{name}/{PurePosixPath(file).name if file == ANSWERS else file}")
                if held is not None and (held["sha256"], held["bytes"]) != (record["sha256"], record["bytes"]):
                    raise IntegrityError(f"{file} is not the one that {name} was exported with")
            if one["model"] not in files or one["precision"] not in PRECISIONS:
                raise IntegrityError(f"{name} has no model, or no known precision")
            if own["spec"] != owns[0]["spec"] or own["weights_sha256"] != owns[0]["weights_sha256"]:
                raise IntegrityError(f"{name} is of another model than {listed[0]['name']}")
        stray = sorted(name for name in files if name.startswith("checks/")
                       and name not in {f"checks/{one['name']}.check.json" for one in listed})  # fmt: skip
        if stray:
            raise IntegrityError(f"{stray[0]} is evidence of no artifact that the package has")
        made = manifest_of(owns, verdicts, unchecked, str(manifest["zoo"]))
        for one, entry in zip(listed, made["artifacts"], strict=True):
            if other := _differ(one, entry):
                raise IntegrityError(f"the manifest lies about {one['name']}: its {other} is another")
        if other := _differ({**manifest, "files": None}, {**made, "files": None}):
            raise IntegrityError(f"the manifest lies: its {other} is not what artifacts and evidence say")
        if spec_of(owns[0]).labels != tuple(package.read("labels.txt").decode().split("\n")[:-1]):
            raise IntegrityError("labels.txt and the artifacts have other labels")
        if json.loads(package.read("preprocess.json")) != owns[0]["spec"]["preprocess"]:
            raise IntegrityError("preprocess.json and the artifacts have another preprocessing")
        for file, record in owns[0]["files"].items():  # the samples are the first artifact's
            if file.startswith("golden/") and file != ANSWERS and files[file]["sha256"] != record["sha256"]:
                raise IntegrityError(f"{file} is not the one that {listed[0]['name']} was exported with")
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError) as error:
        raise IntegrityError("the package's manifest or an artifact.json is corrupt", fix="make it again") from error


def _differ(said: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """Return the first key that two mappings have otherwise; "" for none."""
    missing = object()
    return next((key for key in sorted({*said, *found}) if said.get(key, missing) != found.get(key, missing)), "")


def verdicts_in(package: Package, name: str) -> dict[str, str]:
    """Return the verdict of each gate in the evidence of an artifact; empty where there is none.

    Raises:
        IntegrityError: it is no evidence, or of another artifact than the package holds.
    """
    path = f"checks/{name}.check.json"
    if path not in package.names():
        return {}
    try:
        found = parse_record(package.read(path))
    except ValueError as error:
        raise IntegrityError(f"{path} is no evidence of zoo check: {one_line(error)}", fix="make it again") from error
    own = package.manifest["files"][f"artifacts/{name}/artifact.json"]["sha256"]
    (listed,) = (one for one in package.manifest["artifacts"] if one["name"] == name)
    if found.artifact_sha256 != own or (found.backend, found.precision) != (listed["backend"], listed["precision"]):
        raise IntegrityError(f"{path} is evidence of another artifact", fix="do not use this package")
    return found.verdicts


def measure_skews(
    images: list[Any],
    preprocess: Preprocess,
    run: Callable[[Images], npt.NDArray[np.float32]],
    pixels: bool = False,
) -> tuple[Skew, ...]:
    """Each usual mistake on the golden images; those that change no pixel of them are left out.

    Args:
        images: decoded.
        preprocess: the model's.
        run: logits of a batch.
        pixels: the model normalises by itself, so that only the mistakes before that can be made.
    """
    right = prepared(images, preprocess, pixels)
    reference = _run(run, right)
    found: list[Skew] = []
    for mistake, made in mistakes(images, preprocess, pixels).items():
        if np.array_equal(made, right):
            continue
        got = _run(run, made)
        norm = float(np.linalg.norm(reference)) or 1.0
        found.append(
            Skew(
                mistake, float((got.argmax(1) == reference.argmax(1)).mean()),
                float(np.linalg.norm(got - reference)) / norm, tuple(float(one) for one in got[0, :3]),
            )
        )  # fmt: skip
    return tuple(found)


def _run(run: Callable[[Any], npt.NDArray[np.float32]], batch: Images) -> npt.NDArray[np.float32]:
    return np.concatenate([run(batch[index : index + 1]) for index in range(len(batch))])


def _may_be_dangerous(package: Package, name: str) -> bool:
    """Whether a file has to be read whole: models, and what begins like a pickle or is named like one."""
    opaque = tuple(info.suffix for info in backend_infos() if info.suffix and not info.predictor)  # no package runs it
    plain = name.lower().endswith((".json", ".md", ".txt", ".png", ".py", *opaque)) or "/" not in name
    return not plain or package.head(name, 1) == b"\x80"
