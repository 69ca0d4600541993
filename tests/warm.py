"""Commands without the seconds that a process takes to import torch: a child that has imported it forks for each.

The child has no thread and has computed nothing, so that a fork of it is what a fresh process is: its own working
directory, environment, streams and signals, and an interpreter that ends as any does. What a command is worth when it
starts from nothing is tested where that counts: the main job, pipelines, kills, streams.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

_IMPORTED = (
    "numpy", "PIL.Image", "onnx", "torch", "torch.export", "torch.onnx", "onnxscript", "torchvision",
    "rich.progress", "rich.table", "zoo.exporter.cli.app", "zoo.exporter.export", "zoo.exporter.checks.run",
    "zoo.exporter.quantize.search", "zoo.models.sources", "zoo.models.training.loop",
)  # fmt: skip


def run(arguments: Sequence[str], cwd: Path, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run `zoo` with arguments as subprocess.run would, with its output captured."""
    child = _child(environment["PYTHONWARNINGS"])
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        asked = {"argv": ["zoo", *arguments], "cwd": str(cwd), "env": dict(environment), "pid": os.getpid(),
                 "out": out.fileno(), "err": err.fileno()}  # fmt: skip
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(json.dumps(asked) + "\n")
        code = os.waitstatus_to_exitcode(int(child.stdout.readline()))
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode())
    return subprocess.CompletedProcess(asked["argv"], code, *texts)


@cache
def _child(warnings: str) -> subprocess.Popen[str]:
    """Return the process that forks; it ends with this one."""
    # one thread: those of OpenBLAS would be there from its import on, and a fork must have none
    environment = {**os.environ, "PYTHONWARNINGS": warnings, "OMP_NUM_THREADS": "1"}
    child = subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, env=environment
    )
    atexit.register(_end, child)
    return child


def _end(child: subprocess.Popen[str]) -> None:
    with child:  # which closes its pipes: it ends when nothing more can come
        pass


def _wait_for_commands() -> dict[str, Any] | None:
    """Fork for each command that comes, and say how it ended; in the fork, return the command."""
    told = os.fdopen(os.dup(1), "w", buffering=1)
    for line in sys.stdin:
        asked = json.loads(line)
        if not (pid := os.fork()):
            told.close()
            return asked
        told.write(f"{os.waitpid(pid, 0)[1]}\n")
    return None


def _become(asked: dict[str, Any]) -> None:
    """Take a command's directory, environment and streams."""
    os.chdir(asked["cwd"])
    sys.path[0] = asked["cwd"]  # as python -m puts it there
    os.environ.clear()
    os.environ.update(asked["env"])
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    for number, key in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"/proc/{asked['pid']}/fd/{asked[key]}", os.O_WRONLY | os.O_APPEND), number)
    sys.argv = asked["argv"]


def _main() -> None:
    import importlib

    from zoo.models.processors import limit_threads

    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    limit_threads(os.environ)  # as zoo.__main__ does before it imports anything
    for name in _IMPORTED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    assert len(os.listdir("/proc/self/task")) == 1, "a fork of a process with threads may wait for ever"
    asked = _wait_for_commands()
    if asked is not None:
        from zoo.__main__ import main

        _become(asked)
        main()


if __name__ == "__main__":
    _main()
