"""The evidence of an artifact: what checks found of it, kept beside the sealed folder as ARTIFACT.check.json."""

from __future__ import annotations

import datetime
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import rfc8785

from ... import atomic
from ...config import read_json, to_mapping
from ...errors import GateError, UsageError, one_line
from ..artifact.folder import ARTIFACT, Artifact, attestation_path, evidence_path, read_manifest, record
from ..backends.infos import backend_infos
from ..timing.machine import cores_here, cpu_name
from .attestation import EVIDENCE_ENTRY, statement_of
from .budget import Budget
from .gate import Gate
from .record import EVIDENCE_FORMAT, Record, not_passed, parse_record
from .regression import judge_regression
from .run import Checked


def packages() -> dict[str, str]:
    """Distributions whose versions evidence names, by the name that people know."""
    of_backends = {known: wheel for info in backend_infos() for known, wheel in info.packages.items()}
    return {"zoo": "zoo-export", **of_backends, "plotly": "plotly"}


def as_mapping(row: Checked) -> dict[str, Any]:
    """One artifact's row."""
    common: dict[str, Any] = {"artifact": row.artifact, "backend": row.backend, "precision": row.precision}
    if row.error is not None:
        return {**common, "gates": [], "error": row.error.as_mapping()}
    found = {**common, "gates": [gate.as_mapping() for gate in row.gates]}
    found["receipt"] = vars(row.receipt) if row.receipt else None
    manifest = row.manifest
    if manifest is None:
        return found
    ran = row.receipt.ran if row.receipt else {}
    return {
        **found,
        "model": manifest.spec.name,
        "bytes": manifest.files[manifest.model].bytes if manifest.built else 0,
        "weights": manifest.weights,
        "weights_sha256": manifest.weights_sha256,
        "exported": manifest.created,
        "tools": manifest.tools,
        "layers": [{**vars(layer), "ran": ran.get(layer.name)} for layer in manifest.plan],
    }


def with_regression(
    rows: Sequence[Checked], baseline: Mapping[str, Any], data: Mapping[str, Any] | None, budget: Budget
) -> list[Checked]:
    """The rows with the gate regression, judged against an earlier result."""
    same = data is not None and baseline.get("data") == data
    found: list[Checked] = []
    for row in rows:
        if row.error is not None or row.manifest is None:
            found.append(row)
            continue
        limit = budget.limits(row.backend, row.precision).accuracy.max_drop
        gate = judge_regression(as_mapping(row), baseline["artifacts"], same_data=same, max_drop=limit)
        found.append(replace(row, gates=(*row.gates, gate)))
    return found


def write_evidence(result: Mapping[str, Any], rows: Sequence[Checked]) -> list[str]:
    """Write what was found of each artifact into files beside its folder; return notes of those that failed.

    The evidence is canonical JSON (RFC 8785), of the artifact.json that was judged: its seal was taken when it was
    opened, and where another lies there by now, the evidence is not of that one and says so. Beside it lies the same
    as an in-toto statement.
    """
    notes: list[str] = []
    for row, mapping in zip(rows, result["artifacts"], strict=True):
        if row.manifest is None:
            continue
        folder = Path(row.artifact)
        place = evidence_path(folder)
        if place.exists() and not _ours(place):
            notes.append(f"{place} is there and no evidence of zoo: it was left alone, and none was written")
            continue
        if record_now(folder) != row.seal:
            notes.append(f"{folder} was replaced during the check: the evidence is of what it was, check it again")
        kept = {key: result[key] for key in ("created", "command", "data", "versions")}
        sealed = {"format": EVIDENCE_FORMAT, "artifact_sha256": row.seal, **row.subject}
        machine = result["machine"] or {"cpu": cpu_name(), "cores": len(cores_here()), "system": platform.platform()}
        content = rfc8785.dumps(to_mapping({**kept, **sealed, "machine": machine, **mapping}))
        files = {name: kept.sha256 for name, kept in row.manifest.files.items()}
        statement = statement_of(content, folder.name, {**files, ARTIFACT: row.seal})
        try:
            atomic.write_file(place, content)
            atomic.write_file(attestation_path(folder), rfc8785.dumps(statement))
        except OSError as error:
            notes.append(f"{place} could not be written: {error.strerror or error}")
    return notes


