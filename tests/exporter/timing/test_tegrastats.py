"""Lines that real boards printed, as their owners published them, and a program of that name on PATH."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ENVIRONMENT, as_json, zoo
from zoo.exporter.timing.tegrastats import Stats, Tegrastats, parse, total_of
from zoo.exporter.timing.telemetry import Watching

# From the issues and tests of monitors of Jetson boards on GitHub.
TX1 = (
    "RAM 3468/3983MB (lfb 48x4MB) SWAP 873/8192MB (cached 295MB) cpu [17%,13%,29%,5%]@408 EMC 1%@408 APE 25 GR3D 3%@76"
)
NANO = (
    "RAM 1923/3964MB (lfb 2x2MB) SWAP 191/1982MB (cached 6MB) IRAM 0/252kB(lfb 252kB) CPU [5%@1224,4%@1224,3%@1224,"
    "6%@1224] EMC_FREQ 0%@1600 GR3D_FREQ 0%@76 APE 25 PLL@37C CPU@40C PMIC@50C GPU@40C AO@45C thermal@40C "
    "POM_5V_IN 1750/1628 POM_5V_GPU 0/0 POM_5V_CPU 366/406"
)
TX2 = (
    "RAM 2020/7852MB (lfb 1164x4MB) CPU [9%@345,21%@345,25%@345,3%@345,1%@345,1%@345] EMC_FREQ 0% GR3D_FREQ 0% "
    "PLL@42.5C MCPU@42.5C PMIC@100C Tboard@40C GPU@41C BCPU@42.5C thermal@41.9C Tdiode@41.25C VDD_SYS_GPU 153/158 "
    "VDD_SYS_SOC 536/547 VDD_4V0_WIFI 633/527 VDD_IN 3140/3208 VDD_SYS_CPU 536/590 VDD_SYS_DDR 557/601"
)
AGX_XAVIER = (
    "RAM 1903/15692MB (lfb 3251x4MB) CPU [1%@1190,1%@1190,2%@1190,0%@1190,0%@1190,0%@1190,0%@1190,0%@1190] EMC_FREQ 0% "
    "GR3D_FREQ 0% AO@32.5C GPU@32C Tboard@32C Tdiode@34.75C AUX@31.5C CPU@33.5C thermal@32.9C PMIC@100C GPU 0/0 "
    "CPU 216/216 SOC 864/864 CV 0/0 VDDRQ 144/144 SYS5V 1889/1889"
)
XAVIER_NX_4 = (
    "RAM 5246/7771MB (lfb 7x4MB) SWAP 983/20269MB (cached 280MB) CPU [47%@1420,23%@1420,32%@1420,22%@1420,31%@1420,"
    "96%@1420] EMC_FREQ 2%@1600 GR3D_FREQ 0%@1109 APE 150 MTS fg 1% bg 9% AO@29C GPU@31.5C PMIC@100C AUX@30C CPU@33.5C "
    "thermal@31.35C VDD_IN 6140/5510 VDD_CPU_GPU_CV 2706/2119 VDD_SOC 1074/1051"
)
XAVIER_NX_5 = (
    "07-09-2024 13:31:31 RAM 3168/6851MB (lfb 2x4MB) SWAP 161/3426MB (cached 0MB) CPU [23%@1397,17%@1192,16%@1190,"
    "13%@1190,23%@1190,10%@1190] EMC_FREQ 2%@204 GR3D_FREQ 0%@[114] VIC_FREQ 115 APE 150 AUX@45C CPU@46.5C "
    "thermal@45.6C AO@45C GPU@45.5C PMIC@50C VDD_IN 2763mW/2846mW VDD_CPU_GPU_CV 650mW/670mW VDD_SOC 650mW/711mW"
)
AGX_ORIN = (
    "03-17-2024 18:54:10 RAM 10239/62841MB (lfb 442x4MB) SWAP 1/31421MB (cached 0MB) CPU [0%@1728,0%@1728,0%@1728,"
    "0%@1728,0%@1420,0%@1420,0%@1420,0%@1420,off,off,off,off] GR3D_FREQ 0% cpu@37.5C tboard@27C soc2@34.562C "
    "tdiode@27.5C soc0@34.531C tj@37.5C soc1@33.656C VDD_GPU_SOC 1592mW/1592mW VDD_CPU_CV -398mW/-398mW "
    "VIN_SYS_5V0 2624mW/2624mW VDDQ_VDD2_1V8AO 403mW/403mW"
)
AGX_ORIN_DLA = (
    "11-21-2025 08:49:48 RAM 13983/62780MB (lfb 424x4MB) SWAP 126/31390MB (cached 0MB) CPU [90%@2201,100%@2201,"
    "100%@2201,100%@2201,100%@2201,100%@2201,100%@2201,100%@2201,100%@2201,100%@2201,100%@2201,100%@2201] "
    "EMC_FREQ 1%@2133 GR3D_FREQ 14%@[407,407] VIC_FREQ 115 NVDLA0_FREQ @1600 APE 174 CV0@73.625C CPU@77.281C "
    "Tboard@62C SOC2@70C Tdiode@62.25C SOC0@69.531C CV1@72.5C GPU@69.125C tj@77.281C SOC1@68.968C CV2@67.25C "
    "VDD_GPU_SOC 3150mW/2971mW VDD_CPU_CV 14312mW/12415mW VIN_SYS_5V0 4968mW/5048mW VDDQ_VDD2_1V8AO 1091mW/1091mW"
)
AGX_ORIN_OFF = (
    "RAM 2818/62832MB (lfb 966x4MB) SWAP 0/31416MB (cached 0MB) CPU [1%@729,0%@729,2%@729,3%@729,0%@729,1%@729,0%@729,"
    "0%@729,4%@729,0%@729,1%@729,0%@729] EMC_FREQ 0%@2133 GR3D_FREQ 7%@306 VIC_FREQ 115 APE 150 CV0@-256C CPU@37.5C "
    "SOC2@35.5C SOC0@35.5C Tboard@31C GPU@36.0C tj@38.0C VDD_GPU_SOC 390mW/390mW VDD_CPU_CV 720mW/720mW "
    "VIN_SYS_5V0 4250mW/4250mW"
)
ORIN_JETPACK_7 = (
    "07-17-2026 15:15:24 RAM 8182/62817MB (lfb 6x4MB) CPU [18%@729,12%@729] GR3D_FREQ 0%@[1300,1300] "
    "cpu@51.343C/51.343C soc2@48.843C/48.843C soc0@49.25C/49.25C gpu@46.843C/46.843C tj@51.343C/51.343C "
    "soc1@47.843C/47.843C VDD_GPU_SOC 3588mW/3588mW/3588mW VDD_CPU_CV 797mW/797mW/797mW "
    "VIN_SYS_5V0 5148mW/5148mW/5148mW"
)
THOR = (
    "04-21-2026 15:50:52 RAM 105265/125772MB (lfb 34x4MB) CPU [0%@972,0%@972,0%@972,0%@972,0%@972,0%@972,1%@972,0%@972,"
    "0%@972,0%@972,0%@972,8%@972,0%@972,0%@972] EMC_FREQ 0%@2750 GR3D_FREQ @[314,314,314] NVENC0_FREQ @314 VIC off "
    "OFA_FREQ @315 PVA0_FREQ off APE 300 cpu@37.343C tj@38.875C soc012@37.468C gpu@38.875C soc345@37.406C "
    "VDD_GPU 1962mW/1962mW VDD_CPU_SOC_MSS 5887mW/5887mW VIN_SYS_5V0 5635mW/5635mW VIN 19780mW/19780mW"
)
ORIN_SUM = "VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0"


@pytest.mark.parametrize(
    ("line", "cores", "gpu", "heat", "total"),
    [
        (TX1, (408,) * 4, (76,), {}, None),
        (NANO, (1224,) * 4, (76,), {"CPU": 40, "GPU": 40}, ("POM_5V_IN", 1.75)),
        (TX2, (345,) * 6, (), {"GPU": 41, "Tdiode": 41.25}, ("VDD_IN", 3.14)),
        (AGX_XAVIER, (1190,) * 8, (), {"GPU": 32, "CPU": 33.5}, ("GPU + CPU + SOC + CV + VDDRQ + SYS5V", 3.113)),
        (XAVIER_NX_4, (1420,) * 6, (1109,), {"thermal": 31.35}, ("VDD_IN", 6.14)),
        (XAVIER_NX_5, (1397, 1192, 1190, 1190, 1190, 1190), (114,), {"CPU": 46.5}, ("VDD_IN", 2.763)),
        (AGX_ORIN, (1728,) * 4 + (1420,) * 4, (), {"tj": 37.5, "soc2": 34.562}, (ORIN_SUM, 3.818)),
        (AGX_ORIN_DLA, (2201,) * 12, (407, 407), {"CV0": 73.625}, (ORIN_SUM, 22.43)),
        (AGX_ORIN_OFF, (729,) * 12, (306,), {"CPU": 37.5, "tj": 38}, (ORIN_SUM, 5.36)),
        (ORIN_JETPACK_7, (729,) * 2, (1300, 1300), {"cpu": 51.343, "gpu": 46.843}, (ORIN_SUM, 9.533)),
        (THOR, (972,) * 14, (314,) * 3, {"gpu": 38.875, "soc345": 37.406}, ("VIN", 19.78)),
    ],
)  # fmt: skip
def test_lines_of_real_boards(line: str, cores, gpu, heat, total) -> None:
    found = parse(line)
    assert found.cores == cores
    assert found.gpu == gpu
    assert heat.items() <= found.temperatures.items()
    whole = total_of(found.watts)
    assert whole == (None if total is None else (total[0], pytest.approx(total[1])))


def test_rails_are_the_present_value_in_watts() -> None:
    assert parse(NANO).watts == {"POM_5V_IN": 1.75, "POM_5V_GPU": 0.0, "POM_5V_CPU": 0.366}
    assert parse(THOR).watts == {"VDD_GPU": 1.962, "VDD_CPU_SOC_MSS": 5.887, "VIN_SYS_5V0": 5.635, "VIN": 19.78}
    assert parse("VDD_GPU 5517mW VIN 28548mW").watts == {"VDD_GPU": 5.517, "VIN": 28.548}
    assert parse(TX1).watts == {}, "memory in use is no power"
    assert parse(AGX_ORIN).watts["VDD_CPU_CV"] == -0.398, "a sensor's offset is told as it is"


def test_a_sensor_that_is_off_has_no_temperature() -> None:
    assert "CV0" not in parse(AGX_ORIN_OFF).temperatures
    assert len(parse(AGX_ORIN_OFF).temperatures) == 6


def test_no_total_is_made_up() -> None:
    assert total_of({"VDD_GPU_SOC": 3.0, "VDD_CPU_CV": 1.0}) is None, "a rail of the sum is missing"
    assert total_of({}) is None


@pytest.mark.parametrize("line", ["", "\n", "tegrastats: not found", "RAM 1/2MB", "CPU [] GR3D_FREQ % VDD_IN x/y A@C"])
def test_lines_that_tell_nothing(line: str) -> None:
    assert parse(line) == Stats()


def program(folder: Path, lines: list[str], every: float = 0.02, trap: str = "") -> Path:
    """A tegrastats that prints these lines in turn, and keeps its arguments and its number."""
    folder.mkdir(exist_ok=True)
    (folder / "lines").write_text("".join(f"{line}\n" for line in lines))
    path = folder / "tegrastats"
    path.write_text(
        f'#!/bin/sh\n{trap}\necho "$@" > "{folder}/arguments"\necho $$ >> "{folder}/numbers"\n'
        f'while :; do while read -r line; do echo "$line" || exit; sleep {every}; done < "{folder}/lines"; done\n'
    )
    path.chmod(0o755)
    return folder


def running(folder: Path) -> list[int]:
    """Those that were started and have not ended."""
    found = []
    for number in (folder / "numbers").read_text().split():
        state = Path(f"/proc/{number}/stat")
        if state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z":
            found.append(int(number))
    return found


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is first on PATH."""
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return tmp_path / "bin"


