"""The gate latency of several artifacts: which reference each is held to, measured one artifact after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ...errors import UsageError, ZooError
from ..artifact.folder import read_manifest
from ..artifact.manifest import Manifest
from .budget import Budget
from .gate import Gate
from .latency import judge_latency
from .machine import Watch, cores_here
from .reference import Progress
from .rounds import LatencyOptions, Task, as_reference, compare

EAGER = "eager"


@dataclass(frozen=True)
class Timed:
    """A row of a check: its artifact's folder, its manifest (none, where it could not be opened), its copy."""

    folder: str
    manifest: Manifest | None
    copy: str = ""


@dataclass(frozen=True)
class Subject:
    """An artifact to time: its folder as people know it, and where it is read."""

    folder: str
    manifest: Manifest
    place: str

    @property
    def name(self) -> str:
        """As people call it: onnx-int8."""
        return f"{self.manifest.backend}-{self.manifest.precision}"


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
    subjects = [Subject(one.folder, one.manifest, one.copy or one.folder) for one in rows if one.manifest is not None]
    other = _asked(options, subjects)
    found: dict[str, Gate] = {}
    for one in subjects:
        task = Task(one.name, one.place)
        reference = other or fp32_of(one, subjects)
        against = _task(reference, task)
        mine = replace(options, images=max(options.images, _smallest(one), _smallest(reference)))
        limits = budget.limits(one.manifest.backend, one.manifest.precision).latency
        watch = Watch(device)

        def told(done: int, total: int, name: str = one.name, watch: Watch = watch) -> None:
            watch.look()
            progress(f"latency of {name}", done, total)

        try:
            largest = one.manifest.batch.max if one.manifest.batch else None
            compared = compare(task, against, mine, device, told, largest)
        except ZooError as error:
            found[one.folder] = Gate(
                "latency", "inconclusive", f"it could not be measured: {str(error).replace(one.place, one.folder)}"
            )
            continue
        gate = judge_latency(compared, limits)
        machine = asdict(watch.seen(options.threads or len(cores_here())))
        found[one.folder] = replace(gate, numbers={**gate.numbers, "batch": mine.images, "machine": machine})
    return found


def fp32_of(one: Subject, others: Sequence[Subject]) -> Subject | None:
    """What a smaller precision must not be slower than: the fp32 export of the same backend and weights beside it.

    None for the eager reference: for an fp32 export, or where that export is not among those checked.
    """
    return next(
        (
            other
            for other in others
            if one.manifest.precision != "fp32"
            and other.manifest.precision == "fp32"
            and other.manifest.backend == one.manifest.backend
            and other.manifest.weights_sha256 == one.manifest.weights_sha256
        ),
        None,
    )


def _asked(options: LatencyOptions, subjects: Sequence[Subject]) -> Subject | str | None:
    """What the options name: an artifact, eager, or None for what suits each."""
    if options.against is None or options.against == EAGER:
        return options.against
    manifest = read_manifest(Path(options.against))
    for one in subjects:
        if one.manifest.spec.input != manifest.spec.input:
            raise UsageError(
                f"--against {options.against} takes images of {manifest.spec.input}, "
                f"{one.folder} of {one.manifest.spec.input}"
            )
    return Subject(options.against, manifest, options.against)


def _smallest(subject: Subject | str | None) -> int:
    """The smallest batch it takes."""
    return subject.manifest.batch.min if isinstance(subject, Subject) and subject.manifest.batch else 1


def _task(other: Subject | str | None, mine: Task) -> Task:
    return Task(other.name, other.place) if isinstance(other, Subject) else as_reference(mine)
