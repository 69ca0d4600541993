"""How many CPUs this process may really use: its affinity, and the CPU quota of the container that it runs in.

A container with `--cpus 2` on a machine with 64 cores still sees all of them: its affinity is not limited, its time is.
Runtimes that count cores then start 64 threads, which share the time of two and wait for each other. The kernel's
documentation of the two interfaces: cgroup-v2.rst (cpu.max) and scheduler/sched-bwc.rst (cpu.cfs_quota_us).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, MutableMapping
from pathlib import Path, PurePosixPath

ROOT = Path("/")
THREADS = "OMP_NUM_THREADS"
USUAL_MOUNTS = {"cgroup2": "/sys/fs/cgroup", "cgroup": "/sys/fs/cgroup/cpu"}


def usable_cpus(affinity: int, quotas: Iterable[float]) -> int:
    """Return how many CPUs a process can keep busy, at least one.

    Args:
        affinity: CPUs that the scheduler may put it on.
        quotas: CPUs' worth of time that each of the groups above it is allowed.

    >>> usable_cpus(64, [8.0, 2.5])
    3
    """
    smallest = min(quotas, default=math.inf)
    return affinity if smallest >= affinity else max(1, math.ceil(smallest))


def cpus() -> int:
    """Return how many CPUs this process can keep busy."""
    return usable_cpus(affinity(), cgroup_quotas())


def limited_cpus() -> int | None:
    """Return how many threads a runtime that counts cores by itself has to be held to; None where it counts right.

    Runtimes take a thread for each physical core, so a quota that allows as many changes nothing.
    """
    usable = cpus()
    return usable if usable < affinity() and usable < physical_cores() else None


def limit_threads(environment: MutableMapping[str, str]) -> None:
    """Set OMP_NUM_THREADS, which torch and numpy read when they are loaded, where a quota asks for fewer threads.

    What a person has set stays.
    """
    limit = limited_cpus()
    if limit is not None:
        environment.setdefault(THREADS, str(limit))


def affinity() -> int:
    """Return how many CPUs the scheduler may put this process on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def physical_cores(root: Path = ROOT) -> int:
    """Return how many physical cores these CPUs are; as many as CPUs where the system does not tell."""
    numbers = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    topology = root / "sys/devices/system/cpu"
    cores = {_text(topology / f"cpu{number}/topology/thread_siblings_list") or str(number) for number in numbers}
    return len(cores)


def cgroup_quotas(root: Path = ROOT) -> list[float]:
    """Return the CPUs' worth of time that this process's groups are allowed, of those that have a limit.

    A limit of a group holds for all groups inside it, so each folder from the process's own group up to the mount
    point is read, in both versions of the interface.

    Args:
        root: of the file system; another one in tests.
    """
    quotas: list[float] = []
    for kind, mount, group in _groups(root):
        read = _quota_v2 if kind == "cgroup2" else _quota_v1
        quotas += [quota for folder in _upward(mount, group) if (quota := read(folder)) is not None]
    return quotas


def _groups(root: Path) -> Iterator[tuple[str, Path, PurePosixPath]]:
    """Yield the version, the mount point and this process's group below it, for each hierarchy that limits CPUs."""
    mounts = _mounts(_text(root / "proc/self/mountinfo"))
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        kind = "cgroup2" if number == "0" and not controllers else "cgroup"
        if kind == "cgroup" and "cpu" not in controllers.split(","):
            continue
        mounted, at = mounts.get(kind, (PurePosixPath("/"), USUAL_MOUNTS[kind]))
        group = PurePosixPath(path)
        # a container often sees its own group as the root of the mount, while its path is still told from the host's
        inside = group.relative_to(mounted) if group.is_relative_to(mounted) else PurePosixPath()
        yield kind, root / at.lstrip("/"), inside


def _mounts(text: str) -> dict[str, tuple[PurePosixPath, str]]:
    """Return by version the group that is mounted, and where; of version 1 the hierarchy of the CPU controller."""
    found: dict[str, tuple[PurePosixPath, str]] = {}
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        fields, kinds = before.split(), after.split()
        if len(fields) < 5 or not kinds or kinds[0] not in USUAL_MOUNTS:
            continue
        if kinds[0] == "cgroup" and "cpu" not in kinds[-1].split(","):
            continue
        found[kinds[0]] = PurePosixPath(fields[3]), fields[4]
    return found


def _upward(mount: Path, group: PurePosixPath) -> list[Path]:
    parts = [part for part in group.parts if part not in ("/", "..")]
    return [mount.joinpath(*parts[:count]) for count in range(len(parts), -1, -1)]


def _quota_v2(folder: Path) -> float | None:
    return _share(*(_text(folder / "cpu.max").split()[:2] or ("",)))


def _quota_v1(folder: Path) -> float | None:
    return _share(_text(folder / "cpu.cfs_quota_us").strip(), _text(folder / "cpu.cfs_period_us").strip())


def _share(quota: str, period: str = "") -> float | None:
    """Return quota over period; None for `max`, for -1, and for what is no number."""
    try:
        share = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):
        return None
    return share if share > 0 else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:  # no Linux, or nothing there
        return ""
