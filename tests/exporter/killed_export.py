"""Helper of test_kill.py, run as a program: export, and die by SIGKILL before the K-th change of the file system.

Every way in which an export changes the disk is counted: open for writing, write, fsync, mkdir, rename, exchange,
unlink and rmtree's steps. The parent forks one child per K from a process that has imported everything once.
"""

from __future__ import annotations

import builtins
import io
import os
import pathlib
import signal
import sys
from pathlib import Path

import torch
from zoo import atomic
from zoo.exporter.artifact.golden import make_golden
from zoo.exporter.backends.options import ExportOptions
from zoo.exporter.backends.registry import get_backend

sys.path.insert(0, str(Path(__file__).parents[1]))
torch.set_num_threads(1)


def count_down(limit: int) -> list[int]:
    """Patch everything that changes the disk so that the process dies just before change number `limit`."""
    seen = [0]

    def change() -> None:
        seen[0] += 1
        if seen[0] == limit:
            os.kill(os.getpid(), signal.SIGKILL)

    def wrap(owner: object, name: str) -> None:
        real = getattr(owner, name)

        def counted(*args: object, **kwargs: object) -> object:
            change()
            return real(*args, **kwargs)

        setattr(owner, name, counted)

    for name in ("fsync", "rename", "replace", "mkdir", "unlink", "rmdir", "write"):
        wrap(os, name)
    wrap(atomic, "exchange")
    wrap(torch.jit, "save")
    for owner in (builtins, io):
        real_open = owner.open

        def counted_open(file: object, mode: str = "r", *args: object, real: object = real_open, **kwargs: object):
            if set(mode) & set("wax+"):
                change()
            return real(file, mode, *args, **kwargs)

        owner.open = counted_open
    wrap(pathlib.Path, "write_text")
    return seen


def main(folder: Path, old: bool) -> None:
    from conftest import tiny_model

    backend, options = get_backend("torchscript"), ExportOptions()
    models = [tiny_model(width=0.125), tiny_model("mobilenet_v3_small")]
    goldens = [make_golden(model, None) for model in models]
    limit = 0
    while True:
        limit += 1
        final = folder / str(limit) / "artifact"
        if old:
            backend.export(models[0], goldens[0], options, final)
        child = os.fork()
        if child == 0:
            seen = count_down(limit)
            backend.export(models[1], goldens[1], options, final)
            os.write(1, b"")
            os._exit(7 if seen[0] < limit else 9)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            assert os.WEXITSTATUS(status) == 7, status
            break
    sys.stdout.write(f"{limit - 1}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] == "old")
