"""A pipeline on a real Ray cluster of two nodes, started here."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import ENVIRONMENT, as_json

pytest.importorskip("ray", reason="Ray is an extra")
pytestmark = [pytest.mark.enable_socket, pytest.mark.timeout(600)]  # of this machine's own addresses

# Started outside of pytest's process, which turns the warnings of Ray into errors. It dies with its stdin.
CLUSTER = """
import json, sys
from ray.cluster_utils import Cluster
port, own_head = int(sys.argv[1]), sys.argv[2] == "own-head"
cluster = Cluster(initialize_head=True, head_node_args=dict(
    num_cpus=0 if own_head else 1, include_dashboard=False, include_log_monitor=False, ray_client_server_port=port))
nodes = {"plain": cluster.add_node(num_cpus=1) if own_head else cluster.head_node,
         "board": cluster.add_node(num_cpus=1, resources={"board": 1})}
print(json.dumps({name: node.node_id for name, node in nodes.items()}), flush=True)
for line in sys.stdin:
    cluster.remove_node(nodes.pop(line.strip()), allow_graceful=False)
    print("killed", flush=True)
cluster.shutdown()
"""
# A user's own model, which leaves word of where it was made, and hangs there once if it is told to.
MODEL = """
import json, os, pathlib, time
import torch, zoo
THERE = pathlib.Path({shared!r})
def make():
    (THERE / f"{{time.time_ns()}}.json").write_text(json.dumps([zoo.__file__, os.environ.get("OMP_NUM_THREADS")]))
    try:
        (THERE / "hang").rename(THERE / "hangs")
    except FileNotFoundError:
        pass
    else:
        time.sleep(500)
    torch.manual_seed(1)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1),
                               torch.nn.Flatten(), torch.nn.Linear(4, 10))
"""
PIPELINE = """
[pipeline]
out = "out"
store = "{store}"

[steps.models]
do = "source"
source = "net:make"
input = "3x32x32"

[steps.graphs]
do = "export"
from = "models"
to = "onnx"
{more}
"""


STARTED: list[subprocess.Popen[str]] = []


@pytest.fixture(autouse=True)
def reaped() -> Iterator[None]:
    """No run outlives its test, also where that fails."""
    yield
    while STARTED:
        process = STARTED.pop()
        if process.poll() is None:
            process.kill()
            process.communicate()


@dataclass
class Nodes:
    """A cluster.

    Attributes:
        address: for --on.
        ids: of its nodes, by our names.
        process: that holds it.
    """

    address: str
    ids: dict[str, str]
    process: subprocess.Popen[str]

    def kill(self, name: str) -> None:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{name}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "killed\n"


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def begin_cluster(elsewhere: Path, head: str = "") -> Nodes:
    """Two nodes; with own-head they both can be killed, for the head is a third that does nothing else."""
    port = free_port()
    environment = {**ENVIRONMENT, "RAY_USAGE_STATS_ENABLED": "0", "ZOO_TEST": str(port)}
    process = subprocess.Popen(
        [sys.executable, "-c", CLUSTER, str(port), head], cwd=elsewhere, env=environment, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout
    line = process.stdout.readline()
    if not line:
        pytest.fail(f"the cluster did not start: {process.communicate()[1][-2000:]}")
    return Nodes(f"ray://127.0.0.1:{port}", json.loads(line), process)


def end_cluster(nodes: Nodes) -> None:
    try:
        nodes.process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        nodes.process.kill()
        nodes.process.communicate()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    nodes = begin_cluster(tmp_path_factory.mktemp("cluster"))
    yield nodes
    end_cluster(nodes)


@dataclass
class Site:
    """A pipeline's folder, and one that all nodes see."""

    folder: Path
    shared: Path

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "zoo", "run", "pipeline.toml", "--json", *arguments]
        process = subprocess.Popen(command, cwd=self.folder, env=ENVIRONMENT, text=True, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE)  # fmt: skip
        STARTED.append(process)
        return process

    def run(self, *arguments: str) -> dict[str, Any]:
        process = self.start(*arguments)
        stdout, stderr = process.communicate(timeout=300)
        return as_json(subprocess.CompletedProcess([], process.returncode, stdout, stderr))

    def words(self) -> list[list[str]]:
        """What the model left: where zoo was imported from, and threads."""
        return [json.loads(path.read_text()) for path in sorted(self.shared.glob("*.json"))]

    def forget(self) -> None:
        for path in self.shared.glob("*.json"):
            path.unlink()


def make_site(folder: Path, more: str = "") -> Site:
    site = Site(folder / "mine", folder / "shared")
    for one in (site.folder, site.shared):
        one.mkdir()
    (site.folder / "pipeline.toml").write_text(PIPELINE.format(store=folder / "store", more=more))
    (site.folder / "net.py").write_text(MODEL.format(shared=str(site.shared)))
    return site


