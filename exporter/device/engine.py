"""How fast an engine is on this machine: `python -m zoo.exporter.device.engine TASK`, in a process of its own.

`zoo profile` runs it here, and on a device that has zoo and TensorRT. TASK is a JSON object of folder, batches and
samples; one JSON object is printed, in the form of a package's profile (../runtime/profile.py), so that rows of a
device's ONNX Runtime and of another's TensorRT stand in one table: from images in the host's memory to logits there.
`gpu_ms` beside it is the median of the GPU alone, without transfers, as `zoo check --latency` times it.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import numpy as np

from ...errors import ZooError
from ...models.preprocess import Images
from ..artifact.folder import load_artifact
from ..backends.registry import get_backend
from ..backends.runner import Logits, Runner
from ..runtime.profile import Profile, count_right, measure_all
from ..timing.machine import machine_name, peak_mb
from ..timing.setup import PROFILE


class Engine:
    """An opened runner, as `measure_all` takes it.

    Args:
        runner: opened.
    """

    def __init__(self, runner: Runner) -> None:
        self.spec, self.pixels = runner.spec, runner.pixels
        self.logits = runner.run
        self._runner = runner
        self._prepared = 0

    def run(self, images: Images) -> Logits:
        """One run with its transfers; the first of a size captures what the others replay."""
        if len(images) != self._prepared:
            self._runner.prepare(images)
            self._prepared = len(images)
        self._runner.upload(images)
        self._runner.step()
        return self._runner.fetch()

    def alone(self, batch: int) -> float:
        """Milliseconds of the GPU alone, the median."""
        images = np.random.default_rng(0).integers(0, 256, (batch, *self.spec.input), np.uint8)
        self._runner.prepare(images)
        self._prepared = batch
        self._runner.time_steps(PROFILE.least // 5)
        return statistics.median(self._runner.time_steps(PROFILE.least))


def measure(folder: Path, batches: Sequence[int], samples: Path | None = None) -> dict[str, Any]:
    """Measure a built artifact of a backend that builds.

    Args:
        folder: the artifact.
        batches: images at once, each in turn.
        samples: a folder with pixels.npy and labels.npy, to count right answers of.

    Raises:
        UnavailableError: the backend is not here, the artifact is not built, or does not fit this machine.
        UsageError: a batch that it does not take.
        IntegrityError: a file was changed.
    """
    begun = time.perf_counter()
    artifact = load_artifact(folder)
    manifest = artifact.manifest
    with get_backend(manifest.backend).load(artifact, "auto") as runner:
        load = 1e3 * (time.perf_counter() - begun)
        engine = Engine(runner)
        rows, energy_of, telemetry = measure_all(engine, batches)
        alone = [engine.alone(batch) for batch in batches]
        accuracy = None if samples is None else count_right(engine, samples)
        receipt, notes = runner.receipt(), list(runner.notes)
    layers = ", ".join(f"{name} x{count}" for name, count in receipt.layers.items())
    found = Profile(
        manifest.form, load, rows, (), peak_mb(),
        f"{receipt.provider}, {machine_name(None)}", f"{receipt.runtime}, {layers}", telemetry, energy_of, accuracy,
    )  # fmt: skip
    told = asdict(found)
    told["rows"] = [{**row, "gpu_ms": gpu} for row, gpu in zip(told["rows"], alone, strict=True)]
    return {**told, "notes": notes}


def main(task: dict[str, Any]) -> int:
    """Measure, and print what was found or the error; the exit code."""
    out = _own_stdout()
    try:
        samples = None if task["samples"] is None else Path(task["samples"])
        answer = {"ok": True, "exit_code": 0, **measure(Path(task["folder"]), task["batches"], samples)}
    except ZooError as error:
        answer = {"ok": False, "exit_code": error.exit_code, "error": error.as_mapping()}
    out.write(json.dumps(answer) + "\n")
    out.close()
    return answer["exit_code"]


def _own_stdout() -> IO[str]:
    """Keep stdout for the answer: what TensorRT prints goes to stderr."""
    kept = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return kept


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
