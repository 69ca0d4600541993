"""What a device tells of itself while a model runs: temperatures, clocks, throttling, power and energy.

Linux's own files (thermal zones, hwmon, cpufreq, powercap's RAPL), NVML where its Python package is, vcgencmd on a
Raspberry Pi, tegrastats on a Jetson. What a device does not tell is listed, and nothing is made up for it.
"""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .tegrastats import Stats, Tegrastats, total_of

EVERY = 0.25  # seconds
# Of `vcgencmd get_throttled`: bits 0 to 3 are now, 16 to 19 since it was switched on.
PI_FLAGS = {0: "under-voltage", 1: "clock capped", 2: "throttled", 3: "soft temperature limit"}


@dataclass(frozen=True)
class Telemetry:
    """What was seen from start to end.

    Attributes:
        seconds: how long.
        temperatures: lowest and highest of each sensor, degrees Celsius.
        mhz: lowest and highest clock of any core.
        throttled: what was throttled meanwhile, in words.
        watts: mean of each sensor.
        joules: of each energy counter.
        silent: what the device does not tell.
        gpu_mhz: lowest and highest clock of the GPU; None where none tells.
        total: which of the watts is of the whole device; "" where none is known to be.
    """

    seconds: float
    temperatures: dict[str, tuple[float, float]] = field(default_factory=dict)
    mhz: tuple[float, float] | None = None
    throttled: tuple[str, ...] = ()
    watts: dict[str, float] = field(default_factory=dict)
    joules: dict[str, float] = field(default_factory=dict)
    silent: tuple[str, ...] = ()
    gpu_mhz: tuple[float, float] | None = None
    total: str = ""

    @property
    def energy(self) -> tuple[float, str] | None:
        """Joules of the whole device or the largest part that tells, and which; counters before mean power."""
        if self.joules:
            name = max(self.joules, key=lambda one: self.joules[one])
            return self.joules[name], name
        if self.watts:
            name = self.total or max(self.watts, key=lambda one: self.watts[one])
            return self.watts[name] * self.seconds, name
        return None


