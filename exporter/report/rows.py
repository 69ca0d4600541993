"""What `zoo check --json` printed, made ready to be shown: rows with short names, what is wrong, and one sentence.

Reads tolerantly, because a report of a failure must not fail: keys may be missing, and any number may be null.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import INCONCLUSIVE
from .next_steps import next_step

GATES = ("numerics", "consistency", "preprocessing", "accuracy", "labels", "latency", "precision", "regression")
WORDS = {"pass": "Passed", "fail": "Failed", "inconclusive": "Cannot tell"}
# What decides first; error and unavailable are of a whole row.
ORDER = ("error", "fail", "inconclusive", "unavailable", "pass", "skipped")
DOUBTFUL, FINE = ("inconclusive", "unavailable"), ("pass", "skipped")
NOTHING = {"kind": "empty", "message": "nothing was judged", "fix": ""}


@dataclass(frozen=True)
class Gate:
    """One gate of a row.

    Attributes:
        id: of its place in the page.
        name, verdict, reason: as printed.
        numbers: the gate as printed, whole.
    """

    id: str
    name: str
    verdict: str
    reason: str
    numbers: Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """One artifact.

    Attributes:
        id: of its place in the page.
        label: as short as it is unique: onnx-int8, resnet18/onnx-int8, or the path.
        data: the row as printed.
        gates: in the order of the columns.
        error: why it was not checked; nothing judged is an error too.
    """

    id: str
    label: str
    data: Mapping[str, Any]
    gates: tuple[Gate, ...]
    error: Mapping[str, Any] | None

    @property
    def precision(self) -> str:
        """What it claims to be."""
        return str(self.data.get("precision") or "")

    @property
    def verdict(self) -> str:
        """The one of its gates, or its error, that decides."""
        words = [gate.verdict for gate in self.gates]
        return hardest([*words, error_word(self.error)] if self.error else words)

    def gate(self, name: str) -> Gate | None:
        """The gate of that name; of several the one that decides."""
        return min((one for one in self.gates if one.name == name), key=lambda one: rank(one.verdict), default=None)

    def numbers(self, name: str) -> Mapping[str, Any]:
        """Of that gate; empty where there is none."""
        gate = self.gate(name)
        return gate.numbers if gate else {}


@dataclass(frozen=True)
class Problem:
    """Something that did not pass, and where the page says more."""

    place: str
    label: str
    what: str
    verdict: str
    reason: str
    fix: str = ""
    bisect: Mapping[str, Any] | None = None


def rank(verdict: str) -> int:
    """Where a verdict stands in `ORDER`; a word that is not known is a failure."""
    return ORDER.index(verdict if verdict in ORDER else "fail")


def hardest(verdicts: Sequence[str]) -> str:
    """The verdict that decides."""
    return min(verdicts, key=rank, default="error")


def error_word(error: Mapping[str, Any]) -> str:
    """`unavailable` is what this machine lacks, `error` everything else."""
    return "unavailable" if error.get("kind") == "unavailable" else "error"


def read_rows(result: Mapping[str, Any]) -> list[Row]:
    """A row an artifact, in the order of the result."""
    artifacts = result.get("artifacts") or []
    return [_row(index, label, artifacts[index]) for index, label in enumerate(labels(artifacts))]


def labels(artifacts: Sequence[Mapping[str, Any]]) -> list[str]:
    """The shortest names that tell the artifacts apart; one that is called something keeps its `label`."""
    if artifacts and all(one.get("label") for one in artifacts):
        return [str(one["label"]) for one in artifacts]
    short = [suite_name(one) for one in artifacts]
    models = [f"{one.get('model') or ''}/{name}" for one, name in zip(artifacts, short, strict=True)]
    paths = [str(one.get("artifact") or f"artifact {index}") for index, one in enumerate(artifacts, 1)]
    once = [Counter(names) for names in (short, models)]
    return [
        name if once[0][name] == 1 else longer if once[1][longer] == 1 else path
        for name, longer, path in zip(short, models, paths, strict=True)
    ]


def suite_name(artifact: Mapping[str, Any]) -> str:
    """`onnx-int8`; the path where an artifact could not be read so far."""
    parts = [str(artifact[key]) for key in ("backend", "precision") if artifact.get(key)]
    return "-".join(parts) or str(artifact.get("artifact") or "artifact")


def columns(rows: Sequence[Row]) -> list[str]:
    """The names of all gates, ours first."""
    found = dict.fromkeys(gate.name for row in rows for gate in row.gates)
    return [*(name for name in GATES if name in found), *(name for name in found if name not in GATES)]


def standing(result: Mapping[str, Any], rows: Sequence[Row]) -> tuple[str, str, str]:
    """Pass, fail or inconclusive, the sentence that says so with counts, and what there is besides."""
    found = Counter(gate.verdict for row in rows for gate in row.gates)
    errors = Counter(error_word(row.error) for row in rows if row.error)
    verdict = _verdict(result, found, errors)
    gates, artifacts = count(found.total(), "gate"), count(len(rows), "artifact")
    failed = found.total() - sum(found[word] for word in ("inconclusive", *FINE))  # a word that is not known too
    parts = [
        f"{failed} of {gates} failed" if failed else "",
        f"{found['inconclusive']}{'' if failed else f' of {gates}'} cannot be judged" if found["inconclusive"] else "",
        f"{errors['error']} of {artifacts} could not be checked" if errors["error"] else "",
        f"{errors['unavailable']} of {artifacts} cannot run here" if errors["unavailable"] else "",
    ]
    judged = count(sum(bool(row.gates) for row in rows), "artifact")
    passed = f"{count(found['pass'], 'gate')} of {judged}" if found["pass"] else "no gate"
    if not any(parts):
        ended = f"the command ended with exit code {result.get('exit_code')}"
        parts = [passed if verdict == "pass" else ended if found["pass"] else "no gate was judged"]
    rest = [f"{passed} passed"] if verdict != "pass" else []
    rest += [f"{found['skipped']} skipped"] if found["skipped"] else []
    return verdict, f"{WORDS[verdict]}: {', '.join(part for part in parts if part)}", ", ".join(rest)


def problems(rows: Sequence[Row], data: str = "") -> list[Problem]:
    """All that did not pass and was not skipped, the hardest first, each with what to do next.

    Args:
        rows: artifacts.
        data: what they were judged on; "" where that is not known.
    """
    found: list[Problem] = []
    for row in rows:
        if row.error:
            message, fix = str(row.error.get("message") or "no reason was given"), str(row.error.get("fix") or "")
            found.append(Problem(row.id, row.label, "", error_word(row.error), message, fix))
        found += [
            Problem(
                gate.id, row.label, gate.name, gate.verdict, gate.reason,
                next_step(gate.name, gate.verdict, backend=str(row.data.get("backend") or ""),
                          precision=row.precision, data=data),
                bisect_of(gate),
            )
            for gate in row.gates
            if gate.verdict not in FINE
        ]  # fmt: skip
    # what explains the others first: swapped labels make the accuracy fail, too
    return sorted(found, key=lambda one: (rank(one.verdict), one.what not in ("preprocessing", "labels")))


def data_of(result: Mapping[str, Any]) -> str:
    """The name of the data of a result; "" where there was none."""
    return str((result.get("data") or {}).get("name") or "")


def bisect_of(gate: Gate) -> Mapping[str, Any] | None:
    """The first layer that departs from the reference, where it was looked for and found."""
    found = gate.numbers.get("bisect")
    return found if isinstance(found, Mapping) else None


def shares_of_macs(layers: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The share of the MACs by what ran, `int8`, or else by what was planned, `int8, planned`.

    Where shapes are missing every layer counts the same.
    """
    weigh = all(layer.get("macs") for layer in layers)
    totals: Counter[str] = Counter()
    for layer in layers:
        name = str(layer.get("ran") or f"{layer.get('precision') or 'unknown'}, planned")
        totals[name] += layer["macs"] if weigh else 1
    return {name: value / totals.total() for name, value in totals.items()}


