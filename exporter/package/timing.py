"""How fast a package's model is on this machine: load, first inference, then the median with its interval."""

from __future__ import annotations

import math
import os
import platform
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from .container import Package
from .predictor import Predictor

WARM_SECONDS, LEAST, SECONDS = 0.3, 100, 3.0
SAMPLES_FOR = {50: 20, 90: 100, 95: 200, 99: 1000}  # runs below which a percentile is not said


@dataclass(frozen=True)
class Timed:
    """What was measured, in milliseconds but where it says otherwise.

    Attributes:
        artifact: its name.
        batch: images at once.
        load: opening the model, hashing included.
        first: the first inference.
        percentiles: those that so many runs allow, by their number.
        interval: of the median, with 95 % certainty.
        runs: how many.
        per_second: images.
        peak_mb: of the whole process; None where the system does not tell.
        conditions: machine, runtime, threads.
    """

    artifact: str
    batch: int
    load: float
    first: float
    percentiles: dict[str, float]
    interval: tuple[float, float]
    runs: int
    per_second: float
    peak_mb: float | None
    conditions: str


def profile(package: Package, artifact: str | None = None, batch: int = 1, threads: int | None = None) -> Timed:
    """Measure one artifact with made-up images, without preprocessing.

    Args:
        package: opened.
        artifact: its name, or the first that runs here.
        batch: images at once.
        threads: of the runtime; None for what it chooses.

    Raises:
        UsageError, UnavailableError, IntegrityError: as `Predictor`.
    """
    begun = time.perf_counter()
    predictor = Predictor(package, artifact, threads)
    load = time.perf_counter() - begun
    images = np.random.default_rng(0).normal(size=(batch, *predictor.spec.input)).astype(np.float32)
    begun = time.perf_counter()
    predictor.logits(images)
    first = time.perf_counter() - begun
    begun = time.perf_counter()
    while time.perf_counter() - begun < WARM_SECONDS:
        predictor.run(images)
    times: list[float] = []
    begun = time.perf_counter()
    while len(times) < LEAST or time.perf_counter() - begun < SECONDS:
        one = time.perf_counter()
        predictor.run(images)
        times.append(1e3 * (time.perf_counter() - one))
    ordered = np.sort(times)
    percentiles = {f"p{one}": float(np.percentile(ordered, one)) for one, least in SAMPLES_FOR.items()
                   if len(ordered) >= least}  # fmt: skip
    return Timed(
        predictor.artifact["name"], batch, 1e3 * load, 1e3 * first, percentiles, interval_of_median(ordered.tolist()),
        len(ordered), batch * len(times) / (sum(times) / 1e3), peak_mb(), conditions(predictor.artifact, threads),
    )  # fmt: skip


def interval_of_median(ordered: list[float]) -> tuple[float, float]:
    """The order statistics around the median that hold it with 95 % certainty, by the binomial's normal form.

    Source: Conover 1999, Practical Nonparametric Statistics, section 3.2. Runs that follow each other are not
    independent, so it is somewhat too narrow.
    """
    count = len(ordered)
    half = 1.96 * math.sqrt(count) / 2
    low = max(0, math.floor(count / 2 - half) - 1)
    high = min(count - 1, math.ceil(count / 2 + half))
    return ordered[low], ordered[high]


def peak_mb() -> float | None:
    """The largest resident size of this process so far; None where the system does not tell."""
    try:
        import resource
    except ImportError:
        return None
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / (1 << 20) if platform.system() == "Darwin" else used / 1024


def conditions(artifact: dict[str, Any], threads: int | None) -> str:
    """The machine and the runtime, in words."""
    from importlib.metadata import PackageNotFoundError, version

    package = {"onnx": "onnxruntime", "torchscript": "torch"}[artifact["backend"]]
    names = (package, f"{package}-gpu", f"{package}-openvino")
    runtime = package
    for name in names:
        try:
            runtime = f"{name} {version(name)}"
            break
        except PackageNotFoundError:
            continue
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    given = f"{threads} threads" if threads else "the runtime's own threads"
    return f"{platform.system()} {platform.machine()}, {cores} cores, {given}, {runtime}"
