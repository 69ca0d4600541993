"""Several processes: what torchrun says, and that they train what one process would."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch
from zoo.errors import UsageError
from zoo.models.training.world import ALONE, World, lost, world_of


def test_without_torchrun_there_is_one() -> None:
    assert world_of({}) == ALONE
    assert world_of({"RANK": "3"}) == ALONE
    assert ALONE.first
    assert ALONE.own(6) == slice(0, 6)
    assert ALONE.least(4) == 4
    assert ALONE.any(True)
    assert not ALONE.any(False)


def test_what_torchrun_sets_is_read() -> None:
    given = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}
    assert world_of(given) == World(5, 8, 1, 4)
    assert world_of(given).own(16) == slice(10, 12)
    for wrong in ({"RANK": "8"}, {"LOCAL_RANK": ""}, {"WORLD_SIZE": "-1"}, {"RANK": "one"}):
        with pytest.raises(UsageError, match="torchrun"):
            world_of({**given, **wrong})


def test_a_lost_connection_is_told_from_other_errors() -> None:
    assert lost(RuntimeError("[../gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:3052"))
    assert lost(RuntimeError("NCCL communicator was aborted on rank 1."))
    assert lost(torch.distributed.DistNetworkError("the client socket has timed out"))
    assert not lost(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


# without batch norms, whose statistics would be of half a batch, and without dropout
PLAIN = """
from torch import nn

def plain():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 16, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 49, 10)
    )
"""
DYING = """
import os, signal

class Dying(nn.Sequential):
    steps = 0

    def forward(self, x):
        self.steps += self.training
        if self.steps == 3 and os.environ.get("RANK") == "1":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(x)

"""
ARGUMENTS = [
    "train", "mine:plain", "--data", "digits", "--epochs", "2", "--json", "--set", "batch_size=64", "--set", "lr=0.05",
    "--set", "precision=fp32", "--set", "accumulate=2", "--set", "cutout=4", "--set", "average=0.9",
]  # fmt: skip


def zoo(cwd: Path, out: str, processes: int, *more: str) -> subprocess.CompletedProcess[str]:
    start = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--standalone"] if processes > 1 else []
    return subprocess.run(
        [sys.executable, *start, "-m", "zoo", *ARGUMENTS, "--out", out, *more],
        cwd=cwd, capture_output=True, text=True, timeout=240, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def test_two_processes_train_what_one_does(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(PLAIN)
    results, weights = [], []
    for processes in (1, 2):
        done = zoo(tmp_path, f"run{processes}", processes)
        assert done.returncode == 0, done.stderr
        results.append(json.loads(done.stdout))  # one object: the first process alone speaks
        weights.append(safetensors.torch.load_file(tmp_path / f"run{processes}" / "weights.safetensors"))
        assert done.stderr.count("epoch 1/2") == 1
    for name, one in weights[0].items():
        torch.testing.assert_close(one, weights[1][name], rtol=0, atol=1e-4)
    assert results[0]["accuracy"] == results[1]["accuracy"] > 0.5, "each validation image counted once"
    lines = [
        [json.loads(line) for line in (tmp_path / run / "metrics.jsonl").read_text().splitlines()]
        for run in ("run1", "run2")
    ]
    for one, two in zip(*lines, strict=True):
        assert one["loss"] == pytest.approx(two["loss"], abs=1e-4)
        assert one["train_accuracy"] == pytest.approx(two["train_accuracy"], abs=2e-3)
        assert one["curve"] == pytest.approx(two["curve"], abs=1e-4)
    run = json.loads((tmp_path / "run2" / "run.json").read_text())
    assert run["device"] == "cpu, fp32, 2 processes"
    assert not (tmp_path / "run2" / "checkpoint.safetensors").exists()


@pytest.mark.slow
def test_a_folder_that_is_taken_ends_all_processes_at_once(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(PLAIN)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("years of work")
    begun = time.monotonic()
    done = zoo(tmp_path, "run", 2)
    assert time.monotonic() - begun < 29, "none waits for another until torchrun kills it"
    assert done.returncode != 0
    assert "bug in zoo" not in done.stderr
    assert done.stdout.count('{"ok"') == 1, "the first process alone prints the object"
    assert "run is not empty" in done.stdout


@pytest.mark.slow
@pytest.mark.enable_socket  # to find a free port
def test_a_process_whose_partner_is_gone_says_so(tmp_path: Path) -> None:
    """A planted fault: the second process is killed in its third step, as by a kernel short of memory."""
    source = PLAIN.replace("def plain", f"{DYING}def plain").replace("return nn.Sequential(", "return Dying(")
    (tmp_path / "mine.py").write_text(source)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # started here and not by torchrun, which may end the first process before it speaks
    own = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    first, second = (
        subprocess.Popen(
            [sys.executable, "-m", "zoo", *ARGUMENTS, "--out", "run"], cwd=tmp_path, text=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            env={**os.environ, **own, "OMP_NUM_THREADS": "1", "RANK": rank, "LOCAL_RANK": rank},
        ) for rank in "01"
    )  # fmt: skip
    _, told = first.communicate(timeout=240)
    second.communicate(timeout=60)
    assert second.returncode == -signal.SIGKILL
    assert first.returncode == 3
    assert "another process of this training ended" in told
    assert "bug in zoo" not in told


@pytest.mark.slow
def test_a_batch_that_cannot_be_shared_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(PLAIN)
    done = zoo(tmp_path, "run", 2, "--set", "batch_size=63", "--set", "accumulate=1")
    assert done.returncode != 0
    assert "a batch of 63 images cannot be shared by 2 processes" in done.stdout
    assert not (tmp_path / "run" / "run.json").exists()
