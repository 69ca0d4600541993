"""The page of a pipeline: what its checks found, where it came from, and which artifact to take.

It is written again only when something in it would be another; what decides is a digest in the folder's .zoo.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ... import atomic
from ...config import to_json
from ...errors import UnavailableError, UsageError, quoted
from ..artifact.folder import ARTIFACT
from .cache_keys import code_hash, digest_of
from .candidates import THERE, fronts_of, name_of, picks_of, short_front
from .config import relative
from .scheduler import Run
from .state import REPORTS

PAGE, KEPT, PROFILE = REPORTS[0], "report.json", "profile.json"


@dataclass(frozen=True)
class Found:
    """What a pipeline left, read.

    Attributes:
        nodes: all, with their hashes.
        rows: the evidence of checks, by the name of the artifact.
        profiles: each node with what its profile.json holds.
        notes: what could not be read.
    """

    nodes: list[dict[str, Any]] = field(default_factory=list)
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    profiles: list[tuple[dict[str, Any], dict[str, Any]]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def write_report(engine: Run, payload: Mapping[str, Any]) -> dict[str, Any]:
    """Write report.html where it is not up to date; what of it --json says: report, picks, front, and notes.

    A page that cannot be made or written is a note, for the run itself is not to fail by it.
    """
    place, kept = engine.state.out / PAGE, engine.state.place / KEPT
    if not any(node["path"] for node in payload["nodes"]) and not payload["failed"]:
        return {"picks": [], "front": [], "notes": [f"{PAGE} is not written: nothing was made yet"]}
    inputs = inputs_of(engine, payload)
    told = up_to_date(place, kept, inputs)
    if told is not None:
        return {"report": relative(place), **told}
    found = read(engine, payload)
    fronts = fronts_of(found.nodes, found.rows)
    picks = picks_of(found.nodes, found.rows, found.profiles)
    told = {"picks": picks, "front": short_front(fronts), "notes": found.notes, "proven": _proven(found)}
    try:
        page = _render(engine, payload, found, {"picks": picks, "fronts": fronts}).encode()
        atomic.write_file(place, page)
        atomic.write_file(kept, to_json({"inputs": inputs, "page": _hash(page), "told": told}).encode())
    except (UnavailableError, UsageError) as error:
        return {**told, "notes": [*found.notes, f"{PAGE} is not written: {error.what}; {error.fix}"]}
    except OSError as error:
        why = error.strerror or str(error)
        return {**told, "notes": [*found.notes, f"{relative(place)} could not be written: {why}"]}
    return {"report": relative(place), **told}


def _proven(found: Found) -> str:
    """Return what the checks proved, as the page's first line has it."""
    from ..report.nodes import proven
    from ..report.rows import read_rows

    return proven(read_rows({"artifacts": list(found.rows.values())}))


def inputs_of(engine: Run, payload: Mapping[str, Any]) -> str:
    """The digest of all that the page shows; what was made before, and what was made now, is one thing."""
    nodes = []
    for node in payload["nodes"]:
        record = engine.outcome(node["id"]).record
        state = THERE[0] if node["state"] in THERE else node["state"]
        nodes.append({**node, "state": state, "again": "", "digest": record.digest if record else ""})
    return digest_of([nodes, payload["pipeline"], payload["out"], code_hash("report")])


def up_to_date(place: Path, kept: Path, inputs: str) -> dict[str, Any] | None:
    """What was told of the page that is there, if it is the one of these inputs; None where it is to be written."""
    try:
        before = json.loads(kept.read_text(encoding="utf-8"))
        same = before["inputs"] == inputs and before["page"] == _hash(place.read_bytes())
        return dict(before["told"]) if same else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def read(engine: Run, payload: Mapping[str, Any]) -> Found:
    """Read what the nodes left: evidence, profiles, hashes."""
    found = Found()
    for given in payload["nodes"]:
        node = dict(given)
        outcome, path = engine.outcome(node["id"]), engine.state.folder / node["path"]
        if outcome.record is not None:
            node["digest"] = outcome.record.digest
        data = node["options"].get("data")
        if data and (hash_ := _fingerprint(engine, data)) != data:
            node["data_sha256"] = hash_
        found.nodes.append(node)
        if not node["path"]:
            continue
        if node["kind"] == "check" and (row := _json(path, found.notes)) is not None:
            found.rows[name_of(node)] = {**row, "label": name_of(node)}
        elif node["kind"] == "profile" and (profile := _json(path / PROFILE, found.notes)) is not None:
            found.profiles.append((node, profile))
        elif node["kind"] in ("export", "build") and (manifest := _json(path / ARTIFACT, found.notes)) is not None:
            node["weights_sha256"] = str(manifest.get("weights_sha256") or "")
    with_weights(found.nodes)
    return found


def with_weights(nodes: list[dict[str, Any]]) -> None:
    """Give each model the hash of the weights that artifacts were exported from it with."""
    named = {node["id"]: node for node in nodes}
    for node in nodes:
        if node["kind"] == "export" and node.get("weights_sha256"):
            named[node["needs"][0]].setdefault("weights_sha256", node["weights_sha256"])


def _render(engine: Run, payload: Mapping[str, Any], found: Found, more: Mapping[str, Any]) -> str:
    from ..checks.evidence import versions
    from ..report.output_path import page_mark, refuse_place
    from ..report.pipeline_page import MADE_BY, render_pipeline
    from ..report.skeleton import require_libraries

    require_libraries()
    refuse_place(engine.state.out / PAGE, page_mark(MADE_BY), [])
    rows = list(found.rows.values())
    data = [row.get("data") for row in rows]
    code = payload["code"]
    result = {
        "ok": code == 0,
        "exit_code": code,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": f"zoo run {quoted(payload['pipeline'])}",
        "pipeline": payload["pipeline"],
        "out": payload["out"],
        "versions": versions(),
        "machine": None,
        "data": data[0] if data and all(one == data[0] for one in data) else None,
        "notes": found.notes,
        "nodes": found.nodes,
        "artifacts": rows,
        "profiles": [{"node": node["id"], "variant": node["variant"], "form": node["form"], **profile}
                     for node, profile in found.profiles],
        **more,
    }  # fmt: skip
    return render_pipeline(result)


def _json(path: Path, notes: list[str]) -> dict[str, Any] | None:
    """A file that another command wrote; None with a note where it is none of those."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return found
    notes.append(f"{relative(path)} cannot be read")
    return None


def _fingerprint(engine: Run, name: str) -> str:
    with contextlib.suppress(OSError):
        return engine.known.fingerprint(name)
    return name


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
