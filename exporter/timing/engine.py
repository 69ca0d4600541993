"""The timing engine: the only place in zoo that starts a process to time something.

It starts workers (worker.py), decides their order, and keeps what they measured. It judges nothing: statistics.py
compares, the gates decide.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from typing import IO, Any, Self

from ...errors import UnavailableError
from .setup import Subject, TimingSetup
from .statistics import Measurement, Round, surely_slower

# -P: a folder `zoo` where the user is would be taken for ours
WORKER = (sys.executable, "-P", "-m", "zoo.exporter.timing.worker")
READY_S, BLOCK_S, ALONE_S = 300.0, 300.0, 3600.0
CONTROL = "control"  # the name of the subject that is measured twice, the second time
ALIKE = 0.03  # as a share: up to here a candidate is not surely slower


@dataclass(frozen=True)
class Look:
    """What is known while a measurement goes on, for a progress bar.

    Attributes:
        subject: the name of what is measured now.
        done, total: rounds.
        left: names of those that are still measured.
        found: what was measured so far.
    """

    subject: str
    done: int
    total: int
    left: tuple[str, ...]
    found: Mapping[str, Measurement]


def measure(
    subjects: Sequence[Subject],
    setup: TimingSetup,
    look: Callable[[Look], None] = lambda _look: None,
    stay: str = "",
) -> dict[str, Measurement]:
    """Time subjects in processes of their own, in rounds.

    Args:
        subjects: with names of their own. The one that `setup.control` names is measured a second time, as `control`.
        setup: how.
        look: is told what is known after each subject of each round.
        stay: the name of one that never leaves, such as what the others are compared with.

    Returns:
        A measurement by name; all were measured under the same conditions.

    Raises:
        UnavailableError: a process ended or hung; its last words are in the message.
    """
    by_name = {subject.name: subject for subject in subjects}
    if setup.control:
        by_name[CONTROL] = replace(by_name[setup.control], name=CONTROL)
    found = {name: Measurement(subject, setup, setup.threads_here, ()) for name, subject in by_name.items()}
    draw = random.Random(setup.seed)  # noqa: S311 - an order, no secret
    left = list(by_name)
    with ExitStack() as kept:
        runs: dict[str, Running] = {}
        for index in range(setup.rounds):
            order = list(left)
            draw.shuffle(order)
            if index % setup.lives == 0:
                kept.close()
                runs = _started([by_name[name] for name in order], setup, kept)
            for name, one in _round(index, order, runs, setup):
                found[name] = replace(found[name], rounds=(*found[name].rounds, one))
                look(Look(name, index, setup.rounds, tuple(left), found))
            if setup.leave_after and index + 1 >= setup.leave_after:
                racing = {name: found[name] for name in left if name != stay}
                left = [name for name in left if name not in surely_slower(racing, ALIKE)]
            look(Look("", index + 1, setup.rounds, tuple(left), found))
    return found


def measure_each(
    subjects: Sequence[Subject], setup: TimingSetup, look: Callable[[int, int], None] = lambda _done, _total: None
) -> Iterator[Measurement]:
    """Time one subject after the other in one process: for the many that take milliseconds, such as single layers.

    Raises:
        UnavailableError: the process ended or hung, with the subject's name.
    """
    with Worker(setup) as worker:
        for done, subject in enumerate(subjects, 1):
            running = Running(worker, subject)
            running.begin()
            running.imported()
            facts = running.open()
            yield Measurement(subject, setup, setup.threads_here, (Round(0, (tuple(running.block()),), facts),))
            running.close()
            look(done, len(subjects))


def _started(subjects: Sequence[Subject], setup: TimingSetup, stack: ExitStack) -> dict[str, Running]:
    """Workers that have their runtime: all import at once, but each loads and runs alone."""
    workers: dict[str, Worker] = {}
    found: dict[str, Running] = {}
    for subject in subjects:
        key = f"shared by {subject.shares}" if subject.shares and setup.lives > 1 else f"of {subject.name}"
        if key not in workers:
            workers[key] = stack.enter_context(Worker(setup))
        found[subject.name] = Running(workers[key], subject)
        found[subject.name].begin()
    for running in found.values():
        running.imported()
    return found


def _round(
    index: int, order: Sequence[str], runs: Mapping[str, Running], setup: TimingSetup
) -> Iterator[tuple[str, Round]]:
    """The blocks of one round, each subject's in its place."""
    # loaded in the order drawn too: of three processes of one file the first was 0.9 % slower than the second
    facts = {name: runs[name].open() for name in order}
    places = [*order, *reversed(order)] if setup.mirrored else list(order)
    blocks: dict[str, list[tuple[float, ...]]] = {name: [] for name in order}
    said = " ".join(name[0] for name in places)
    for place, name in enumerate(places):
        blocks[name].append(tuple(runs[name].block()))
        if name not in places[place + 1 :]:
            operators = {"operators": runs[name].operators()} if setup.operators else {}
            yield name, Round(index, tuple(blocks[name]), {**facts[name], "order": said, **operators})


