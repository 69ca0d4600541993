"""The gate latency of several artifacts: which reference each is held to, measured one artifact after the other."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ...errors import UsageError, ZooError
from ..artifact.folder import read_manifest
from ..artifact.manifest import Manifest
from ..timing.engine import CONTROL, Look, measure, opened
from ..timing.machine import Watch
from ..timing.openers import artifact_subject, reference_subject
from ..timing.setup import GATE, Subject, TimingSetup, default_threads
from .budget import Budget
from .gate import Gate
from .latency import Compared, judge_latency
from .reference import Progress

EAGER = "eager"  # what --against calls the source itself
ARTIFACT, REFERENCE = "artifact", "reference"  # names of the two sides while they are measured
THROUGHPUT_MS, THROUGHPUT_PROCESSES = 500.0, 3


@dataclass(frozen=True)
class LatencyOptions:
    """How latency is measured.

    Attributes:
        rounds: processes a side.
        images: in a batch.
        threads: of the CPU; None for `timing.setup.default_threads()`.
        batch_sizes: for which the throughput is measured too.
        against: folder of the artifact that others must not be slower than, or "eager"; None for what suits each
            (`fp32_of`).
        seed: of the order.
    """

    rounds: int = GATE.rounds
    images: int = 1
    threads: int | None = None
    batch_sizes: tuple[int, ...] = ()
    against: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value in (("rounds", self.rounds), ("images", self.images), ("threads", self.threads or 1)):
            if value < 1:
                raise UsageError(f"{name} must be at least 1, got {value}")
        if any(size < 1 for size in self.batch_sizes):
            raise UsageError(f"batch sizes must be at least 1, got {', '.join(map(str, self.batch_sizes))}")

    def setup(self, device: str) -> TimingSetup:
        """The gate's setup with what was asked for."""
        return replace(GATE, device=device, rounds=self.rounds, threads=self.threads, seed=self.seed)


@dataclass(frozen=True)
class Timed:
    """A row of a check: its artifact's folder, its manifest (none, where it could not be opened), its copy."""

    folder: str
    manifest: Manifest | None
    copy: str = ""


@dataclass(frozen=True)
class Candidate:
    """An artifact to time: its folder as people know it, and where it is read."""

    folder: str
    manifest: Manifest
    place: str

    @property
    def name(self) -> str:
        """As people call it: onnx-int8."""
        return f"{self.manifest.backend}-{self.manifest.precision}"

    @property
    def smallest(self) -> int:
        """The smallest batch it takes."""
        return self.manifest.batch.min if self.manifest.batch else 1


def check_latency(
    rows: Sequence[Timed],
    options: LatencyOptions,
    device: str,
    budget: Budget,
    progress: Progress,
) -> dict[str, Gate]:
    """A gate by the folder of each row that could be opened.

    Args:
        rows: of the check.
        options: how it is measured, and against what.
        device: cpu or cuda.
        budget: its margins and plain limits.
        progress: is told (what, rounds done, rounds in all).

    Raises:
        UsageError: what the options name as reference is no artifact of the same input.
    """
    several = [Candidate(row.folder, row.manifest, row.copy or row.folder) for row in rows if row.manifest is not None]
    other = _asked(options, several)
    found: dict[str, Gate] = {}
    for mine in several:
        reference = other or fp32_of(mine, several)
        held_to = reference if isinstance(reference, Candidate) else None
        images = max(options.images, mine.smallest, held_to.smallest if held_to else 1)
        limits = budget.limits(mine.manifest.backend, mine.manifest.precision).latency
        watch = Watch(device)

        def look(now: Look, name: str = mine.name, watch: Watch = watch) -> None:
            if not now.subject:
                watch.look()
                progress(f"latency of {name}", now.done, now.total)

        try:
            compared = compare(mine, held_to, replace(options, images=images), device, look)
        except ZooError as error:
            reason = f"it could not be measured: {str(error).replace(mine.place, mine.folder)}"
            found[mine.folder] = Gate("latency", "inconclusive", reason)
            continue
        gate = judge_latency(compared, limits)
        machine = asdict(watch.seen(options.threads or default_threads()))
        found[mine.folder] = replace(gate, numbers={**gate.numbers, "batch": images, "machine": machine})
    return found


def compare(
    mine: Candidate,
    reference: Candidate | None,
    options: LatencyOptions,
    device: str,
    look: Callable[[Look], None] = lambda _look: None,
) -> Compared:
    """Measure an artifact, its reference and the reference again, in so many rounds.

    Args:
        mine: what is judged.
        reference: what it is compared with; None for the eager reference.
        options: how.
        device: cpu or cuda.
        look: is told what is known.

    Raises:
        UnavailableError: a process ended or hung; its last words are in the message.
    """
    own = artifact_subject(ARTIFACT, mine.place, options.images)
    if reference is None:
        against, other = "the eager reference", reference_subject(mine.place, options.images, REFERENCE)
    else:
        against, other = reference.name, artifact_subject(REFERENCE, reference.place, options.images)
    found = measure((own, other), options.setup(device), look)
    largest = mine.manifest.batch.max if mine.manifest.batch else None
    sizes = [size for size in options.batch_sizes if largest is None or size <= largest]
    notes = [f"a batch of {size} is more than it takes" for size in options.batch_sizes if size not in sizes]
    rates = tuple(throughput(replace(own, batch=size), options.setup(device)) for size in sizes)
    return Compared(found[ARTIFACT], found[REFERENCE], found[CONTROL], against, rates, tuple(notes))


def throughput(subject: Subject, setup: TimingSetup) -> dict[str, Any]:
    """Images a second at a subject's batch size: the median of three processes, with the least and the most."""
    rates: list[float] = []
    for _ in range(THROUGHPUT_PROCESSES):
        with opened(subject, setup) as worker:
            rates.append(1e3 * subject.batch / statistics.median(worker.block(block_ms=THROUGHPUT_MS)))
    return {
        "batch": subject.batch,
        "images_per_s": statistics.median(rates),
        "images_per_s_low": min(rates),
        "images_per_s_high": max(rates),
    }


def fp32_of(mine: Candidate, others: Sequence[Candidate]) -> Candidate | None:
    """What a smaller precision must not be slower than: the fp32 export of the same backend and weights beside it.

    None for the eager reference: for an fp32 export, or where that export is not among those checked.
    """
    return next(
        (
            other
            for other in others
            if mine.manifest.precision != "fp32"
            and other.manifest.precision == "fp32"
            and other.manifest.backend == mine.manifest.backend
            and other.manifest.weights_sha256 == mine.manifest.weights_sha256
        ),
        None,
    )


def _asked(options: LatencyOptions, several: Sequence[Candidate]) -> Candidate | str | None:
    """What the options name: an artifact, eager, or None for what suits each."""
    if options.against is None or options.against == EAGER:
        return options.against
    manifest = read_manifest(Path(options.against))
    for one in several:
        if one.manifest.spec.input != manifest.spec.input:
            raise UsageError(
                f"--against {options.against} takes images of {manifest.spec.input}, "
                f"{one.folder} of {one.manifest.spec.input}"
            )
    return Candidate(options.against, manifest, options.against)
