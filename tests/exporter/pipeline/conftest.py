"""A pipeline's file in a folder of its own, and commands that are played, not run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from zoo.exporter.pipeline.command_line import Command
from zoo.exporter.pipeline.config import read_pipeline
from zoo.exporter.pipeline.expand import Node
from zoo.exporter.pipeline.local_process import Ended
from zoo.exporter.pipeline.requirements import Facts, modules
from zoo.exporter.pipeline.scheduler import Run, prepare

WHOLE = """
[pipeline]
out = "out"
data = "digits"

[steps.base]
do = "train"
source = ["resnet18", "mobilenet_v2"]
epochs = 2

[steps.small]
do = "prune"
from = "base"
macs = 0.5
timed = false

[steps.exports]
do = "export"
from = ["base", "small"]
to = ["torchscript", "onnx", "trt"]
precision = ["fp32", "int8"]

[steps.proof]
do = "check"
from = "exports"

[steps.bundle]
do = "package"
from = "proof"
"""
PASSED = {"name": "numerics", "verdict": "pass", "reason": ""}
HERE = Facts(frozenset(modules()) - {"tensorrt"}, 0, 2, 8.0)
THERE = Facts(frozenset(modules()), 1, 2, 8.0)


@dataclass
class Played:
    """A command that ends at once, having left what the real one leaves."""

    ended: Ended
    end = None

    def poll(self) -> Ended | None:
        return self.ended

    def stop(self) -> None: ...

    def progress(self) -> None:
        return None


@dataclass
class Stage:
    """Plays commands, and remembers them.

    Attributes:
        folder: of the pipeline's file.
        seen: the commands' lines.
        fail: what of a node is broken: its id to an error.
        salt: is in everything that is left: another one is another result.
        evidence: what a check finds of a node's artifact, as its file holds it.
        profile: what a profile finds.
    """

    folder: Path
    seen: list[str] = field(default_factory=list)
    fail: dict[str, dict[str, str]] = field(default_factory=dict)
    salt: str = ""
    evidence: Callable[[Node], dict[str, Any]] | None = None
    profile: Callable[[Node], dict[str, Any]] | None = None

    def start(self, group: Sequence[Node], command: Command, log: Path, gpus: object) -> Played:
        self.seen.append(command.line())
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(command.line())
        payload: dict[str, object] = {}
        rows = []
        for node in group:
            if node.id in self.fail:
                error = {"error": self.fail[node.id], "backend": node.backend, "precision": node.form.split("-")[-1]}
                rows.append(error)
                payload |= error if node.kind not in ("export", "check") else {}
                continue
            rows.append(self.leave(node, command))
        if group[0].kind in ("export", "check"):
            payload["artifacts"] = rows
        code = {"gate": 4, "usage": 2, "unavailable": 3}.get(next(iter(self.fail.values()), {}).get("kind", ""), 0)
        return Played(Ended(code if any(node.id in self.fail for node in group) else 0, payload, 1.0, "here"))

    def leave(self, node: Node, command: Command) -> dict[str, object]:
        out = self.folder / "out"
        if node.kind in ("train", "prune"):
            place = out / node.id
            place.mkdir(parents=True, exist_ok=True)
            (place / "weights.safetensors").write_text(node.id + self.salt)
            (place / "run.json").write_text("{}")
        elif node.kind == "export":
            place = out / node.id.partition("/")[0] / node.variant / "model" / node.form
            self.artifact(place, node)
            return {"backend": node.backend, "precision": node.form.split("-")[1],
                    "artifact": str(place.relative_to(self.folder))}  # fmt: skip
        elif node.kind == "build":
            self.artifact(out / node.id, node)
        elif node.kind == "check":
            folder = next(one for one in command.arguments if one.endswith(node.form))
            found = self.evidence(node) if self.evidence is not None else {"of": node.id, "gates": [dict(PASSED)]}
            (self.folder / f"{folder}.check.json").write_text(json.dumps({**found, "salt": self.salt}))
            return {"backend": node.backend, "precision": node.form.split("-")[1],
                    "artifact": str(self.folder / folder), "gates": found["gates"]}  # fmt: skip
        elif node.kind == "profile":
            (out / node.id).mkdir(parents=True, exist_ok=True)
            found = self.profile(node) if self.profile is not None else {"devices": []}
            (out / node.id / "profile.json").write_text(json.dumps(found))
        elif node.kind == "package":
            (out / f"{node.id}.zoo").write_text(" ".join(command.arguments) + self.salt)
        return {}

    def artifact(self, place: Path, node: Node) -> None:
        place.mkdir(parents=True, exist_ok=True)
        (place / "model").write_text(node.form)
        files = {"model": {"sha256": hashlib.sha256(node.form.encode()).hexdigest(), "bytes": len(node.form)}}
        (place / "artifact.json").write_text(
            json.dumps(
                {"files": files, "of": node.id, "salt": self.salt, "weights_sha256": 16 * f"{len(node.variant):04x}"}
            )
        )


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


@pytest.fixture
def engine(tmp_path: Path, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Run]:
    """Makes a run of a file's text, on a machine."""

    monkeypatch.setattr("zoo.exporter.pipeline.scheduler.PAUSE", 0.0)

    def make(text: str = WHOLE, facts: Facts = HERE) -> Run:
        path = tmp_path / "pipeline.toml"
        path.write_text(text)
        made = prepare(read_pipeline(path), stage.start, facts)
        made.state.claim()
        return made

    return make
