"""The evidence of an artifact, read strictly: known gates and verdicts. Whoever believes evidence reads it by this."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

EVIDENCE_FORMAT = 1
GATES = ("numerics", "accuracy", "consistency", "preprocessing", "labels", "latency", "precision", "regression")
VERDICTS = ("pass", "fail", "inconclusive", "skipped")
REQUIRED = ("numerics", "precision")  # an artifact of which these were not judged was not checked
_DIGEST = re.compile(r"[0-9a-f]{64}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00")
_LARGEST = 64 << 20


@dataclass(frozen=True)
class Record:
    """What a check found of one artifact.

    Attributes:
        artifact_sha256: of the artifact.json that was judged.
        backend, precision: of that artifact.
        created: when it was judged, UTC.
        gates: name, verdict and reason of each, in order.
        data: name of what it was judged on, and how many images; None without.
        raw: all of it.
    """

    artifact_sha256: str
    backend: str
    precision: str
    created: str
    gates: tuple[tuple[str, str, str], ...]
    data: tuple[str, int] | None
    raw: Mapping[str, Any]

    @property
    def verdicts(self) -> dict[str, str]:
        """Each gate's."""
        return {name: verdict for name, verdict, _ in self.gates}

    @property
    def unjudged(self) -> tuple[str, ...]:
        """Required gates that were left out or skipped."""
        return tuple(name for name in REQUIRED if self.verdicts.get(name, "skipped") == "skipped")


_MOST_IMAGES = 1 << 40


def parse_record(content: bytes) -> Record:
    """Read evidence.

    Raises:
        ValueError: it is no evidence of zoo check; the message says what is wrong with it.
    """
    if len(content) > _LARGEST:
        raise ValueError(f"it has {len(content):,} bytes")
    try:
        found = json.loads(content.decode("utf-8"), parse_constant=_refuse, object_pairs_hook=_once)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(found, dict):
        raise ValueError("it is no JSON object")
    version = found.get("format")
    if version != EVIDENCE_FORMAT or isinstance(version, bool):
        raise ValueError(f"its format is {version!r}, not {EVIDENCE_FORMAT}: check the artifact again")
    seal, backend, precision, created = (
        _text(found, name) for name in ("artifact_sha256", "backend", "precision", "created")
    )
    for name in ("artifact_sha256", "reference_sha256"):
        if not _DIGEST.fullmatch(_text(found, name)):
            raise ValueError(f"its {name} is no SHA-256")
    try:
        datetime.datetime.fromisoformat(created if _TIME.fullmatch(created) else "")
    except ValueError:
        raise ValueError(f"created is {created[:40]!r}, no time") from None
    return Record(seal, backend, precision, created, _gates(found.get("gates")), _data(found.get("data")), found)


def _gates(value: Any) -> tuple[tuple[str, str, str], ...]:
    if not isinstance(value, list) or not value:
        raise ValueError("it has no gates")
    made: list[tuple[str, str, str]] = []
    for one in value:
        if not isinstance(one, dict):
            raise ValueError("a gate is no object")
        name, verdict, reason = _text(one, "name"), _text(one, "verdict"), _text(one, "reason")
        if name not in GATES:
            raise ValueError(f"it has an unknown gate, {name[:40]!r}")
        if verdict not in VERDICTS:
            raise ValueError(f"the verdict of {name} is {verdict[:40]!r}, none that there is")
        if not reason:
            raise ValueError(f"the gate {name} has no reason")
        made.append((name, verdict, reason))
    if len({name for name, _, _ in made}) < len(made):
        raise ValueError("a gate is there twice")
    return tuple(made)


def _data(value: Any) -> tuple[str, int] | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise ValueError("its data is no object")
    images = value.get("images")
    if not isinstance(images, int) or isinstance(images, bool) or not 0 <= images <= _MOST_IMAGES:
        raise ValueError("its data has no number of images")
    return _text(value, "name"), images


def _text(found: Mapping[str, Any], name: str) -> str:
    value = found.get(name)
    if not isinstance(value, str):
        raise ValueError(f"it has no {name}")
    if not value.isprintable():  # a line of a card, or a sequence that a terminal obeys
        raise ValueError(f"its {name} holds what cannot be printed")
    return value


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is no number in JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a key is there twice")
    return dict(pairs)


NOT_PASSED = {"fail": "failed", "inconclusive": "could not tell"}  # verdicts, as a sentence about a gate has them


def not_passed(verdicts: Mapping[str, str]) -> str:
    """Return the gates that failed or could not tell as words: `numerics failed, latency could not tell`."""
    doubts = [(gate, verdict) for gate, verdict in verdicts.items() if verdict in NOT_PASSED]
    doubts.sort(key=lambda pair: pair[1] != "fail")
    return ", ".join(f"{gate} {NOT_PASSED[verdict]}" for gate, verdict in doubts)
