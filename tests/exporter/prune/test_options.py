"""What contradicts itself is refused before anything runs."""

from __future__ import annotations

import pytest
from zoo.errors import UsageError
from zoo.exporter.cli.prune import asked_for, parse_stages
from zoo.exporter.prune.options import PruneOptions


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({}, "nothing says what is to go"),
        ({"macs": 0.5, "latency": 0.5}, "--macs and --latency"),
        ({"latency": 0.5, "timed": False}, "leave --no-timed out"),
        ({"latency": 0.5, "round_to": 4}, "--round-to a multiple of 8"),
        ({"latency": 1.5}, "above 0 and below 1"),
        ({"macs": 0.5, "timed": False, "timed_at": (3, 32, 32)}, "--timed-at and --no-timed"),
        ({"macs": 0.5, "sparsity": 0.5}, "--sparsity is of --pattern unstructured"),
        ({"pattern": "unstructured"}, "needs --sparsity"),
        ({"pattern": "unstructured", "sparsity": 1.0}, "above 0 and below 1"),
        ({"pattern": "4:8"}, 'no pattern "4:8"'),
        ({"macs": 0.5, "max_drop": 0.0}, "--max-drop is in points"),
        ({"stages": {"layer1": 0.5}, "spread": "sensitivity"}, "needs --macs or --latency"),
        ({"stages": {"layer1": 0.0}}, "would keep 0 of its channels"),
        ({"macs": 0.5, "criterion": "magnitud"}, 'did you mean "magnitude"'),
    ],
)
def test_contradictions_are_refused(asked, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        PruneOptions(**asked)


def test_what_is_asked_for_is_said() -> None:
    assert asked_for(PruneOptions(0.5)) == "0.5 of the MACs by magnitude, global, multiples of 8"
    assert "0.6 of the latency on torchscript" in asked_for(PruneOptions(latency=0.6, target="torchscript"))
    assert asked_for(PruneOptions(pattern="2:4")) == "2:4 zeros"
    assert asked_for(PruneOptions(stages={"layer1": 0.5}, pattern="2:4")).endswith("multiples of 8, 2:4 zeros")


def test_stages_are_shares() -> None:
    assert parse_stages(["layer1=0.75", "layer2 = 1"]) == {"layer1": 0.75, "layer2": 1.0}
    for wrong, words in (("layer1", "expected key=value"), ("layer1=half", "is no number"), ("a=true", "is no number")):
        with pytest.raises(UsageError, match=words):
            parse_stages([wrong])
