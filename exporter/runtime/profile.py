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
from ..backends.infos import backend_info
from ..backends.onnx.operators import Kernel, parse_profile, profiled, warm_of, whole_runs
from ..backends.operators import Operator
from ..timing.loop import LEAD_IN_RUNS, Calls, runs_of, warm_up
from ..timing.machine import machine_name, peak_mb, runtime
from ..timing.setup import PROFILE, default_threads
from ..timing.statistics import NEEDED, interval_of_median, percentile
from ..timing.telemetry import Telemetry, Watching
from .container import Package
from .predictor import INPUT, Predictor

OPERATOR_RUNS = 50


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
        threads: of the CPU that the runtime was given; None for an engine on a GPU.
        operators_ms: all operators together, in the profile.
        profiled_ms: a run while it is profiled: with the operators' own time and the latency beside it, the cost of
            the profiler shows.
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
    threads: int | None = None
    operators_ms: float | None = None
    profiled_ms: float | None = None


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
        threads: of the runtime; None for `default_threads()`.
        per_layer: the time of each operator too, in a session of its own, since that slows it.
        samples: a folder with pixels.npy (uint8 N x C x H x W) and labels.npy, to count right answers of.
        allow_code: whether an artifact that is a program (TorchScript) may be opened.
        tell: is told what is measured now.

    Raises:
        UsageError, UnavailableError, IntegrityError: as `Predictor`.
    """
    begun = time.perf_counter()
    threads = threads or default_threads()
    predictor = Predictor(package, artifact, threads, allow_code=allow_code)
    load = 1e3 * (time.perf_counter() - begun)
    tell = tell or (lambda _what: None)
    rows, energy_of, telemetry = measure_all(predictor, batches, tell)
    tell("right answers and operators")
    accuracy = None if samples is None else count_right(predictor, samples)
    found, sums = operators(package, predictor) if per_layer else ((), {})
    return Profile(
        predictor.artifact["name"], load, rows, found, peak_mb(), machine_name(threads),
        runtime(predictor.artifact), telemetry, energy_of, accuracy, threads, **sums,
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
    first = Calls(lambda: predictor.logits(images)).time_steps(1)[0]
    calls = Calls(lambda: predictor.run(images))
    warm_up(calls, PROFILE)
    runs = runs_of(min(calls.time_steps(LEAD_IN_RUNS)), PROFILE)
    with Watching() as watching:
        busy = time.process_time()
        times = calls.time_steps(runs)
        busy = time.process_time() - busy
    found = {f"p{one}": percentile(times, one) for one in NEEDED}
    energy = watching.found.energy
    count = runs * len(images)
    row = Row(
        len(images), first, {name: value for name, value in found.items() if value is not None},
        interval_of_median(sorted(times)), runs, count / (sum(times) / 1e3), 1e3 * busy / runs,
        None if energy is None else energy[0] / count,
    )  # fmt: skip
    return row, "" if energy is None else energy[1]


def operators(package: Package, predictor: Predictor) -> tuple[tuple[Operator, ...], dict[str, float]]:
    """Return the time of each operator, and what the profiler itself costs; nothing of a runtime that does not tell.

    The profile is of a session of its own. What it costs is the time of a profiled run, beside that of the operators in
    it: `zoo profile` shows both with the latency that was measured without it.
    """
    if not backend_info(predictor.artifact["backend"]).layer_times:
        return (), {}
    import onnxruntime

    pixels = np.zeros((1, *predictor.spec.input), np.uint8)
    images = as_input(pixels, predictor.spec.preprocess, predictor.pixels)
    content, warm = package.read(predictor.artifact["model"]), warm_of(OPERATOR_RUNS)

    def make(options: Any) -> Any:
        options.intra_op_num_threads = predictor.threads or default_threads()
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    events = profiled(make, lambda session: session.run(None, {INPUT: images}), warm + OPERATOR_RUNS)
    found = [Operator(one.name, one.kind, one.usual(warm)) for one in parse_profile(events).values()]
    whole = Kernel("", "", "", whole_runs(events))
    sums = {"operators_ms": sum(one.microseconds for one in found) / 1e3, "profiled_ms": whole.usual(warm) / 1e3}
    return tuple(sorted(found, key=lambda one: -one.microseconds)), sums


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
