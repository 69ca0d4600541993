"""How often the gate latency is wrong: an artifact against itself, and against a copy slowed by 8 %.

    .venv/bin/python benchmarks/latency_gate.py [--aa 40] [--slowed 20] [--rounds 12] [ARTIFACT]

Without an artifact, resnet18 with random weights is exported to ONNX at 3x64x64. An honest method of 95 % certainty
says faster or slower of the same thing in about one check of twenty. The copy waits busily for 8 % of each run.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

from zoo.exporter.checks.latency import judge_latency, verdict_word
from zoo.exporter.timing.engine import LatencyOptions, Task, compare
from zoo.exporter.timing.machine import Watch, cores_here

SLOWED = Path(__file__).parents[1] / "tests" / "exporter" / "checks" / "slowed_worker.py"


def exported(folder: Path) -> Path:
    """A small artifact."""
    from zoo.exporter.export import export
    from zoo.models.sources import SourceOptions, resolve

    model = resolve("resnet18", SourceOptions(weights="random", input=(3, 64, 64)))
    return export(model, ["onnx"], out=folder)[0].folder


def checks(title: str, artifact: Task, reference: Task, count: int, rounds: int) -> Counter[str]:
    """Check so many times, with a seed each, and print every one."""
    words: Counter[str] = Counter()
    verdicts: Counter[str] = Counter()
    for seed in range(count):
        options = LatencyOptions(rounds=rounds, seed=seed)
        gate = judge_latency(compare(artifact, reference, options, "cpu", lambda *_: None))
        word = verdict_word(gate.numbers)
        words[word] += 1
        verdicts[gate.verdict] += 1
        numbers = gate.numbers
        print(
            f"{title} {seed}: {word}, {gate.verdict}; {numbers['ratio']:.4f} ({numbers['ratio_low']:.4f} to "
            f"{numbers['ratio_high']:.4f}), control {numbers['control_low']:.4f} to {numbers['control_high']:.4f}",
            flush=True,
        )
    print(f"{title}: {count} checks, {dict(words)}, verdicts {dict(verdicts)}", flush=True)
    return words


def main() -> None:
    """Print each check and the counts."""
    parser = argparse.ArgumentParser()
    parser.add_argument("artifact", nargs="?", type=Path)
    parser.add_argument("--aa", type=int, default=40)
    parser.add_argument("--slowed", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=12)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = asked.artifact or exported(Path(place))
        watch = Watch()
        task = Task("itself", str(folder))
        slow = Task("slowed", str(folder), command=(sys.executable, "-P", str(SLOWED), "1.08"))
        checks("slowed by 8 %", slow, task, asked.slowed, asked.rounds)
        checks("against itself", task, task, asked.aa, asked.rounds)
        print(watch.seen(len(cores_here())))


if __name__ == "__main__":
    import warnings

    warnings.simplefilter("ignore")
    main()