def test_what_it_tells_is_told(path: Path, tmp_path: Path) -> None:
    program(path, [AGX_ORIN_DLA, AGX_ORIN_OFF])
    with Watching(tmp_path, every=0.1, run=lambda _command: None) as watching:
        time.sleep(0.5)
    found = watching.found
    assert (path / "arguments").read_text().split() == ["--interval", "100"], "in milliseconds"
    assert found.mhz == (729, 2201)
    assert found.gpu_mhz == (306, 407)
    assert found.temperatures["tj"] == (38.0, 77.281)
    assert found.temperatures["CV0"] == (73.625, 73.625)
    assert found.total == ORIN_SUM
    assert 5.36 < found.watts[ORIN_SUM] < 22.43, "the mean of both lines"
    assert found.energy == (pytest.approx(found.watts[ORIN_SUM] * found.seconds), ORIN_SUM)
    assert found.silent == ("throttling",), "which it does not tell"
    assert running(path) == []


def test_the_zones_are_not_told_twice(path: Path, tmp_path: Path) -> None:
    zone = tmp_path / "sys/class/thermal/thermal_zone0"
    zone.mkdir(parents=True)
    (zone / "type").write_text("tj-thermal\n")
    (zone / "temp").write_text("38000\n")
    program(path, [ORIN_JETPACK_7])
    with Watching(tmp_path, every=0.05, run=lambda _command: None) as watching:
        time.sleep(0.3)
    assert "tj" in watching.found.temperatures
    assert "tj-thermal" not in watching.found.temperatures