class Running:
    """A subject in a worker.

    Args:
        worker: started.
        subject: what it is to run.
    """

    def __init__(self, worker: Worker, subject: Subject) -> None:
        self._worker, self._subject = worker, subject
        self._facts: dict[str, Any] | None = None

    def begin(self) -> None:
        """Have the worker import what the subject needs."""
        one = self._subject
        about = {"opener": one.opener, "given": dict(one.given), "batch": one.batch}
        self._ask("import", setup=asdict(self._worker.setup), **about)

    def imported(self) -> None:
        """Wait until it has the runtime."""
        self._answer(READY_S)

    def open(self) -> dict[str, Any]:
        """Have it load and warm up, once; and what that took."""
        if self._facts is None:
            self._ask("open")
            self._facts = self._answer(READY_S)
        return self._facts

    def block(self, **other: Any) -> list[float]:
        """Have it run a block; milliseconds."""
        self._ask("block", other=other)
        return self._answer(BLOCK_S)["times"]

    def operators(self) -> list[tuple[str, str, float]]:
        """Have it profile: name, kind and microseconds of each operator; empty where the runtime does not tell."""
        self._ask("operators", runs=self._worker.setup.operators)
        return [(name, kind, us) for name, kind, us in self._answer(BLOCK_S)["operators"]]

    def close(self) -> None:
        """Have it forget the subject."""
        self._ask("close")
        self._answer(READY_S)

    def _ask(self, what: str, **more: Any) -> None:
        self._worker.ask(self._subject.name, {"do": what, "subject": self._subject.name, **more})

    def _answer(self, seconds: float) -> dict[str, Any]:
        return self._worker.answer(self._subject.name, seconds)


class Worker:
    """A process that measures when asked; a context manager that ends it.

    Args:
        setup: how it measures.
        command: of the process.
    """

    def __init__(self, setup: TimingSetup, command: Sequence[str] = WORKER) -> None:
        self.setup, self._command = setup, list(command)

    def __enter__(self) -> Self:
        self._errors: IO[bytes] = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, env=_environment()
        )
        return self

    def __exit__(self, *error: object) -> None:
        self.close(10 if error[0] is None else 0.1)

    def close(self, patience: float = 10) -> None:
        """End the process; a second time does nothing."""
        if self._errors.closed:
            return
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
            self._process.wait(patience)
        except (subprocess.TimeoutExpired, OSError):
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._errors.close()

    def ask(self, name: str, what: Mapping[str, Any]) -> None:
        """Send it a line about a subject."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(what).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise self._ended(name) from None

    def answer(self, name: str, seconds: float) -> dict[str, Any]:
        """Wait for its line about a subject.

        Raises:
            UnavailableError: it ended, or did not answer in time; or it could not do what it was asked to.
        """
        import selectors

        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(seconds):
                raise UnavailableError(f"timing: {name} did not answer in {seconds:.0f} s", fix="see zoo doctor")
        line = self._process.stdout.readline()
        if not line:
            raise self._ended(name)
        answer = json.loads(line)
        if "error" in answer:
            raise UnavailableError(f"timing: {name}: {answer['error']}", fix="see zoo doctor")
        return answer

    def _ended(self, name: str) -> UnavailableError:
        code = self._process.wait()
        self._errors.seek(0)
        last = self._errors.read().decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
        return UnavailableError(f"timing: the process of {name} ended with {code}: {last[0]}", fix="zoo doctor")


@contextmanager
def opened(subject: Subject, setup: TimingSetup) -> Iterator[Running]:
    """A worker whose subject is loaded and warm, for what is not a comparison, such as images a second."""
    with Worker(setup) as worker:
        running = Running(worker, subject)
        running.begin()
        running.imported()
        running.open()
        yield running


def run_alone(command: Sequence[str], folder: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a process that times itself, such as a package that profiles itself, and return what it said.

    Args:
        command: of the process.
        folder: where it runs; None for here.
    """
    return subprocess.run(list(command), capture_output=True, text=True, check=False, cwd=folder, timeout=ALONE_S)


def _environment() -> dict[str, str]:
    """Ours; a user's folder stays importable for a model's own factory."""
    return {**os.environ, "PYTHONUNBUFFERED": "1"}
