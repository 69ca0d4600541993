"""The process of one command: `python -m zoo.exporter.cli.child JSON`, which dies with the run that started it.

A run that is killed must not leave a command behind that writes into the folder which the next run takes up.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import shutil
import signal
import sys
from pathlib import Path

from ...models.processors import limit_threads

PR_SET_PDEATHSIG = 1


def main(text: str) -> int:
    """Copy a folder if that is asked for, then run a command of zoo in this process; its exit code."""
    task = json.loads(text)
    die_with(task["parent"])
    limit_threads(os.environ)  # on a node of a cluster nobody did before
    if task["copy"]:
        copy_whole(*map(Path, task["copy"]))
    arguments = [*task["arguments"], "--json"]
    sys.argv = ["zoo", *task["arguments"]]  # what evidence names as the command
    from .app import app
    from .main import run

    code = run(app, arguments)
    gc.freeze()  # as the command itself does: __main__.py
    return code


def die_with(parent: int) -> None:
    """Be killed when the parent dies (Linux: prctl(2)); one that died already cannot tell."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent and os.getppid() != parent:
        os._exit(9)


def copy_whole(source: Path, target: Path) -> None:
    """Copy a folder in one step; what was at `target` is replaced."""
    from ...atomic import staged

    with staged(target) as place:
        shutil.copytree(source, place, dirs_exist_ok=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