def record_now(folder: Path) -> str:
    """Return the seal of what lies in a folder now; "" where nothing does."""
    try:
        return record(folder / ARTIFACT).sha256
    except OSError:
        return ""


def write_failed(folder: Path, gates: Sequence[Gate]) -> list[str]:
    """Write the evidence of an artifact that its export refused; return notes of what could not be written."""
    manifest = read_manifest(folder)
    row = Checked(
        str(folder), manifest.backend, manifest.precision, tuple(gates), manifest=manifest, seal=record_now(folder),
        subject={"reference_sha256": manifest.weights_sha256, "pixels_sha256": None, "limits": {}},
    )  # fmt: skip
    created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    result = {"created": created, "command": "zoo export", "data": None, "versions": versions(), "machine": None}
    return write_evidence({**result, "artifacts": [as_mapping(row)]}, [row])


def _ours(path: Path) -> bool:
    """Whether it is what a check wrote."""
    try:
        found = read_json(path)
    except UsageError:
        return False
    return isinstance(found, dict) and "artifact_sha256" in found


def versions() -> dict[str, str]:
    """Of what took part, where it is installed."""
    found = {"python": platform.python_version()}
    for name, package in packages().items():
        for one in (package, name):  # onnxruntime comes in two packages
            try:
                found[name] = version(one)
                break
            except PackageNotFoundError:
                continue
    return found


@dataclass(frozen=True)
class Evidence:
    """What a check found of an artifact, or why there is nothing."""

    content: bytes | None
    reason: str = ""
    record: Record | None = None

    @property
    def verdicts(self) -> dict[str, str]:
        """Each gate's."""
        return self.record.verdicts if self.record is not None else {}


def evidence_of(artifact: Artifact) -> Evidence:
    """What zoo check wrote beside an artifact, if it is of the artifact as it was opened."""
    path, manifest = evidence_path(artifact.folder), artifact.manifest
    if path.exists() and not path.is_file():
        return Evidence(None, f"{path.name} is no regular file")
    try:
        content = path.read_bytes()
        found = parse_record(content)
    except FileNotFoundError:
        return Evidence(None, "not checked")
    except (OSError, ValueError) as error:
        return Evidence(None, f"{path.name} is no evidence of zoo check: {one_line(error)}")
    if other := _another_statement(artifact.folder, content):
        return Evidence(None, f"{path.name} was changed since {other} was written with it")
    same = (found.backend, found.precision) == (manifest.backend, manifest.precision)
    if found.artifact_sha256 != artifact.seal or not same:
        return Evidence(None, f"{path.name} is of an artifact that was replaced")
    return Evidence(content, record=found)


def _another_statement(folder: Path, evidence: bytes) -> str:
    """The name of the statement beside an artifact where it is of other evidence; "" where none is, or it fits."""
    place = attestation_path(folder)
    try:
        listed = json.loads(place.read_bytes())["predicate"]["configuration"]
        digests = [one["digest"]["sha256"] for one in listed if one["name"] == EVIDENCE_ENTRY]
    except FileNotFoundError:
        return ""
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return place.name
    return "" if digests == [sha256(evidence).hexdigest()] else place.name


def refuse_unchecked(evidence: Mapping[str, Evidence]) -> None:
    """Raise GateError for an artifact that no check has passed."""
    for name, one in evidence.items():
        if one.content is None:
            raise GateError(f"{name}: {one.reason}", fix="zoo check FOLDER --data DATA")
        if one.record is not None and one.record.unjudged:
            raise GateError(
                f"{name} was not judged by its check: {' and '.join(one.record.unjudged)} skipped",
                fix="zoo check FOLDER --data DATA says why",
            )
        if doubts := not_passed(one.verdicts):
            raise GateError(f"{name} did not pass its check: {doubts}", fix="zoo check FOLDER --data DATA says why")
