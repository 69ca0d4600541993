"""How fast a package's model is on this machine: load, first inference, then the median with its interval."""

from __future__ import annotations

import json
import math
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ...errors import UsageError, one_line
from ...models.preprocess import Images, as_input
from ...models.processors import cpus, limited_cpus
from ...models.spec import ModelSpec
from .container import Package
from .predictor import INPUT, Predictor
from .telemetry import Telemetry, Watching

WARM_SECONDS, LEAST, SECONDS = 0.5, 100, 3.0
FEWEST, LONGEST = 20, 60.0  # runs of a batch so large that LEAST of them take longer than so many seconds
SAMPLES_FOR = {50: 20, 90: 100, 95: 200, 99: 1000}  # runs below which a percentile is not said
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
class Operator:
    """A node of the graph that the runtime made.

    Attributes:
        name: of the node.
        kind: its operator.
        microseconds: a run, in the median.
    """

    name: str
    kind: str
    microseconds: float


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


def operators(package: Package, predictor: Predictor) -> tuple[Operator, ...]:
    """The time of each node, from ONNX Runtime's own profile; nothing of another runtime."""
    if predictor.artifact["backend"] != "onnx":
        return ()
    import onnxruntime

    pixels = np.zeros((1, *predictor.spec.input), np.uint8)
    images = as_input(pixels, predictor.spec.preprocess, predictor.pixels)
    durations: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        options.intra_op_num_threads = predictor.threads or limited_cpus() or 0  # 0: as many as ONNX Runtime counts
        session = onnxruntime.InferenceSession(
            package.read(predictor.artifact["model"]), options, providers=["CPUExecutionProvider"]
        )
        for _ in range(OPERATOR_RUNS):
            session.run(None, {INPUT: images})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    for event in events:
        if event.get("cat") == "Node" and str(event["name"]).endswith("_kernel_time"):
            key = str(event["name"]).removesuffix("_kernel_time"), str(event["args"].get("op_name", ""))
            durations.setdefault(key, []).append(float(event["dur"]))
    found = (Operator(name, kind, statistics.fmean(sorted(values)[len(values) // 4 : -len(values) // 4 or None]))
             for (name, kind), values in durations.items())  # fmt: skip
    return tuple(sorted(found, key=lambda one: -one.microseconds))


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
    try:  # Linux counts what was there before exec in ru_maxrss: the process that started this one
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration, ValueError, IndexError):
        pass
    try:
        import resource
    except ImportError:
        return None
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / (1 << 20) if platform.system() == "Darwin" else used / 1024


def machine_name(threads: int | None) -> str:
    """The machine, in words."""
    model = ""
    for path in ("/proc/device-tree/model", "/proc/cpuinfo"):
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, ValueError):
            continue
        lines = [line.partition(":")[2] for line in text.splitlines() if line.lower().startswith("model name")]
        model = (lines or [text.splitlines()[0] if "device-tree" in path else ""])[0].strip("\0 \t")
        if model:
            break
    given = f"{threads} threads" if threads else "the runtime's own threads"
    return f"{model or platform.processor()}, {platform.system()} {platform.machine()}, {cpus()} cores, {given}"


def runtime(artifact: Mapping[str, Any]) -> str:
    """What runs it, with its version."""
    from importlib.metadata import PackageNotFoundError, version

    package = {"onnx": "onnxruntime", "torchscript": "torch"}[artifact["backend"]]
    for name in (package, f"{package}-gpu", f"{package}-openvino"):
        try:
            return f"{name} {version(name)}"
        except PackageNotFoundError:
            continue
    return package
