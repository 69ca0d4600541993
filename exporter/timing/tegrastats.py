"""What a Jetson tells by NVIDIA's `tegrastats`: power of its rails, temperatures, clocks of the GPU and the cores.

The program prints a line an interval. Its form is that of NVIDIA's documentation ("Tegrastats Utility", Jetson Linux
Developer Guide) and of lines that boards from the Nano to Thor printed, which the tests hold.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

PROGRAM = "tegrastats"
OFF = -256.0  # degrees that it prints for a sensor whose part is switched off
PATIENCE = 2.0  # seconds in which it has to end

# `CPU [5%@1224,off]`, or all cores at one clock: `cpu [17%,13%]@408`.
_CORES = re.compile(r"\bCPU \[([^\]]*)\](?:@(\d+))?", re.IGNORECASE)
# `GR3D_FREQ 0%@76`, `0%@[305,305]` and `@[314,314,314]`, one a cluster; `GR3D_FREQ 0%` tells no clock.
_GPU = re.compile(r"\bGR3D2?(?:_FREQ)? (?:\d+%)?@\[?([\d,]+)")
# `cpu@45.5C`, and on JetPack 7 `cpu@51.343C/51.343C`: now, and a mean.
_HEAT = re.compile(r"(?<!\S)([A-Za-z][\w.-]*)@(-?\d+(?:\.\d+)?)C(?![\w.])")
# Now, then means: `VDD_IN 6140/5510`, `VDD_IN 2763mW/2846mW`, `VIN 87426mW/43713mW/87426mW`, `VIN 28548mW`.
_RAIL = re.compile(r"(?<!\S)([A-Z]\w*) (-?\d+)(?:mW(?:/-?\d+mW)*|(?:/-?\d+)+)(?!\S)")

# A rail that all others are behind. VDD_IN: "the total power of module" (forums.developer.nvidia.com/t/200883);
# POM_5V_IN of the Nano: "the overall 5V input to the board" (/t/73608); VIN: the board's input on Thor (/t/366461).
WHOLE = ("VDD_IN", "POM_5V_IN", "VIN")
# Boards without one: their rails are beside each other. AGX Xavier: /t/75574 and /t/81016; AGX Orin: /t/217088.
# VDDQ_VDD2_1V8AO, which some releases print too, is left out: reports differ on whether VIN_SYS_5V0 feeds it, and to
# count it twice would be worse. A sum is called by what is in it.
SUMS = (("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"), ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"))


@dataclass(frozen=True)
class Stats:
    """One line of it; what it does not tell is empty.

    Attributes:
        cores: clocks of the cores that are on, MHz.
        gpu: clocks of the GPU's clusters, MHz.
        temperatures: of each sensor, degrees Celsius.
        watts: of each rail; small negative values are the sensor's offset, and are left as they were told.
    """

    cores: tuple[float, ...] = ()
    gpu: tuple[float, ...] = ()
    temperatures: dict[str, float] = field(default_factory=dict)
    watts: dict[str, float] = field(default_factory=dict)


def parse(line: str) -> Stats:
    """A line of tegrastats.

    >>> parse("CPU [5%@1224,off] GR3D_FREQ 0%@76 CPU@40C POM_5V_IN 1750/1628").watts
    {'POM_5V_IN': 1.75}
    """
    cores: list[float] = []
    found = _CORES.search(line)
    if found is not None:
        several = re.findall(r"@(\d+)", found[1])
        on = [one for one in found[1].split(",") if "%" in one]
        cores = [float(one) for one in several] or ([float(found[2])] * len(on) if found[2] else [])
    gpu = [float(one) for text in _GPU.findall(line) for one in text.split(",") if one]
    heat = {name: float(value) for name, value in _HEAT.findall(line) if float(value) != OFF}
    watts = {name: float(value) / 1e3 for name, value in _RAIL.findall(line)}
    return Stats(tuple(cores), tuple(gpu), heat, watts)


def total_of(watts: Mapping[str, float]) -> tuple[str, float] | None:
    """The power of all of the module or board, and what it is of; None where that is not told and cannot be summed."""
    for name in WHOLE:
        if name in watts:
            return name, watts[name]
    for names in SUMS:
        if all(name in watts for name in names):
            return " + ".join(names), sum(watts[name] for name in names)
    return None


class Tegrastats:
    """The program, from `start` to `stop`; where it is not there it tells nothing.

    Args:
        every: seconds between its lines.
    """

    def __init__(self, every: float) -> None:
        self._every = every
        self._seen: list[Stats] = []
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Begin to read. Should this process be killed, the program ends by itself: nobody reads its next line."""
        path = shutil.which(PROGRAM)
        if path is None:
            return
        command = [path, "--interval", str(max(1, round(1e3 * self._every)))]
        with contextlib.suppress(OSError):  # it is there and does not run
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                errors="replace",
            )  # fmt: skip
            self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
            self._reader.start()

    def stop(self) -> list[Stats]:
        """End the program, in every case, and return what it told."""
        process, self._process = self._process, None
        if process is None:
            return self._seen
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._reader.join(PATIENCE)  # what it started may hold the pipe open
        return list(self._seen)

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                found = parse(line)
                if found != Stats():
                    self._seen.append(found)
