"""Commands as tasks of a Ray cluster. Only `ray.py` imports this.

Ray finds a place for each and says when one is lost; what is begun again, and where, is decided here, so that one
attempt can never be taken for another.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import ray
import ray.exceptions as raised

from .... import atomic
from ....errors import BUG, IntegrityError, UnavailableError, ZooError, one_line
from ..command_line import Command
from ..expand import Node
from ..job_inputs import luggage
from ..kinds import Check, Export, Package, Prune
from ..local_process import PATIENCE, Ended
from ..scheduler import Run
from .fleet import Fleet, elsewhere
from .remote import Task, as_mapping, there
from .store import Store, from_plain, plain

LOOK = 0.3  # seconds between two questions about a task
NODES = 2.0  # seconds between two questions about the cluster
ATTEMPTS = 4
# A machine or a worker went away; anything else would go wrong again.
LOST = (
    raised.WorkerCrashedError, raised.NodeDiedError, raised.LocalRayletDiedError, raised.OutOfMemoryError,
    raised.ObjectLostError, raised.TaskUnschedulableError, raised.RaySystemError, raised.TaskCancelledError,
)  # fmt: skip
GONE = (raised.RayError, ConnectionError, ValueError)  # of a task that is to end, and has ended with its cluster


@dataclass
class Cluster:
    """What the tasks of a run share.

    Attributes:
        store: that all machines see.
        fleet: its places.
        jobs: that were begun.
    """

    store: Store
    fleet: Fleet
    jobs: list[Remote] = field(default_factory=list)
    asked: float = 0.0

    def refresh(self) -> None:
        """Take places out that live no longer; new ones are seen by the next run."""
        if time.monotonic() - self.asked >= NODES:
            living = {one["NodeID"] for one in ray.nodes() if one["Alive"]}
            self.fleet.places = tuple(one for one in self.fleet.places if one.id in living)
            self.asked = time.monotonic()

    def close(self) -> None:
        """Cancel what runs, and see that it ends."""
        left = [job for job in self.jobs if job.running]
        for job in left:
            job.stop()
        deadline = time.monotonic() + PATIENCE
        while any(job.running for job in left) and time.monotonic() < deadline:
            for job in left:
                job.reap()
            time.sleep(LOOK)
        for job in left:
            job.kill()


@dataclass(frozen=True)
class Attempt:
    """A task that was given to Ray.

    Attributes:
        ref: Ray's.
        name: unique.
        places: ids of those that it may run on.
    """

    ref: Any
    name: str
    places: frozenset[str]


class Remote:
    """A command as a task, which is begun again elsewhere when its machine is lost.

    Args:
        cluster: it runs on.
        engine: of the pipeline.
        group: what it makes.
        command: that does it.
        log: is appended to.
    """

    def __init__(self, cluster: Cluster, engine: Run, group: Sequence[Node], command: Command, log: Path) -> None:
        self._cluster, self._engine, self._group, self._command, self._log = cluster, engine, group, command, log
        self._now: Attempt | None = None
        self._lost: frozenset[str] = frozenset()
        self._tries, self._not_before = 0, 0.0
        self._say(f"$ {command.line()}")
        self._sent, self._seen = self._pack()
        cluster.jobs.append(self)

    @property
    def running(self) -> bool:
        """Whether a task of it may be on the cluster."""
        return self._now is not None

    @property
    def end(self) -> None:
        """Nothing to wait for: Ray is asked."""

    def poll(self) -> Ended | None:
        """How it ended; None while it runs, waits for a place, or is about to be begun again."""
        if time.monotonic() < self._not_before:
            return None
        self._not_before = time.monotonic() + LOOK
        try:
            self._cluster.refresh()
            return self._begin() if self._now is None else self._look(self._now)
        except ConnectionError as error:
            raise UnavailableError(f"the connection to the cluster is lost: {one_line(error)}",
                                   fix="run the same command again: what is done stays done") from error  # fmt: skip

    def stop(self) -> None:
        """Tell it to end; `Cluster.close` sees that it does."""
        if self._now is not None:
            with contextlib.suppress(*GONE):
                ray.cancel(self._now.ref)

    def reap(self) -> None:
        """Take notice that it ended after `stop`."""
        with contextlib.suppress(*GONE):
            if self._now is not None and ray.wait([self._now.ref], timeout=0)[0]:
                self._forget(self._now)

    def kill(self) -> None:
        """End it without asking."""
        if self._now is not None:
            with contextlib.suppress(*GONE):
                ray.cancel(self._now.ref, force=True)
            self._forget(self._now)

    def progress(self) -> tuple[str, int, int] | None:
        """Nothing: a worker's bar is not seen from here."""
        return None

    def _pack(self) -> tuple[dict[str, tuple[str, int]], dict[str, str]]:
        engine = self._engine
        paths = {name: one.record.path for name, one in engine.outcomes.items() if one.record is not None}
        nodes = {node.id: node for node in engine.nodes}
        found = luggage(self._group, self._command, nodes, engine.made(), paths, engine.pipeline.settings,
                        engine.state.folder)  # fmt: skip
        return plain(self._cluster.store.put(engine.state.folder, found.sent)), dict(found.seen)

    def _begin(self) -> Ended | None:
        asked = self._cluster.fleet.ask(self._group)
        if asked is None:
            return ended_by(UnavailableError("no node of the cluster is left that could do it", fix="run again"))
        asked = elsewhere(asked, self._lost)
        threads = self._command.threads if self._command.threads is not None else asked.threads
        places, name = frozenset(one.id for one in asked.places), secrets.token_hex(8)
        task = Task(self._cluster.store.url, name, self._sent, self._seen, self._command.arguments, self._command.copy,
                    threads, results_of(self._group, self._engine.pipeline.settings.out), self._group[0].kind,
                    str(self._engine.state.folder))  # fmt: skip
        options: dict[str, Any] = {
            "num_cpus": asked.cores, "num_gpus": asked.gpus, "memory": asked.memory, "resources": dict(asked.resources),
            "label_selector": {"ray.io/node-id": f"in({','.join(sorted(places))})"},
            "name": self._group[0].id, "max_retries": 0,
        }  # fmt: skip
        if asked.accelerator_type:
            options["accelerator_type"] = asked.accelerator_type
        self._tries += 1
        self._now = Attempt(ray.remote(there).options(**options).remote(as_mapping(task)), name, places)
        return None

    def _look(self, attempt: Attempt) -> Ended | None:
        if not ray.wait([attempt.ref], timeout=0)[0]:
            if attempt.places & {one.id for one in self._cluster.fleet.places}:
                return None
            self.stop()  # it would wait for ever
            return self._again(attempt, "all nodes that it could run on are gone")
        try:
            result: Any = ray.get(attempt.ref)
        except LOST as error:
            return self._again(attempt, type(error).__name__)
        except raised.RuntimeEnvSetupError as error:
            self._say(str(error))
            self._forget(attempt)
            return ended_by(UnavailableError("Ray could not set a worker up", fix=f"see {self._log}"))
        except raised.RayTaskError as error:
            self._say(str(error))
            self._forget(attempt)
            said = f"{type(error.cause).__name__}: {one_line(error.cause or error)}"
            return Ended(BUG, {"error": {"kind": "bug", "message": said, "fix": f"see {self._log}"}})
        ended = self._bring(result)
        self._forget(attempt)
        return ended

    def _again(self, attempt: Attempt, why: str) -> Ended | None:
        note = self._cluster.store.told(attempt.name) or {"host": "a node", "place": ""}
        self._forget(attempt)
        self._lost |= {note["place"]}
        self._say(f"lost on {note['host']} ({why}), attempt {self._tries} of {ATTEMPTS}")
        if self._tries >= ATTEMPTS:
            what = f"its worker was lost {ATTEMPTS} times, last on {note['host']} ({why})"
            return ended_by(UnavailableError(what, fix="look at that node's memory and Ray's logs, then run again"))
        self._not_before = time.monotonic() + 2.0**self._tries - 1  # until the cluster knows what is gone
        return None

    def _bring(self, result: Mapping[str, Any]) -> Ended:
        self._say(f"on {result['host']}, Ray's node {result['place']}")
        self._say(result["log"], end="")
        engine = self._engine
        try:
            for name, tree in result["left"].items():
                bring(self._cluster.store, name, tree, engine.state.folder, engine.pipeline.settings.out)
        except ZooError as error:
            return ended_by(error)
        return Ended(result["code"], result["payload"], result["seconds"], result["host"])

    def _forget(self, attempt: Attempt) -> None:
        self._cluster.store.forget(attempt.name)
        self._now = None

    def _say(self, text: str, end: str = "\n") -> None:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("a", encoding="utf-8") as file:
            file.write(f"{text}{end}")


