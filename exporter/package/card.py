"""The model card: the first page of a package, made of facts that are in it."""

from __future__ import annotations

import hashlib
import itertools
import json
import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import IntegrityError, one_line
from ...models.preprocess import shape_of, steps_outside
from ..artifact.folder import ARTIFACT, parse_manifest
from ..checks.evidence import versions
from ..checks.gate import Gate
from ..checks.record import NOT_PASSED, not_passed, parse_record
from ..report.next_steps import next_step

if TYPE_CHECKING:
    from ..artifact.manifest import Manifest
    from ..checks.evidence import Evidence
    from ..runtime.container import Package

NO_LICENCE = "No licence was given for these weights.\n"
CARD = "README.md"
TEXTS = (".json", ".txt", ".md", "LICENSE")
VERDICTS = {"pass": "passed", "skipped": "skipped", **NOT_PASSED}


def card_of(
    manifest: Mapping[str, Any],
    artifacts: Sequence[Manifest],
    evidence: Mapping[str, Evidence],
    licensed: bool,
    hashes: Mapping[str, str],
) -> str:
    """Markdown: what it is, whether it was checked, how to run it, what each artifact claims, and hashes of all that.

    Sections follow Mitchell et al. 2019, Model Cards for Model Reporting (arXiv 1810.03993), as far as facts are known.
    """
    first = artifacts[0]
    spec = first.spec
    unchecked = [name for name, one in evidence.items() if one.record is None]
    parts = [f"# {spec.name}", _status(evidence, unchecked)]
    if not first.meaningful:
        parts.append("**The weights are random: its answers mean nothing.**")
    parts.append(
        "```\npip install onnxruntime numpy pillow\n"
        "python PACKAGE predict IMAGE.jpg     # PACKAGE is this file; answers with their probability\n"
        "python PACKAGE verify                # hashes, and its own samples on this machine\n"
        "python PACKAGE profile               # how fast it is on this machine\n```\n\n"
        "Running it runs the code in it: get it from who made it, and `zoo verify` it first, which runs none of it."
    )
    parts += [
        _model(first),
        _artifacts(manifest),
        _evidence(evidence, dict(zip(evidence, artifacts, strict=True))),
        _preprocess(first),
        *_pixels(artifacts),
        _labels(spec.labels),
    ]
    parts += [_made_with(first, licensed), _hashes(hashes)]
    return "\n\n".join(parts) + "\n"


def judge_card(package: Package) -> Gate:
    """Judge whether a package's first page says what its other files do: it is made again of them, and compared.

    Raises:
        IntegrityError: a file that it is made of is corrupt.
    """
    from ..checks.evidence import Evidence

    made_by, here = package.manifest.get("zoo"), versions()["zoo"]
    if made_by != _made_by(package):
        return Gate("card", "fail", f"manifest.json says zoo {made_by} made it, sbom.cdx.json says another")
    if made_by != here:
        return Gate(
            "card", "skipped", f"{CARD} was written by zoo {made_by}, this is {here}: read manifest.json instead"
        )
    artifacts: list[Manifest] = []
    evidence: dict[str, Evidence] = {}
    try:
        for one in package.manifest["artifacts"]:
            place = f"artifacts/{one['name']}/{ARTIFACT}"
            artifacts.append(parse_manifest(package.read(place), Path(place)))
            kept = f"checks/{one['name']}.check.json"
            content = package.read(kept) if kept in package.names() else None
            record = parse_record(content) if content is not None else None
            evidence[one["name"]] = Evidence(content, str(one.get("unchecked", "")), record)
        licensed = package.read("LICENSE").decode() != NO_LICENCE
        hashes = {name: str(kept["sha256"]) for name, kept in package.manifest["files"].items()}
        card = card_of(package.manifest, artifacts, evidence, licensed, hashes)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise IntegrityError(f"the facts of {CARD} are corrupt ({one_line(error)})", fix="make it again") from error
    held = package.read(CARD).decode("utf-8", "replace")
    if held != card:
        lines = itertools.zip_longest(held.split("\n"), card.split("\n"), fillvalue="")
        number, (said, found) = next((at, pair) for at, pair in enumerate(lines, 1) if pair[0] != pair[1])
        return Gate(
            "card", "fail", f"{CARD} says in line {number} {said[:100]!r}, the files it tells of {found[:100]!r}"
        )
    return Gate("card", "pass", f"{CARD} says what manifest, evidence and artifacts do")


def _made_by(package: Package) -> Any:
    """Return the version of zoo that the SBOM names; None where it names none."""
    try:
        parts = json.loads(package.read("sbom.cdx.json"))["components"]
        return next((one["version"] for one in parts if one["name"] == "zoo-export"), None)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return None