def test_a_board_that_tells_no_power(path: Path, tmp_path: Path) -> None:
    program(path, [TX1.replace("GR3D 3%@76", "GR3D_FREQ 0%")])
    with Watching(tmp_path, every=0.05, run=lambda _command: None) as watching:
        time.sleep(0.3)
    assert watching.found.mhz == (408, 408)
    assert watching.found.silent == ("temperatures", "power or energy", "throttling", "the GPU's clock")
    assert watching.found.energy is None


def test_it_is_stopped_when_the_run_fails_and_when_it_will_not_end(path: Path, tmp_path: Path) -> None:
    program(path, [NANO], trap="trap '' TERM")
    with pytest.raises(ZeroDivisionError), Watching(tmp_path, every=0.05, run=lambda _command: None):
        time.sleep(0.2)
        assert len(running(path)) == 1
        raise ZeroDivisionError
    assert running(path) == []


def test_it_ends_when_the_process_that_reads_it_is_killed(path: Path, tmp_path: Path) -> None:
    program(path, [NANO], every=0.05)
    code = "import time; from zoo.exporter.timing.tegrastats import Tegrastats as T; T(0.05).start(); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code])
    for _ in range(100):
        time.sleep(0.1)
        if (path / "numbers").exists() and running(path):
            break
    assert running(path), "it was begun"
    process.send_signal(signal.SIGKILL)
    process.wait()
    for _ in range(50):
        if not running(path):
            break
        time.sleep(0.1)
    assert running(path) == []