@dataclass(frozen=True)
class Over:
    """A command that could not even be sent."""

    ended: Ended

    @property
    def end(self) -> None:
        """It has ended."""

    def poll(self) -> Ended:
        """Why."""
        return self.ended

    def stop(self) -> None:
        """Nothing runs."""

    def progress(self) -> None:
        """Nothing."""


def ended_by(error: ZooError) -> Ended:
    """As a command that says so ends."""
    return Ended(error.exit_code, {"error": error.as_mapping()})


def results_of(group: Sequence[Node], out: str) -> tuple[str, ...]:
    """Names of what a command leaves, as far as they are known before: not of exports and checks."""
    options = group[0].options
    if isinstance(options, Export | Check):
        return ()
    end = ".zoo" if isinstance(options, Package) and options.layout == "zoo" else ""
    beside = [f"{out}/{node.id}-width" for node in group if isinstance(node.options, Prune) and node.options.beside]
    return (*(f"{out}/{node.id}{end}" for node in group), *beside)


def bring(store: Store, name: str, tree: Mapping[str, tuple[str, int]], folder: Path, out: str) -> None:
    """Put what a worker left into its place, in one step.

    Args:
        store: it is in.
        name: of a file, or of a folder, from the pipeline file's folder.
        tree: its files.
        folder: of the pipeline file.
        out: below it, where everything goes.

    Raises:
        IntegrityError: a file is not what the worker left, or would lie outside of `out`.
    """
    pure = PurePosixPath(name)
    if not pure.is_relative_to(out) or ".." in pure.parts or pure == PurePosixPath(out):
        raise IntegrityError(f"a worker left {name}, which is outside of {out}", fix="look at its log")
    held = from_plain(tree)
    if set(held) == {name}:
        store.get(held, folder)
        atomic.sync(folder / name)
        return
    with atomic.staged(folder / name) as made:
        store.get({str(PurePosixPath(one).relative_to(name)): what for one, what in held.items()}, made)
