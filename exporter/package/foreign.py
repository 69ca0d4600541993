"""A stranger's package, opened by a confined child: whatever is in it, there is an answer, or one line."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ...errors import IntegrityError
from ..backends.infos import known_info
from ..checks.gate import Gate
from ..confined.confinement import Confinement, Walls
from ..confined.room import Answered, ChildEndedError, line_of, run_confined
from ..runtime.container import Package
from ..runtime.profile import Profile
from ..runtime.verify import Skew, Verified

MODULE = "zoo.exporter.package.inside"
SECONDS, SECONDS_A_MB = 12.0, 0.5  # a network of 500 MB takes minutes on a slow CPU
MEMORY_MB, MEMORY_A_MB = 4096, 8
PROFILE_SECONDS, PROFILE_MB = 3600.0, 256  # the largest file: the runtime's profile of each operator
VERDICTS = ("pass", "fail", "inconclusive", "skipped")


@dataclass(frozen=True)
class Allowed:
    """What a stranger's package may have.

    Attributes:
        code: whether artifacts that are programs (TorchScript) are opened.
        seconds: for all of it; None for what suits its size.
        memory_mb: likewise.
    """

    code: bool = False
    seconds: float | None = None
    memory_mb: int | None = None

    def confinement(self, size: int) -> Confinement:
        """The limits for a package of so many bytes."""
        megabytes = size / 1e6
        memory = int(min(MEMORY_MB + MEMORY_A_MB * megabytes, _physical_mb()))
        seconds = SECONDS + SECONDS_A_MB * megabytes
        return Confinement(
            seconds=self.seconds if self.seconds is not None else seconds,
            memory_mb=self.memory_mb if self.memory_mb is not None else memory,
        )


def verify_foreign(package: Package, artifact: str | None = None, allowed: Allowed | None = None) -> Verified:
    """Have a confined child verify a package, with its first page and its code; the gate `sandbox` says what held it.

    Args:
        package: opened.
        artifact: only that one.
        allowed: what it may have.

    Raises:
        IntegrityError: a changed file, a lie, a dangerous file, or it took more than it may.
        UsageError: no such artifact.
    """
    allowed = allowed or Allowed()
    confinement = allowed.confinement(os.fstat(package.file.fileno()).st_size)
    answered = _open(package, "verify", {"artifact": artifact, "allow_code": allowed.code}, confinement)
    found = parse_verified(answered.value, str(package.path))
    gates = (*found.gates[:2], judge_walls(answered.walls, confinement), *found.gates[2:])
    return Verified(gates, found.skews)


def profile_foreign(package: Package, samples: Path | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """Have a confined child profile a package; what it measured, as JSON has it.

    Args:
        package: opened.
        samples: a folder with images to answer; None for none.
        options: of `timing.profile`, what JSON can hold.

    Raises:
        IntegrityError: it is dangerous, or it took more than it may.
        UsageError, UnavailableError: as `timing.profile`.
    """
    confinement = Confinement(
        seconds=PROFILE_SECONDS, memory_mb=int(min(_physical_mb(), 1 << 24)), file_mb=PROFILE_MB,
        reads=() if samples is None else (str(samples),),
    )  # fmt: skip
    given = {"samples": None if samples is None else str(samples), **options}
    found = _open(package, "profile", given, confinement).value
    if not isinstance(found, dict) or found.keys() != {one.name for one in fields(Profile)}:
        raise IntegrityError(f"{package.path}: the process that opened it answered nonsense", fix="do not use it")
    return found


def _open(package: Package, do: str, given: Mapping[str, Any], confinement: Confinement) -> Answered:
    backends = [one.get("backend") for one in _listed(package)]
    infos = [info for name in dict.fromkeys(map(str, backends)) if (info := known_info(name)) is not None]
    trusted = [info for info in infos if info.predictor and (given["allow_code"] or not info.is_program)]
    runtimes = [info.module for info in trusted]
    task = {"path": str(package.path), "runtimes": runtimes, "do": do, "given": given}
    try:
        return run_confined(MODULE, task, confinement, files=[package.file])
    except ChildEndedError as error:
        more = "; if you trust it, --time-limit and --memory-limit give it more" if do == "verify" else ""
        raise IntegrityError(
            f"{package.path}: the process that opened it {error}", fix=f"do not use it{more}"
        ) from None


def judge_walls(walls: Walls, confinement: Confinement) -> Gate:
    """Judge what held the process that opened a package; what this system cannot close is said, and fails nothing."""
    limits = f"{confinement.seconds:,.0f} s at most"
    if walls.open:
        closed = "".join(f"{one}; " for one in walls.closed)
        return Gate("sandbox", "skipped", f"{closed}{limits}; this system does not close {', '.join(walls.open)}")
    return Gate("sandbox", "pass", f"opened in a process without {', '.join(walls.closed)}; {limits}")


def parse_verified(value: Any, name: str) -> Verified:
    """Parse what a child answered; it read a stranger's file, so that nothing in it is taken on trust.

    Raises:
        IntegrityError: it is something else.
    """
    try:
        gates = tuple(
            Gate(line_of(one["name"]), _verdict(one["verdict"]), line_of(one["reason"]), dict(one["numbers"]))
            for one in value["gates"]
        )
        skews = tuple(
            Skew(line_of(one["mistake"]), float(one["agreement"]), float(one["distance"]),
                 tuple(float(logit) for logit in one["logits"]))
            for one in value["skews"]
        )  # fmt: skip
        if len(gates) < 2:
            raise ValueError("no gates")
    except (KeyError, TypeError, ValueError) as error:
        raise IntegrityError(f"{name}: the process that opened it answered nonsense", fix="do not use it") from error
    return Verified(gates, skews)


def _verdict(given: Any) -> Any:
    if given not in VERDICTS:
        raise ValueError(given)
    return given


def _listed(package: Package) -> list[dict[str, Any]]:
    listed = package.manifest.get("artifacts")
    return [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []


def _physical_mb() -> float:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e6
    except (ValueError, OSError, AttributeError):
        return math.inf