class Watching:
    """Samples in a thread from `with` on; `found` afterwards.

    Args:
        root: of the file system that is read.
        every: seconds between samples.
        run: runs a command, None where it is not there.
    """

    def __init__(
        self, root: Path = Path("/"), every: float = EVERY, run: Callable[[list[str]], str | None] | None = None
    ) -> None:
        self._root, self._every, self._run = root, every, run or output_of
        self._temperatures: dict[str, list[float]] = {}
        self._heat: dict[str, list[float]] = {}  # of the thermal zones
        self._clocks: list[float] = []
        self._gpu_clocks: list[float] = []
        self._watts: dict[str, list[float]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._gpu = _Nvml()
        self._tegra = Tegrastats(every)
        self._total = ""

    def __enter__(self) -> Watching:
        self._begun = time.monotonic()
        self._energy, self._counts, self._flags = self._counters(), self._throttles(), self._pi_flags()
        self._tegra.start()
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        try:
            self._thread.join()
        finally:
            told = self._tegra.stop()
        self._look()
        self._add(told)
        seconds = time.monotonic() - self._begun
        joules = {
            name: (after - self._energy[name] + (wrap if after < self._energy[name] else 0)) / 1e6
            for name, (after, wrap) in self._now_energy().items()
            if name in self._energy
        }
        found = {
            "temperatures": self._temperatures, "clocks": self._clocks, "power or energy": self._watts or joules,
            "throttling": self._counts is not None or self._flags is not None or self._gpu.there,
        }  # fmt: skip
        if told or self._gpu.there:  # where no GPU is known of, none is silent
            found["the GPU's clock"] = self._gpu_clocks
        self.found = Telemetry(
            seconds,
            {name: (min(values), max(values)) for name, values in self._temperatures.items()},
            (min(self._clocks), max(self._clocks)) if self._clocks else None,
            self._throttled(),
            {name: sum(values) / len(values) for name, values in self._watts.items()},
            joules,
            tuple(name for name, values in found.items() if not values),
            (min(self._gpu_clocks), max(self._gpu_clocks)) if self._gpu_clocks else None,
            self._total,
        )

    def _add(self, told: list[Stats]) -> None:
        """What tegrastats told. Its temperatures are those of the thermal zones, without those that are off."""
        heat: dict[str, list[float]] = {}
        for one in told:
            self._clocks += one.cores
            self._gpu_clocks += one.gpu
            for name, value in one.temperatures.items():
                heat.setdefault(name, []).append(value)
            for name, value in one.watts.items():
                self._watts.setdefault(name, []).append(value)
            total = total_of(one.watts)
            if total is not None:
                self._total = total[0]
                if total[0] not in one.watts:
                    self._watts.setdefault(total[0], []).append(total[1])
        self._temperatures = {**(heat or self._heat), **self._temperatures}

    def _loop(self) -> None:
        while not self._stop.is_set():
            self._look()
            self._stop.wait(self._every)

    def _look(self) -> None:
        for name, value in self._zones():
            self._heat.setdefault(name, []).append(value)
        for name, value in (*self._hwmon("temp", 1e3), *self._gpu.temperature()):
            self._temperatures.setdefault(name, []).append(value)
        for path in self._glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq"):
            value = _number(path)
            if value is not None:
                self._clocks.append(value / 1e3)
        for name, value in (*self._hwmon("power", 1e6), *self._gpu.power()):
            self._watts.setdefault(name, []).append(value)
        self._gpu_clocks += [value for _, value in self._gpu.clock()]

    def _glob(self, pattern: str) -> list[Path]:
        return sorted(self._root.glob(pattern))

    def _zones(self) -> list[tuple[str, float]]:
        found = ((_text(zone / "type") or zone.name, _number(zone / "temp"))
                 for zone in self._glob("sys/class/thermal/thermal_zone*"))  # fmt: skip
        return [(name, value / 1e3) for name, value in found if value is not None]

    def _hwmon(self, kind: str, scale: float) -> list[tuple[str, float]]:
        found: list[tuple[str, float]] = []
        for folder in self._glob("sys/class/hwmon/hwmon*"):
            chip = _text(folder / "name") or folder.name
            for path in sorted((*folder.glob(f"{kind}[0-9]*_input"), *folder.glob(f"{kind}[0-9]*_average"))):
                stem = path.name.rpartition("_")[0]
                value = _number(path)
                if value is not None:
                    found.append((f"{chip} {_text(folder / f'{stem}_label') or stem}", value / scale))
        return found

    def _counters(self) -> dict[str, float]:
        return {name: value for name, (value, _) in self._now_energy().items()}

    def _now_energy(self) -> dict[str, tuple[float, float]]:
        """Microjoules of each RAPL domain, and where its counter begins again."""
        found: dict[str, tuple[float, float]] = {}
        for folder in self._glob("sys/class/powercap/intel-rapl:*"):
            value, most = _number(folder / "energy_uj"), _number(folder / "max_energy_range_uj")
            if value is not None:
                found[f"{_text(folder / 'name') or folder.name} ({folder.name})"] = (value, most or 0.0)
        return found

    def _throttles(self) -> float | None:
        counts = [_number(path) for path in
                  self._glob("sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/core_throttle_count")]  # fmt: skip
        known = [one for one in counts if one is not None]
        return sum(known) if known else None

    def _pi_flags(self) -> int | None:
        text = self._run(["vcgencmd", "get_throttled"])
        try:
            return int((text or "").partition("=")[2], 16)
        except ValueError:
            return None

    def _throttled(self) -> tuple[str, ...]:
        found: list[str] = []
        after = self._throttles()
        if after is not None and self._counts is not None and after > self._counts:
            found.append(f"cores were throttled for their heat {after - self._counts:.0f} times")
        flags = self._pi_flags()
        if flags is not None:
            since = self._flags or 0
            found += [text for bit, text in PI_FLAGS.items()
                      if flags >> bit & 1 or (flags >> (bit + 16) & 1 and not since >> (bit + 16) & 1)]  # fmt: skip
        return (*found, *self._gpu.throttled())


class _Nvml:
    """NVIDIA's library, where its Python package and a GPU are."""

    def __init__(self) -> None:
        self._nvml: Any = None
        try:
            import pynvml

            pynvml.nvmlInit()
            self._handle = pynvml.nvmlDeviceGetHandleByIndex(0)
            self._nvml = pynvml
        except Exception:  # noqa: BLE001 - no package, no driver, no GPU: each its own class
            return

    @property
    def there(self) -> bool:
        return self._nvml is not None

    def temperature(self) -> list[tuple[str, float]]:
        return self._ask(lambda nvml: float(nvml.nvmlDeviceGetTemperature(self._handle, 0)))

    def power(self) -> list[tuple[str, float]]:
        return self._ask(lambda nvml: nvml.nvmlDeviceGetPowerUsage(self._handle) / 1e3)

    def clock(self) -> list[tuple[str, float]]:
        return self._ask(lambda nvml: float(nvml.nvmlDeviceGetClockInfo(self._handle, 1)))  # of its multiprocessors

    def throttled(self) -> tuple[str, ...]:
        slow = 0x8 | 0x20 | 0x40 | 0x4  # hardware slowdown, software and hardware thermal slowdown, power cap
        reasons = self._ask(lambda nvml: float(nvml.nvmlDeviceGetCurrentClocksThrottleReasons(self._handle)))
        return ("the GPU was slowed for heat or power",) if reasons and int(reasons[0][1]) & slow else ()

    def _ask(self, question: Callable[[Any], float]) -> list[tuple[str, float]]:
        if self._nvml is None:
            return []
        try:
            return [("gpu", question(self._nvml))]
        except Exception:  # noqa: BLE001 - a GPU that does not tell that
            return []


def output_of(command: list[str]) -> str | None:
    """What a command prints; None where it is not there or fails."""
    if shutil.which(command[0]) is None:
        return None
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=5).stdout
    except (OSError, subprocess.SubprocessError):
        return None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return None


def _number(path: Path) -> float | None:
    try:
        return float(_text(path) or "")
    except ValueError:
        return None