def _status(evidence: Mapping[str, Evidence], unchecked: Sequence[str]) -> str:
    if len(unchecked) == len(evidence):
        return "**Not checked**: no evidence that it answers as its reference does (`zoo check`)."
    failed = {name: doubts for name, one in evidence.items() if (doubts := not_passed(one.verdicts))}
    told = f"**Did not pass its check**: {_list(failed)}." if failed else "Checked: no gate failed."
    return f"{told} **Not checked**: {', '.join(unchecked)}." if unchecked else told


def _list(failed: Mapping[str, str]) -> str:
    return "; ".join(f"{name}: {doubts}" for name, doubts in failed.items())


def _model(first: Manifest) -> str:
    lines = [
        "## Model", "",
        f"- architecture: {first.origin.source}" + (", pruned" if first.origin.widths else ""),
        f"- weights: {first.weights}, SHA-256 {first.weights_sha256}",
        f"- input: {'x'.join(map(str, first.spec.input))}, {len(first.spec.labels)} classes",
    ]  # fmt: skip
    if first.reached is not None:
        one = first.reached
        lines.append(
            f"- in training it reached {one.accuracy:.2%} on {one.images:,} images of {one.data} ({one.split})"
        )
    lines += [f"- {note}" for note in first.notes]
    return "\n".join(lines)


def _artifacts(manifest: Mapping[str, Any]) -> str:
    rows = ["## Artifacts", "", "| name | file | zoo check |", "|---|---|---|"]
    for one in manifest["artifacts"]:
        found = not_passed(one["verdicts"]) or "passed" if one["checked"] else "not checked"
        rows.append(f"| {one['name']} | {one['model']} | {found} |")
    return "\n".join(rows)


def _evidence(evidence: Mapping[str, Evidence], artifacts: Mapping[str, Manifest]) -> str:
    rows = ["## Evidence", ""]
    for name, one in evidence.items():
        if one.record is None:
            rows.append(f"- {name}: {one.reason}; `zoo check FOLDER --data DATA` judges it")
            continue
        data, images = one.record.data or ("", 0)
        on = f" on {images:,} images of {data}" if data else ""
        rows.append(f"- {name}, {one.record.created[:10]}{on}:")
        for gate, verdict, reason in one.record.gates:
            rows.append(f"  - {gate}: {VERDICTS[verdict]}: {reason}")
            own = artifacts[name]
            after = next_step(gate, verdict, backend=own.backend, precision=own.precision, data=data)
            rows += [f"    - next: {after}"] if after else []
    return "\n".join(rows)


def _preprocess(first: Manifest) -> str:
    before = first.spec.preprocess
    size = "as it is" if before.resize is None else (
        f"the shorter side to {before.resize}" if isinstance(before.resize, int) else f"to {before.resize[0]} x "
        f"{before.resize[1]}")  # fmt: skip
    return (
        f"## Preprocessing\n\nDecode to {before.channels}, resize {size} ({before.interpolation} with antialiasing, as "
        f"Pillow does it), crop the centre {before.crop[0]} x {before.crop[1]}, times {before.scale:.6g}, minus "
        f"{list(before.mean)}, over {list(before.std)}; float32, N x C x H x W. preprocess.json has it as data; "
        "`verify` shows what mistakes in it would give."
    )


def _pixels(artifacts: Sequence[Manifest]) -> list[str]:
    """Of the artifacts that normalise by themselves."""
    found = [one for one in artifacts if one.pixels]
    if not found:
        return []
    before, names = found[0].spec.preprocess, ", ".join(one.form for one in found)
    return [
        f"{names} take uint8 {shape_of(before)} and do the rest by themselves; left "
        f"outside: {', '.join(steps_outside(before))}."
    ]


def _labels(labels: Sequence[str]) -> str:
    shown = ", ".join(map(_plain, labels[:20])) + (f" and {len(labels) - 20} more" if len(labels) > 20 else "")
    return f"## Classes\n\n{shown} (labels.txt)"


def _plain(text: str) -> str:
    """As it is in Markdown: a label is a folder's name, and may look like markup."""
    return "".join(f"\\{one}" if one in string.punctuation and one not in ",.-:;'" else one for one in text)


def _made_with(first: Manifest, licensed: bool) -> str:
    tools = ", ".join(f"{name} {version}" for name, version in first.tools.items())
    licence = "LICENSE" if licensed else "none was given for the weights"
    return (
        f"## Made with\n\n{tools}; exported {first.created}. sbom.cdx.json lists components, manifest.json the SHA-256 "
        f"of every file.\n\nLicence of the weights: {licence}. Licence of the code in zoo/: zoo/LICENSE."
    )


def _hashes(hashes: Mapping[str, str]) -> str:
    """Of every text that says something of the model, and of the code together: other texts make another page."""
    rows = ["## Hashes", ""]
    rows += [f"- {name}: {hashes[name]}" for name in sorted(hashes) if name.endswith(TEXTS) and name != CARD]
    code = hashlib.sha256("".join(hashes[name] for name in sorted(hashes) if name.endswith(".py")).encode())
    return "\n".join([*rows, f"- the code (SHA-256 of the hashes of its files): {code.hexdigest()}"])
