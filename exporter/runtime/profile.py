"""How fast a package's model is on this machine: load, first inference, then the median with its interval."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ...errors import UsageError, one_line
from ...models.preprocess import Images, as_input
from ...models.spec import ModelSpec
from ..timing.machine import machine_name, peak_mb, runtime
from ..timing.operators import Operator, operators
from ..timing.statistics import interval_of_median
from ..timing.telemetry import Telemetry, Watching
from .container import Package
from .predictor import Predictor

WARM_SECONDS, LEAST, SECONDS = 0.5, 100, 3.0
FEWEST, LONGEST = 20, 60.0  # runs of a batch so large that LEAST of them take longer than so many seconds
SAMPLES_FOR = {50: 20, 90: 100, 95: 200, 99: 1000}  # runs below which a percentile is not said


class Runs(Protocol):
    """What is measured: a predictor, or an engine that zoo itself opened.

    Attributes:
        spec: its input.
        pixels: whether it reads uint8 N x H x W x C.
        run: images in the host's memory to logits there; what is timed.
    """

    spec: ModelSpec
    pixels: bool
    run: Any

    def logits(self, batch: Images) -> Any:
        """The same, checked."""
        ...


@dataclass(frozen=True)
class Row:
    """One size of batch.

    Attributes:
        batch: images at once.
        first: milliseconds of the first inference of this size.
        percentiles: milliseconds of those that so many runs allow, by their name.
        interval: of the median, with 95 % certainty.
        runs: how many.
        per_second: images.
        cpu: milliseconds of all cores together, a run.
        joules: an image; None where the device does not tell.
    """

    batch: int
    first: float
    percentiles: dict[str, float]
    interval: tuple[float, float]
    runs: int
    per_second: float
    cpu: float
    joules: float | None


@dataclass(frozen=True)
class Profile:
    """What was measured of one artifact.

    Attributes:
        artifact: its name.
        load: milliseconds of opening the model, hashing included.
        rows: one a size of batch.
        operators: the slowest first; empty where nobody asked, or the runtime does not tell.
        peak_mb: of the whole process; None where the system does not tell.
        machine: what it ran on, in words.
        runtime: what ran it.
        telemetry: what the device told meanwhile.
        energy_of: the sensor that the joules are of; "" for none.
        accuracy: right answers, and images, of the samples that were given.
    """

    artifact: str
    load: float
    rows: tuple[Row, ...]
    operators: tuple[Operator, ...]
    peak_mb: float | None
    machine: str
    runtime: str
    telemetry: Telemetry
    energy_of: str = ""
    accuracy: tuple[int, int] | None = None


def profile(
    package: Package,
    artifact: str | None = None,
    batches: Sequence[int] = (1,),
    threads: int | None = None,
    *,
    per_layer: bool = False,
    samples: Path | None = None,
    allow_code: bool = False,
    tell: Callable[[str], None] | None = None,
) -> Profile:
    """Measure one artifact with made-up images, without preprocessing.

    Args:
        package: opened.
        artifact: its name, or the first that runs here.
        batches: images at once, each in turn.
        threads: of the runtime; None for what it chooses.
        per_layer: the time of each operator too, in a session of its own, since that slows it.
        samples: a folder with pixels.npy (uint8 N x C x H x W) and labels.npy, to count right answers of.
        allow_code: whether an artifact that is a program (TorchScript) may be opened.
        tell: is told what is measured now.

    Raises:
        UsageError, UnavailableError, IntegrityError: as `Predictor`.
    """
    begun = time.perf_counter()
    predictor = Predictor(package, artifact, threads, allow_code=allow_code)
    load = 1e3 * (time.perf_counter() - begun)
    tell = tell or (lambda _what: None)
    rows, energy_of, telemetry = measure_all(predictor, batches, tell)
    tell("right answers and operators")
    accuracy = None if samples is None else count_right(predictor, samples)
    found = operators(package, predictor) if per_layer else ()
    return Profile(
        predictor.artifact["name"], load, rows, found, peak_mb(), machine_name(threads),
        runtime(predictor.artifact), telemetry, energy_of, accuracy,
    )  # fmt: skip


def measure_all(
    predictor: Runs, batches: Sequence[int], tell: Callable[[str], None] = lambda _what: None
) -> tuple[tuple[Row, ...], str, Telemetry]:
    """Each size of batch in turn, which sensor the energy is of, and what the device told meanwhile."""
    random = np.random.default_rng(0)
    rows: list[Row] = []
    energy_of = ""
    with Watching() as whole:
        for index, batch in enumerate(batches, 1):
            tell(f"batch {batch}, {index} of {len(batches)}")
            pixels = random.integers(0, 256, (batch, *predictor.spec.input), np.uint8)
            images = as_input(pixels, predictor.spec.preprocess, predictor.pixels)
            row, energy_of = measure(predictor, images)
            rows.append(row)
    return tuple(rows), energy_of, whole.found


def measure(predictor: Runs, images: Images) -> tuple[Row, str]:
    """One size of batch, and which sensor its energy is of."""
    begun = time.perf_counter()
    predictor.logits(images)
    first = 1e3 * (time.perf_counter() - begun)
    begun = time.perf_counter()
    while time.perf_counter() - begun < WARM_SECONDS:
        predictor.run(images)
    times: list[float] = []
    with Watching() as watching:
        begun, busy = time.perf_counter(), time.process_time()
        while more(len(times), time.perf_counter() - begun):
            one = time.perf_counter()
            predictor.run(images)
            times.append(1e3 * (time.perf_counter() - one))
        busy = time.process_time() - busy
    ordered = np.sort(times)
    percentiles = {f"p{one}": float(np.percentile(ordered, one)) for one, least in SAMPLES_FOR.items()
                   if len(ordered) >= least}  # fmt: skip
    energy = watching.found.energy
    count = len(times) * len(images)
    row = Row(
        len(images), first, percentiles, interval_of_median(ordered.tolist()), len(ordered),
        count / (sum(times) / 1e3), 1e3 * busy / len(times), None if energy is None else energy[0] / count,
    )  # fmt: skip
    return row, "" if energy is None else energy[1]


def more(runs: int, seconds: float) -> bool:
    """Whether so many runs in so many seconds are too few."""
    return runs < FEWEST or seconds < SECONDS or (runs < LEAST and seconds < LONGEST)


def count_right(predictor: Runs, samples: Path) -> tuple[int, int]:
    """Right answers, and images, on this machine's runtime.

    Raises:
        UsageError: the samples are not there, or not the model's.
    """
    try:
        pixels = np.load(samples / "pixels.npy", allow_pickle=False, mmap_mode="r")
        labels = np.load(samples / "labels.npy", allow_pickle=False)
    except (OSError, ValueError) as error:
        why = f"{samples}: no pixels.npy and labels.npy ({one_line(error)})"
        raise UsageError(why, fix="zoo profile --data makes them") from error
    if pixels.shape[1:] != predictor.spec.input or pixels.dtype != np.uint8 or len(labels) != len(pixels):
        raise UsageError(f"{samples}: {pixels.dtype} {pixels.shape} are no images for {predictor.spec.name}")
    right = sum(
        int(predictor.logits(np.asarray(pixels[index : index + 1])).argmax()) == int(labels[index])
        for index in range(len(pixels))
    )
    return right, len(labels)