def wait_for_the_hang(site: Site, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 200
    while not (site.shared / "hangs").exists():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            pytest.fail(f"the step did not begin: {process.communicate()}")
        time.sleep(0.1)


def states(payload: dict[str, Any]) -> dict[str, str]:
    return {node["id"]: node["state"] for node in payload["nodes"]}


ROUTED = """
[steps.onboard]
do = "export"
from = "models"
to = "torchscript"
resources = {board = 1}

[steps.nowhere]
do = "export"
from = "models"
to = "torchscript"
precision = "fp16"
resources = {press = 2}

[steps.types]
do = "export"
from = "models"
to = "trt"
accelerator = ["T4", "A100"]
"""


@pytest.mark.slow
def test_steps_go_where_their_resources_are_and_leave_what_one_machine_leaves(cluster: Nodes, tmp_path: Path) -> None:
    site = make_site(tmp_path, ROUTED)
    payload = site.run("--on", cluster.address)
    found = states(payload)
    assert found.pop("sources/make") == "cached"
    assert found == {
        "exports/make/onnx-fp32": "done",
        "exports/make/torchscript-fp32": "done",
        "exports/make/torchscript-fp16": "lacking",
        "graphs/make/trt-fp32": "done",
        "exports/make/trt-fp32-T4": "lacking",
        "exports/make/trt-fp32-A100": "lacking",
    }
    assert payload["exit_code"] == 3
    reasons = {node["id"]: node["reason"] for node in payload["nodes"]}
    assert reasons["exports/make/torchscript-fp16"] == "no node of the cluster has the resource press"
    assert "GPU of type A100" in reasons["exports/make/trt-fp32-A100"]
    words = site.words()
    assert len(words) >= 3
    for place, threads in words:
        assert "py_modules_files" in place, "a worker takes zoo from the wheel"
        assert threads == "1"
    log = (site.folder / "out/logs/exports/make/torchscript-fp32.log").read_text()
    assert log.startswith("$ OMP_NUM_THREADS=1 zoo export net:make")
    assert f"Ray's node {cluster.ids['board']}\n" in log
    assert not list((tmp_path / "store/unnamed").glob("*/*"))
    assert not list((tmp_path / "store/notes").glob("*"))
    site.forget()

    again = site.run()  # here, without Ray: what was made there is there
    assert site.words() == []
    assert {name for name, state in states(again).items() if state == "cached"} == {
        "sources/make", "exports/make/onnx-fp32", "graphs/make/trt-fp32", "exports/make/torchscript-fp32",
    }  # fmt: skip

    (tmp_path / "local").mkdir()
    here = make_site(tmp_path / "local")
    here.run()
    name = "out/exports/make/net-make/onnx-fp32"
    for file in ("model.onnx", "weights.safetensors"):
        assert (here.folder / name / file).read_bytes() == (site.folder / name / file).read_bytes()


@pytest.mark.slow
def test_a_local_cluster_begins_and_ends_with_the_run(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    text = (site.folder / "pipeline.toml").read_text().replace('out = "out"', 'out = "out"\ncores = 1')
    (site.folder / "pipeline.toml").write_text(text)
    mark = f"ZOO_TEST={tmp_path.name}-{os.getpid()}"
    command = [sys.executable, "-m", "zoo", "run", "pipeline.toml", "--json", "--on", "ray", "--dry-run"]
    name, _, value = mark.partition("=")
    done = subprocess.run(command, cwd=site.folder, env={**ENVIRONMENT, name: value}, capture_output=True, text=True,
                          timeout=200, check=False)  # fmt: skip
    assert states(as_json(done))["exports/make/onnx-fp32"] == "waiting", done.stderr
    deadline = time.monotonic() + 30
    while left := [path for path in Path("/proc").glob("[0-9]*") if _holds(path / "environ", mark.encode())]:
        assert time.monotonic() < deadline, left
        time.sleep(0.2)


def _holds(path: Path, mark: bytes) -> bool:
    try:
        return mark in path.read_bytes()
    except OSError:
        return False


@pytest.mark.slow
def test_a_dry_run_tells_what_the_cluster_lacks_and_writes_nothing(cluster: Nodes, tmp_path: Path) -> None:
    site = make_site(tmp_path, ROUTED)
    payload = site.run("--on", cluster.address, "--dry-run")
    assert set(states(payload).values()) == {"cached", "waiting", "lacking"}
    assert not (site.folder / "out").exists()


@pytest.mark.slow
def test_a_node_that_dies_in_the_middle_loses_nothing_but_time(tmp_path: Path) -> None:
    nodes = begin_cluster(tmp_path, "own-head")
    try:
        site = make_site(tmp_path)
        (site.shared / "hang").touch()
        process = site.start("--on", nodes.address)
        wait_for_the_hang(site, process)
        time.sleep(1)
        (note,) = (tmp_path / "store/notes").glob("*.json")
        first = json.loads(note.read_text())["place"]
        lost = next(name for name, one in nodes.ids.items() if one == first)
        nodes.kill(lost)
        stdout, stderr = process.communicate(timeout=300)
        payload = as_json(subprocess.CompletedProcess([], process.returncode, stdout, stderr))
        assert states(payload)["exports/make/onnx-fp32"] == "done", payload
        assert payload["exit_code"] == 0
        left = nodes.ids["board" if lost == "plain" else "plain"]
        log = (site.folder / "out/logs/exports/make/onnx-fp32.log").read_text()
        assert "attempt 1 of 4" in log
        assert f"Ray's node {left}\n" in log, "the second attempt was elsewhere"
        assert len(site.words()) == 2
        assert not list((tmp_path / "store/unnamed").glob("*/*"))
    finally:
        end_cluster(nodes)


@pytest.mark.slow
def test_sigterm_ends_the_tasks(cluster: Nodes, tmp_path: Path) -> None:
    site = make_site(tmp_path)
    (site.shared / "hang").touch()
    process = site.start("--on", cluster.address)
    wait_for_the_hang(site, process)
    mark = f"ZOO_TEST={cluster.address.rpartition(':')[2]}\0".encode()
    hanging = [path for path in Path("/proc").glob("[0-9]*")
               if _holds(path / "cmdline", b"zoo.exporter.cli.child") and _holds(path / "environ", mark)]  # fmt: skip
    assert hanging, "the command was not found"
    process.terminate()
    process.communicate(timeout=120)
    assert process.returncode == 143
    deadline = time.monotonic() + 30
    while any(path.exists() for path in hanging):
        assert time.monotonic() < deadline, "a command goes on without its run"
        time.sleep(0.1)
    assert not (site.folder / "out/exports").exists()


@pytest.mark.parametrize(
    ("on", "code", "words"),
    [
        ("mars", 2, "--on mars is not a place where a pipeline can run; local, ray, or ray://HOST:PORT"),
        ("ray://nobody", 2, "names no port"),
        ("ray://127.0.0.1:1", 3, "no Ray cluster at ray://127.0.0.1:1: "),
    ],
)
def test_a_place_that_cannot_be_had_is_said_soon(on: str, code: int, words: str, tmp_path: Path) -> None:
    site = make_site(tmp_path)
    begun = time.monotonic()
    payload = site.run("--on", on)
    assert time.monotonic() - begun < 60
    assert payload["exit_code"] == code
    error = payload["error"]
    assert words in f"{error['message']}; {error['fix']}"


def test_a_cluster_needs_a_store(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    text = (site.folder / "pipeline.toml").read_text()
    (site.folder / "pipeline.toml").write_text("\n".join(line for line in text.splitlines() if "store" not in line))
    payload = site.run("--on", "ray://127.0.0.1:1")
    assert payload["exit_code"] == 2
    assert "has no store" in payload["error"]["message"]


def test_neither_ray_nor_fsspec_is_loaded_where_nobody_asked() -> None:
    code = ("import sys, zoo.exporter.cli.app, zoo.exporter.pipeline.scheduler, zoo.exporter.pipeline.serialize; "
            "print(sorted({'ray', 'fsspec', 'torch'} & set(sys.modules)))")  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_without_ray_the_install_command_is_said(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text(
        "import importlib.util as u\nfind = u.find_spec\n"
        "u.find_spec = lambda name, *more: None if name == 'ray' else find(name, *more)\n"
    )
    path = os.pathsep.join([str(hidden), ENVIRONMENT.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "zoo", "run", "pipeline.toml", "--on", "ray", "--json"], cwd=site.folder,
        env={**ENVIRONMENT, "PYTHONPATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    payload = as_json(done)
    assert payload["exit_code"] == 3
    assert payload["error"]["fix"] == 'pip install "zoo-export[ray]"'


def test_a_head_that_was_too_slow_is_asked_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    from zoo.exporter.pipeline.cluster import ray as ours

    asked: list[dict[str, Any]] = []

    def slow(**options: Any) -> None:
        asked.append(options)
        if len(asked) < answers:
            raise ConnectionAbortedError("Initialization failure from server")

    monkeypatch.setattr(ours.ray, "init", slow)
    answers = 2
    ours.begin({"address": "ray://x:1"})
    assert asked == [{"address": "ray://x:1"}] * 2
    asked.clear()
    answers = 3
    with pytest.raises(ConnectionAbortedError):
        ours.begin({})
