"""The machine while something was measured on it: what it is, what else ran, and whether its clock held.

From /proc and /sys, and NVML where a GPU and its Python package are; what cannot be read is said, not guessed.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...models.processors import cpus
from ..backends.infos import backend_info

BUSY = 0.1  # of the CPUs used by others, from which on it is noted
STOLEN = 0.02
TICKS = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")


@dataclass(frozen=True)
class Machine:
    """What a latency was measured on.

    Attributes:
        cpu: the model's name.
        cores: that this process may use.
        threads: that the runtimes were given.
        affinity: the numbers of these cores.
        system: operating system and architecture.
        memory_gb: of the machine.
        gpu: its name, where one was used.
        load_before, load_after: the load average of a minute.
        foreign_cpu: the share of all CPU time that others took meanwhile.
        steal: the share that the hypervisor took.
        mhz_low, mhz_high: the lowest and highest clock seen.
        throttled: how often a core was throttled for its heat meanwhile.
        governor: of the clock.
        notes: what makes the numbers doubtful.
    """

    cpu: str
    cores: int
    threads: int
    affinity: tuple[int, ...]
    system: str
    memory_gb: float | None
    gpu: str | None
    load_before: float | None
    load_after: float | None
    foreign_cpu: float | None
    steal: float | None
    mhz_low: float | None
    mhz_high: float | None
    throttled: int | None
    governor: str | None
    notes: tuple[str, ...]


def cores_here() -> tuple[int, ...]:
    """The numbers of the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


class Watch:
    """Looks at the machine from its making to `seen`; `look` in between notes the clock.

    Args:
        device: "cuda" notes the GPU too.
    """

    def __init__(self, device: str = "cpu") -> None:
        self._gpu = _Gpu() if device == "cuda" else None
        self._before, self._own = _ticks(), _own_seconds()
        self._throttled, self._load = _throttled(), _load()
        self._clocks: list[float] = []
        self._begun = time.monotonic()
        self.look()

    def look(self) -> None:
        """Note the clocks now."""
        self._clocks += _clocks()
        if self._gpu is not None:
            self._gpu.look()

    def seen(self, threads: int) -> Machine:
        """The machine since then; processes of ours count as ours once they were waited for."""
        after, throttled = _ticks(), _throttled()
        foreign, steal = shares(self._before, after, _own_seconds() - self._own, os.sysconf("SC_CLK_TCK"))
        count = throttled - self._throttled if throttled is not None and self._throttled is not None else None
        governor = _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
        low, high = (min(self._clocks), max(self._clocks)) if self._clocks else (None, None)
        gpu_notes = self._gpu.notes() if self._gpu is not None else ()
        return Machine(
            cpu=cpu_name(),
            cores=len(cores_here()),
            threads=threads,
            affinity=cores_here(),
            system=f"{platform.system()} {platform.machine()}",
            memory_gb=_memory_gb(),
            gpu=self._gpu.name if self._gpu is not None else None,
            load_before=self._load,
            load_after=_load(),
            foreign_cpu=foreign,
            steal=steal,
            mhz_low=low,
            mhz_high=high,
            throttled=count,
            governor=governor,
            notes=(*notes_of(foreign, steal, low, high, count, governor), *gpu_notes),
        )


def shares(
    before: dict[str, int], after: dict[str, int], own_seconds: float, ticks_a_second: float
) -> tuple[float | None, float | None]:
    """The share of all CPU time that others used, and that the hypervisor took; None where /proc does not tell."""
    took = {name: after[name] - before[name] for name in after if name in before}
    total = sum(took.values())
    if not total:
        return None, None
    steal = took.get("steal", 0)
    busy = total - took.get("idle", 0) - took.get("iowait", 0) - steal
    return max(0.0, (busy - own_seconds * ticks_a_second) / total), steal / total