def elsewhere(row: Row) -> list[Mapping[str, Any]]:
    """The layers that are not in the artifact's own precision, the largest first."""
    layers = row.data.get("layers") or []
    other = [layer for layer in layers if (layer.get("ran") or layer.get("precision")) != row.precision]
    return sorted(other, key=lambda layer: -(layer.get("macs") or 0))


def count(number: int, word: str) -> str:
    """`1 gate`, `2 gates`."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def _verdict(result: Mapping[str, Any], found: Counter[str], errors: Counter[str]) -> str:
    """Of all; it never passes what the command itself did not, nor where nothing was judged."""
    worst = hardest([*found.elements(), *errors.elements()])
    if worst not in FINE:
        return "inconclusive" if worst in DOUBTFUL else "fail"
    if result.get("ok") is False or result.get("exit_code") not in (None, 0):
        return "inconclusive" if result.get("exit_code") == INCONCLUSIVE else "fail"
    return "pass" if found["pass"] else "inconclusive"


def _row(index: int, label: str, data: Mapping[str, Any]) -> Row:
    gates = [
        Gate(
            f"a{index}-g{place}",
            str(gate.get("name") or "gate"),
            str(gate.get("verdict") or "fail"),
            str(gate.get("reason") or ""),
            gate,
        )
        for place, gate in enumerate(data.get("gates") or [])
    ]
    known = {name: place for place, name in enumerate(GATES)}
    gates.sort(key=lambda gate: known.get(gate.name, len(GATES)))
    error = data.get("error") or (None if gates else NOTHING)
    return Row(f"a{index}", label, data, tuple(gates), error)
