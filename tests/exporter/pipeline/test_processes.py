"""The real command, in processes: made, not made again, killed, interrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ENVIRONMENT, as_json, need, zoo
from zoo.exporter.artifact.folder import load_artifact
from zoo.exporter.pipeline import scheduler as running
from zoo.exporter.pipeline.command_line import Command
from zoo.exporter.pipeline.local_process import Process
from zoo.exporter.runtime.container import Package

PIPELINE = """
[pipeline]
out = "out"
data = "digits"

[steps.models]
do = "source"
source = "mobilenet_v3_small"
weights = "random"
input = "3x32x32"

[steps.artifacts]
do = "export"
from = "models"
to = ["onnx", "trt"]

[steps.bundle]
do = "package"
from = "artifacts"
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "pipeline.toml").write_text(PIPELINE)
    return tmp_path


def start(place: Path) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-m", "zoo", "run", "pipeline.toml"], cwd=place, env=ENVIRONMENT,
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)  # fmt: skip


def children(parent: int) -> list[int]:
    """Processes whose parent this is, from /proc."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent:
            found.append(int(stat.parent.name))
    return found


def until(what, seconds: float = 60.0):
    begun = time.monotonic()
    while time.monotonic() - begun < seconds:
        found = what()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError("it did not come to pass")


def gone(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_it_is_made_once(place: Path) -> None:
    plan = as_json(zoo("run", "pipeline.toml", "--dry-run", "--json", cwd=place))
    assert not (place / "out").exists(), "a look writes nothing"
    command = next(one["command"] for one in plan["nodes"] if one["id"] == "exports/mobilenet_v3_small/onnx-fp32")
    assert command.endswith("--input 3x32x32 --to onnx --data digits --out out/exports/mobilenet_v3_small")
    done = zoo("run", "pipeline.toml", "--json", cwd=place)
    found = as_json(done)
    assert done.returncode == 3, done.stderr
    states = {one["id"]: one["state"] for one in found["nodes"]}
    assert states["exports/mobilenet_v3_small/trt-fp32"] == "lacking"
    assert states["graphs/mobilenet_v3_small/trt-fp32"] == "done"
    assert states["packages/mobilenet_v3_small"] == "done"
    with Package(place / "out/packages/mobilenet_v3_small.zoo") as package:
        assert package.verify_all() > 10
    again = as_json(zoo("run", "pipeline.toml", "--json", cwd=place))
    assert {one["state"] for one in again["nodes"]} == {"cached", "lacking"}
    status = zoo("run", "pipeline.toml", "--status", cwd=place)
    assert status.returncode == 0
    assert "cached" in status.stderr
    cleaned = zoo("run", "pipeline.toml", "--clean", cwd=place)
    assert cleaned.returncode == 0, cleaned.stderr
    assert [path.name for path in place.iterdir()] == ["pipeline.toml"]


def test_the_parent_imports_no_torch(place: Path) -> None:
    code = ("import sys; from zoo.exporter.cli.app import app; from zoo.exporter.cli.main import run; "
            "run(app, ['run', 'pipeline.toml', '--dry-run', '--json']); "
            "assert not {'torch', 'onnx', 'onnxruntime', 'plotly'} & set(sys.modules)")  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], cwd=place, capture_output=True, text=True, check=False,
                          env=ENVIRONMENT)  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_a_killed_run_takes_its_commands_with_it_and_is_gone_on_with(place: Path) -> None:
    process = start(place)
    (child, *_) = until(lambda: children(process.pid))
    until(lambda: (place / "out/logs").is_dir())
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    until(lambda: gone(child), 10)
    found = as_json(zoo("run", "pipeline.toml", "--json", cwd=place))
    assert found["exit_code"] == 3
    for path in (place / "out").rglob("artifact.json"):
        load_artifact(path.parent)
    assert not list((place / "out").rglob("*.tmp")), "what was half made is removed by the next that writes there"


def test_ctrl_c_ends_its_commands(place: Path) -> None:
    process = start(place)
    (child, *_) = until(lambda: children(process.pid))
    until(lambda: (place / "out/logs").is_dir())
    process.send_signal(signal.SIGINT)
    _, words = process.communicate(timeout=30)
    assert process.returncode == 130, words
    assert "interrupted" in words
    assert "go on with: zoo run pipeline.toml" in words
    until(lambda: gone(child), 10)  # one that was just being started dies with its parent, a moment later


def test_a_second_run_beside_it_is_refused(place: Path) -> None:
    process = start(place)
    until(lambda: (place / "out/.zoo/begun").is_dir())
    other = zoo("run", "pipeline.toml", "--json", cwd=place)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 143
    assert other.returncode == 2
    assert "another zoo run" in json.loads(other.stdout)["error"]["message"]


def test_a_run_sleeps_until_a_command_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "LOOK", 60.0)
    monkeypatch.setattr(running, "PAUSE", 60.0)
    job = Process(Command(("list", "models")), tmp_path, tmp_path / "log")
    need(job.end is not None, "pidfd_open")
    begun = time.monotonic()
    running.rest([job])
    assert time.monotonic() - begun < 50, "its end woke the run"
    ended = job.poll()
    assert ended is not None
    assert ended.exit_code == 0
    assert job.end is None, "and nothing is left open"


def test_a_command_whose_parent_is_gone_does_not_begin(tmp_path: Path) -> None:
    task = json.dumps({"parent": os.getpid() + 1_000_000, "copy": None, "arguments": ["list", "models"]})
    done = subprocess.run([sys.executable, "-m", "zoo.exporter.cli.child", task], capture_output=True, check=False)
    assert done.returncode == 9
    assert done.stdout == b""


@pytest.mark.slow
def test_kills_at_random_moments(tmp_path: Path) -> None:
    """A shorter form of `benchmarks/pipeline.py kills`: the example of a small network, and its result as without."""
    script = Path(__file__).parents[3] / "benchmarks" / "pipeline.py"
    command = [sys.executable, str(script), "kills", "3", "15", "--small"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 kills" in done.stdout