def notes_of(
    foreign: float | None,
    steal: float | None,
    low: float | None,
    high: float | None,
    throttled: int | None,
    governor: str | None,
) -> tuple[str, ...]:
    """What of it makes timings doubtful, in words."""
    found: list[str] = []
    if foreign is not None and foreign > BUSY:
        found.append(f"other processes used {foreign:.0%} of the CPUs meanwhile")
    if steal is not None and steal > STOLEN:
        found.append(f"the hypervisor took {steal:.0%} of the CPU time")
    if throttled:
        found.append(f"cores were throttled for their heat {throttled} times")
    if low is None or high is None:
        found.append("clocks cannot be read here")
    elif high > 1.2 * low:
        found.append(f"clocks went from {low:.0f} to {high:.0f} MHz")
    if governor not in (None, "performance"):
        found.append(f"the clock's governor is {governor}, not performance")
    return tuple(found)


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return None


def _ticks() -> dict[str, int]:
    line = (_read("/proc/stat") or "").split("\n", maxsplit=1)[0].split()[1:]
    return dict(zip(TICKS, map(int, line), strict=False))


def _own_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _load() -> float | None:
    try:
        return os.getloadavg()[0]
    except (OSError, AttributeError):
        return None


def _clocks() -> list[float]:
    """MHz of each core of ours; empty where the kernel does not tell, as in most virtual machines."""
    found = [_read(f"/sys/devices/system/cpu/cpu{core}/cpufreq/scaling_cur_freq") for core in cores_here()]
    return [int(text) / 1000 for text in found if text and text.isdigit()]


def _throttled() -> int | None:
    counts = Path("/sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle/core_throttle_count")
    found = [text for text in (_read(str(path)) for path in counts) if text and text.isdigit()]
    return sum(map(int, found)) if found else None


def cpu_name() -> str:
    """The processor, as the system names it."""
    for line in (_read("/proc/cpuinfo") or "").splitlines():
        if line.lower().startswith(("model name", "hardware", "cpu model")):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory_gb() -> float | None:
    for line in (_read("/proc/meminfo") or "").splitlines():
        if line.startswith("MemTotal:"):
            return round(int(line.split()[1]) / 1e6, 1)
    return None


class _Gpu:
    """The first GPU by NVML: name, clocks, temperature, and why it was throttled."""

    def __init__(self) -> None:
        self.name: str | None = None
        self._clocks: list[int] = []
        self._reasons = 0
        try:
            import pynvml

            pynvml.nvmlInit()
            self._handle = pynvml.nvmlDeviceGetHandleByIndex(0)
            name = pynvml.nvmlDeviceGetName(self._handle)
            self.name = name if isinstance(name, str) else name.decode()
        except Exception:  # noqa: BLE001 - the package, the library or the driver is missing; `notes` says so
            self._handle = None

    def look(self) -> None:
        """Note clock and throttling now."""
        if self._handle is None:
            return
        import pynvml

        self._clocks.append(pynvml.nvmlDeviceGetClockInfo(self._handle, pynvml.NVML_CLOCK_SM))
        self._reasons |= pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(self._handle)

    def notes(self) -> tuple[str, ...]:
        """What was seen, in words."""
        if self._handle is None:
            return ("the GPU's clocks cannot be read: pip install nvidia-ml-py",)
        import pynvml

        idle = pynvml.nvmlClocksThrottleReasonGpuIdle | pynvml.nvmlClocksThrottleReasonApplicationsClocksSetting
        found = [f"GPU clock {min(self._clocks)} to {max(self._clocks)} MHz"] if self._clocks else []
        if self._reasons & ~idle:
            found.append(f"the GPU was throttled (NVML reasons {self._reasons & ~idle:#x})")
        return tuple(found)


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

    info = backend_info(artifact["backend"])
    for name in info.wheels:
        try:
            return f"{name} {version(name)}"
        except PackageNotFoundError:
            continue
    return info.module


def cpu_flags() -> frozenset[str]:
    """What /proc/cpuinfo says the first processor can; empty where it cannot be read."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return frozenset()
    line = next((one for one in text.splitlines() if one.split(":")[0].strip() in ("flags", "Features")), "")
    return frozenset(line.partition(":")[2].split())
