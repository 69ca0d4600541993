"""How often the gate latency is wrong: an artifact against itself, and against a copy slowed by 8 %.

    .venv/bin/python benchmarks/latency_gate.py [--itself 100] [--slowed 20] [--rounds 12] [ARTIFACT]

Without an artifact, resnet18 with random weights is exported to ONNX at 3x64x64. An honest method of 95 % certainty
says faster or slower of the same thing in about one check of twenty. The copy waits busily for 8 % of each run.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

from zoo.exporter.checks.latency import Compared, judge_latency, verdict_word
from zoo.exporter.timing.engine import CONTROL, measure
from zoo.exporter.timing.machine import Watch
from zoo.exporter.timing.openers import artifact_subject
from zoo.exporter.timing.setup import GATE, Subject, default_threads

SLOWED = Path(__file__).parents[1] / "tests" / "exporter" / "timing"


def exported(folder: Path) -> Path:
    """A small artifact."""
    from zoo.exporter.export import export
    from zoo.models.sources import SourceOptions, resolve

    model = resolve("resnet18", SourceOptions(weights="random", input=(3, 64, 64)))
    return export(model, ["onnx"], out=folder)[0].folder


def checks(title: str, artifact: Subject, reference: Subject, count: int, rounds: int) -> Counter[str]:
    """Check so many times, with a seed each, and print every one."""
    words: Counter[str] = Counter()
    verdicts: Counter[str] = Counter()
    seconds: list[float] = []
    for seed in range(count):
        begun = time.perf_counter()
        found = measure((artifact, reference), replace(GATE, rounds=rounds, seed=seed))
        seconds.append(time.perf_counter() - begun)
        gate = judge_latency(Compared(found["artifact"], found["reference"], found[CONTROL], "itself"))
        word = verdict_word(gate.numbers)
        words[word] += 1
        verdicts[gate.verdict] += 1
        numbers = gate.numbers
        print(
            f"{title} {seed}: {word}, {gate.verdict}; {numbers['ratio']:.4f} ({numbers['ratio_low']:.4f} to "
            f"{numbers['ratio_high']:.4f}), control {numbers['control_low']:.4f} to {numbers['control_high']:.4f}",
            flush=True,
        )
    if seconds:
        took = f"{statistics.median(seconds):.1f} s each ({min(seconds):.1f} to {max(seconds):.1f})"
        print(f"{title}: {count} checks, {took}, {dict(words)}, verdicts {dict(verdicts)}", flush=True)
    return words


def main() -> None:
    """Print each check and the counts."""
    parser = argparse.ArgumentParser()
    parser.add_argument("artifact", nargs="?", type=Path)
    parser.add_argument("--itself", type=int, default=100)
    parser.add_argument("--slowed", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=12)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = asked.artifact or exported(Path(place))
        watch = Watch()
        os.environ["PYTHONPATH"] = str(SLOWED)  # where a worker finds what slows
        reference = artifact_subject("reference", folder)
        given = {"folder": str(folder), "factor": 1.08}
        slowed = Subject(name="artifact", opener="slowed:open_slowed", given=given)
        checks("slowed by 8 %", slowed, reference, asked.slowed, asked.rounds)
        checks("against itself", artifact_subject("artifact", folder), reference, asked.itself, asked.rounds)
        print(watch.seen(default_threads()))


if __name__ == "__main__":
    import warnings

    warnings.simplefilter("ignore")
    main()
