"""What devices tell, read from trees of files laid out as Linux lays them out; what they do not tell is said."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from zoo.exporter.timing.telemetry import Telemetry, Watching, output_of


def write(root: Path, **files: str) -> None:
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")


def tree(root: Path) -> dict[str, Path]:
    """An Intel machine with one sensor of each kind."""
    base = {
        "sys/class/thermal/thermal_zone0/type": "cpu-thermal", "sys/class/thermal/thermal_zone0/temp": "51000",
        "sys/class/hwmon/hwmon2/name": "ina3221", "sys/class/hwmon/hwmon2/power1_input": "4500000",
        "sys/class/hwmon/hwmon2/power1_label": "VDD_IN", "sys/class/hwmon/hwmon2/temp1_input": "48500",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "1500000",
        "sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq": "1800000",
        "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": "3",
        "sys/class/powercap/intel-rapl:0/name": "package-0", "sys/class/powercap/intel-rapl:0/energy_uj": "1000000",
        "sys/class/powercap/intel-rapl:0/max_energy_range_uj": "9000000",
    }  # fmt: skip
    for name, text in base.items():
        write(root, **{name: text})
    return {name: root / name for name in base}


def test_sensors_are_read_with_their_units(tmp_path: Path) -> None:
    files = tree(tmp_path)
    with Watching(tmp_path, every=0.02, run=lambda _command: None) as watching:
        time.sleep(0.08)
        files["sys/class/thermal/thermal_zone0/temp"].write_text("63000")
        files["sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count"].write_text("5")
        files["sys/class/powercap/intel-rapl:0/energy_uj"].write_text("3500000")
    found = watching.found
    assert found.temperatures["cpu-thermal"] == (51.0, 63.0)
    assert found.temperatures["ina3221 temp1"] == (48.5, 48.5)
    assert found.mhz == (1500.0, 1800.0)
    assert found.watts == {"ina3221 VDD_IN": pytest.approx(4.5)}
    assert found.joules == {"package-0 (intel-rapl:0)": pytest.approx(2.5)}
    assert found.throttled == ("cores were throttled for their heat 2 times",)
    assert found.silent == ()
    assert found.energy == (pytest.approx(2.5), "package-0 (intel-rapl:0)"), "a counter before a mean power"


def test_an_energy_counter_that_began_again(tmp_path: Path) -> None:
    files = tree(tmp_path)
    files["sys/class/powercap/intel-rapl:0/energy_uj"].write_text("8500000")
    with Watching(tmp_path, run=lambda _command: None) as watching:
        files["sys/class/powercap/intel-rapl:0/energy_uj"].write_text("500000")
    assert watching.found.joules["package-0 (intel-rapl:0)"] == pytest.approx(1.0), "9 J is where it begins again"


def test_power_times_time_where_there_is_no_counter() -> None:
    assert Telemetry(10.0, watts={"in": 5.0, "cpu": 2.0}).energy == (50.0, "in")
    assert Telemetry(10.0).energy is None


def test_a_raspberry_pi_says_what_slowed_it(tmp_path: Path) -> None:
    answers = iter(["throttled=0x50000", "throttled=0x70005"])
    with Watching(tmp_path, run=lambda command: next(answers) if command[0] == "vcgencmd" else None) as watching:
        pass
    assert watching.found.throttled == ("under-voltage", "clock capped", "throttled"), "now, or since it began"


@pytest.mark.parametrize("answer", [None, "", "throttled=", "throttled=0xzz", "error"])
def test_what_is_not_there_is_said_and_nothing_made_up(tmp_path: Path, answer: str | None) -> None:
    (tmp_path / "sys/class/hwmon/hwmon0").mkdir(parents=True)
    (tmp_path / "sys/class/hwmon/hwmon0/temp1_input").write_text("no number")
    with Watching(tmp_path, run=lambda _command: answer) as watching:
        pass
    found = watching.found
    assert (found.temperatures, found.mhz, found.watts, found.joules, found.throttled) == ({}, None, {}, {}, ())
    assert {"temperatures", "clocks", "power or energy"} <= set(found.silent)


def test_a_program_that_is_not_there_or_fails() -> None:
    assert output_of(["zoo-no-such-program"]) is None
    assert output_of(["false"]) is None
    assert output_of(["echo", "x"]) == "x\n"
