"""Commands as processes of this machine: started, watched, stopped."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ..report.console import PROGRESS
from .command_line import Command

CHILD = "zoo.exporter.cli.child"
PATIENCE = 15.0  # seconds in which a command that is told to stop may end by itself


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        exit_code: of zoo; negative where a signal ended it.
        payload: what it printed as JSON; empty where it printed none.
        seconds: that it took.
        host: where it ran.
    """

    exit_code: int
    payload: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    host: str = ""


class Job(Protocol):
    """A command that was started."""

    @property
    def end(self) -> int | None:
        """A file descriptor that can be read from once it has ended; None where there is none."""
        ...

    def poll(self) -> Ended | None:
        """How it ended; None while it runs."""
        ...

    def stop(self) -> None:
        """Tell it to end, and see that it does."""
        ...

    def progress(self) -> tuple[str, int, int] | None:
        """What it says it is doing: what, done, in all."""
        ...


class Process:
    """A command in a process of this machine, its words in a log, its JSON in a file.

    Args:
        command: what to run.
        folder: where.
        log: is appended to.
        gpus: indices of those that it may see; None for all.
    """

    def __init__(self, command: Command, folder: Path, log: Path, gpus: tuple[int, ...] | None = None) -> None:
        self._begun = time.monotonic()
        self._files = tempfile.TemporaryDirectory(prefix="zoo-run-")
        place = Path(self._files.name)
        self._out, self._told = place / "out.json", place / "progress"
        task = {"parent": os.getpid(), "copy": command.copy, "arguments": command.arguments}
        environment = {**os.environ, PROGRESS: str(self._told)}
        if command.threads is not None:
            environment["OMP_NUM_THREADS"] = str(command.threads)
        if gpus is not None:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, gpus))
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8") as words, self._out.open("wb") as out:
            words.write(f"$ {command.line()}\n")
            words.flush()
            self._process = subprocess.Popen(
                [sys.executable, "-m", CHILD, json.dumps(task)], cwd=folder, env=environment,
                stdin=subprocess.DEVNULL, stdout=out, stderr=words, start_new_session=True,
            )  # fmt: skip
        self._end: int | None = None
        with contextlib.suppress(OSError, AttributeError):  # not on macOS, nor in every container
            self._end = os.pidfd_open(self._process.pid)

    @property
    def end(self) -> int | None:
        """Of Linux: pidfd_open(2)."""
        return self._end

    def poll(self) -> Ended | None:
        """How it ended; None while it runs."""
        code = self._process.poll()
        if code is None:
            return None
        self._close()
        try:
            payload = json.loads(self._out.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            payload = {}
        self._files.cleanup()
        return Ended(code, payload, time.monotonic() - self._begun, os.uname().nodename)

    def stop(self) -> None:
        """SIGTERM, and SIGKILL for all of its session when it does not end by itself."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
        self._close()
        self._files.cleanup()

    def _close(self) -> None:
        if self._end is not None:
            os.close(self._end)
            self._end = None

    def progress(self) -> tuple[str, int, int] | None:
        """The last line of its bar."""
        try:
            with self._told.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 400))
                lines = file.read().decode("utf-8", "replace").splitlines()
            what, done, total = json.loads(lines[-1])
            return str(what), int(done), int(total)
        except (OSError, ValueError, IndexError, TypeError):
            return None
