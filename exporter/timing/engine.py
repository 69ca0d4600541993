"""Runs the rounds of a latency check: processes, their order, and what they measured.

Everything that is judged is judged in latency.py; here is only what touches the machine.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import IO, Any, Self

from ...errors import UnavailableError, UsageError
from .machine import cores_here
from .statistics import Compared, Side

# -P: a folder `zoo` where the user is would be taken for ours
WORKER = (sys.executable, "-P", "-m", "zoo.exporter.timing.worker")
BLOCK_MS, LEAST_RUNS = 80.0, 5
READY_S, BLOCK_S = 300.0, 300.0
THROUGHPUT_MS, THROUGHPUT_PROCESSES = 500.0, 3


@dataclass(frozen=True)
class LatencyOptions:
    """How latency is measured.

    Attributes:
        rounds: processes a side.
        images: in a batch.
        threads: of the CPU; None for as many as this process may use.
        batch_sizes: for which the throughput is measured too.
        against: folder of the artifact that others must not be slower than, or "eager"; None for what suits each
            (`speed.fp32_of`).
        seed: of the order.
    """

    rounds: int = 12
    images: int = 1
    threads: int | None = None
    batch_sizes: tuple[int, ...] = ()
    against: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value in (("rounds", self.rounds), ("images", self.images), ("threads", self.threads or 1)):
            if value < 1:
                raise UsageError(f"{name} must be at least 1, got {value}")
        if any(size < 1 for size in self.batch_sizes):
            raise UsageError(f"batch sizes must be at least 1, got {', '.join(map(str, self.batch_sizes))}")


@dataclass(frozen=True)
class Task:
    """One side: the artifact in a folder, or the eager reference of it.

    Attributes:
        name: for people.
        folder: of the artifact.
        side: artifact or reference.
        command: of the process, without its task.
    """

    name: str
    folder: str
    side: str = "artifact"
    command: tuple[str, ...] = WORKER


def compare(
    artifact: Task,
    reference: Task,
    options: LatencyOptions,
    device: str,
    progress: Callable[[int, int], None],
    largest: int | None = None,
) -> Compared:
    """Measure an artifact, its reference and the reference again, in so many rounds.

    Args:
        artifact: what is judged.
        reference: what it is compared with.
        options: how.
        device: cpu or cuda.
        progress: is told rounds done, rounds in all.
        largest: batch the artifact takes, where that is known.

    Raises:
        UnavailableError: a process ended or hung; its last words are in the message.
    """
    sides = {"artifact": artifact, "reference": reference, "control": reference}
    draw = random.Random(options.seed)  # noqa: S311 - an order, no secret
    seen: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
    orders: list[str] = []
    threads = options.threads or len(cores_here())
    for index in range(options.rounds):
        order = list(sides)
        draw.shuffle(order)
        order += reversed(order)  # ABBA: what drifts during a round cancels
        orders.append(" ".join(name[0] for name in order))
        for name, result in _round(sides, order, device, threads, options.images).items():
            seen[name].append(result)
        progress(index + 1, options.rounds)
    found = {name: _side(sides[name].name, results) for name, results in seen.items()}
    sizes = [size for size in options.batch_sizes if largest is None or size <= largest]
    notes = [f"a batch of {size} is more than it takes" for size in options.batch_sizes if size not in sizes]
    rates = tuple(_throughput(artifact, size, device, threads) for size in sizes)
    return Compared(found["artifact"], found["reference"], found["control"], device, rates, tuple(notes), tuple(orders))


def _round(
    sides: dict[str, Task], order: Sequence[str], device: str, threads: int, images: int
) -> dict[str, dict[str, Any]]:
    """One fresh process a side, and the blocks of each in this order."""
    with ExitStack() as stack:
        # loaded in the order drawn too: of three processes of one file the first was 0.9 % slower than the second
        workers = {
            name: stack.enter_context(Worker(sides[name], device, threads, images)) for name in dict.fromkeys(order)
        }
        results: dict[str, dict[str, Any]] = {}
        for worker in workers.values():
            worker.imported()
        for name, worker in workers.items():  # they import at once, but load, warm up and measure one by one
            results[name] = {**worker.ready(), "blocks": []}
        for name in order:
            results[name]["blocks"].append(workers[name].block(BLOCK_MS, LEAST_RUNS))
    return results


def _side(name: str, results: Sequence[dict[str, Any]]) -> Side:
    def middle(key: str) -> Any:
        values = [result[key] for result in results if result.get(key) is not None]
        return statistics.median(values) if values else None

    return Side(
        name=name,
        # the geometric mean of a mirrored pair of blocks: that is their mean on the scale of log-ratios
        rounds=tuple(
            statistics.geometric_mean([statistics.median(block) for block in result["blocks"]]) for result in results
        ),
        times=tuple(one for result in results for block in result["blocks"] for one in block),
        load_ms=middle("load_ms"),
        first_ms=middle("first_ms"),
        peak_memory_mb=middle("peak_memory_mb"),
        upload_ms=middle("upload_ms"),
        fetch_ms=middle("fetch_ms"),
        unstable=sum(not result["stable"] for result in results),
    )


def _throughput(task: Task, images: int, device: str, threads: int) -> dict[str, Any]:
    """Images a second at a batch size: the median of three processes, with the least and the most."""
    rates: list[float] = []
    for _ in range(THROUGHPUT_PROCESSES):
        with Worker(task, device, threads, images) as worker:
            worker.imported()
            worker.ready()
            rates.append(1e3 * images / statistics.median(worker.block(THROUGHPUT_MS, LEAST_RUNS)))
    return {
        "batch": images,
        "images_per_s": statistics.median(rates),
        "images_per_s_low": min(rates),
        "images_per_s_high": max(rates),
    }


class Worker:
    """A process that measures when asked; a context manager that ends it."""

    def __init__(self, task: Task, device: str, threads: int, images: int) -> None:
        self._name = task.name
        given = {"folder": task.folder, "side": task.side, "device": device, "threads": threads, "images": images}
        self._command = [*task.command, json.dumps(given)]

    def __enter__(self) -> Self:
        self._errors: IO[bytes] = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, env=_environment()
        )
        return self

    def __exit__(self, *error: object) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
            self._process.wait(10 if error[0] is None else 0.1)
        except (subprocess.TimeoutExpired, OSError):
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._errors.close()

    def imported(self) -> None:
        """Wait until it has its runtime."""
        self._line(READY_S)

    def ready(self) -> dict[str, Any]:
        """Have it load and warm up."""
        self._ask({})
        return self._line(READY_S)

    def block(self, milliseconds: float, least: int) -> list[float]:
        """Have it run for so long."""
        self._ask({"ms": milliseconds, "least": least})
        return self._line(BLOCK_S)["times"]

    def _ask(self, what: dict[str, float]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(what).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise self._ended() from None

    def _line(self, seconds: float) -> dict[str, Any]:
        import selectors

        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(seconds):
                raise UnavailableError(f"latency: {self._name} did not answer in {seconds:.0f} s", fix="see zoo doctor")
        line = self._process.stdout.readline()
        if not line:
            raise self._ended()
        answer = json.loads(line)
        if "error" in answer:
            raise UnavailableError(f"latency: {self._name}: {answer['error']}", fix="see zoo doctor")
        return answer

    def _ended(self) -> UnavailableError:
        code = self._process.wait()
        self._errors.seek(0)
        last = self._errors.read().decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
        return UnavailableError(f"latency: the process of {self._name} ended with {code}: {last[0]}", fix="zoo doctor")


def _environment() -> dict[str, str]:
    """Ours; a user's folder stays importable for a model's own factory."""
    return {**os.environ, "PYTHONUNBUFFERED": "1"}


def as_reference(task: Task) -> Task:
    """The eager reference of the artifact in a task's folder."""
    return replace(task, name="the eager reference", side="reference")
