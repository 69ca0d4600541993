"""The keys of a run, each taken once: what lies outside of the pipeline is looked at once, and is the same for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .again import parts_of
from .cache_keys import BUILDS, code_of, digest_of, facts_of, fingerprint, outside
from .config import Settings
from .expand import Node, models_of
from .imports import factory_of


@dataclass
class Known:
    """What is known of the nodes' keys.

    Attributes:
        settings: of the pipeline.
        folder: of its file.
        nodes: all, by id.
        keys: of the nodes whose needs are decided.
        parts: of these keys, to say what of them changed.
        seen: fingerprints of what lies outside.
        code: hashes of the modules of sources that are a user's own.
    """

    settings: Settings
    folder: Path
    nodes: Mapping[str, Node]
    keys: dict[str, str] = field(default_factory=dict)
    parts: dict[str, dict[str, str]] = field(default_factory=dict)
    seen: dict[str, str] = field(default_factory=dict)
    code: dict[str, dict[str, str]] = field(default_factory=dict)

    def key(self, node: Node, parents: Sequence[str], where: str) -> str:
        """The key of a node, whose needs left these digests; `where` is as in keys.facts_of."""
        if node.id not in self.keys:
            models = models_of(node, self.nodes)
            facts = facts_of(node, self.settings, parents, self.folder, self.seen, where, models)
            code = {name: one for source in models for name, one in self._code(source).items()}
            named = outside(node.options, self.settings)
            self.keys[node.id] = digest_of(facts)
            self.parts[node.id] = parts_of(facts, node.needs, named, code if node.kind in BUILDS else {})
        return self.keys[node.id]

    def fingerprint(self, name: str) -> str:
        """Of a file or folder outside of the pipeline, taken once a run: one of data may hold a million files."""
        if name not in self.seen:
            self.seen[name] = fingerprint(self.folder, name)
        return self.seen[name]

    def forget(self, node: str) -> None:
        """The needs of a node are decided anew."""
        self.keys.pop(node, None)

    def _code(self, source: str) -> dict[str, str]:
        if source not in self.code:
            self.code[source] = code_of(self.folder, factory_of(self.folder, source))
        return self.code[source]