@pytest.mark.parametrize("text", ["#!/no/such/interpreter\n", "#!/bin/sh\necho no tegra here >&2; exit 1\n"])
def test_one_that_does_not_run_tells_nothing(path: Path, text: str) -> None:
    path.mkdir()
    (path / "tegrastats").write_text(text)
    (path / "tegrastats").chmod(0o755)
    one = Tegrastats(0.05)
    one.start()
    time.sleep(0.1)
    assert one.stop() == []


def test_the_command_on_a_jetson(path: Path, exported_folders: dict[str, Path], tmp_path: Path, monkeypatch) -> None:
    """The whole way: the program beside a package that is measured, its joules, and that it is gone afterwards."""
    program(path, [XAVIER_NX_5], every=0.05)
    monkeypatch.setitem(ENVIRONMENT, "PATH", os.environ["PATH"])
    done = zoo("profile", exported_folders["onnx"], "--threads", "1", "--json", cwd=tmp_path)
    (device,) = as_json(done)["devices"]
    told = device["telemetry"]
    assert told["watts"]["VDD_IN"] == pytest.approx(2.763)
    assert told["total"] == "VDD_IN"
    assert told["gpu_mhz"] == [114, 114]
    assert told["temperatures"]["CPU"] == [46.5, 46.5]
    row = device["rows"][-1]
    if not told["joules"]:  # a machine with a counter of its own tells that
        assert device["energy_of"] == "VDD_IN"
        assert row["joules"] == pytest.approx(2.763 / row["per_second"], rel=0.1)
    assert running(path) == []
