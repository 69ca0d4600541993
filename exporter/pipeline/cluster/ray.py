"""`zoo run --on ray`: a pipeline whose commands run on a Ray cluster, or on a local one that ends with the run."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import signal
import socket
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
import ray.exceptions as raised

from ....errors import UnavailableError, UsageError, ZooError, one_line
from ...backends.infos import builds
from ...report.console import say
from ..cache_keys import cores_here
from ..command_line import Command
from ..config import Pipeline
from ..expand import Node, artifact_of
from ..kinds import Check, Profile
from ..local_process import Job, Process
from ..requirements import look
from ..scheduler import Run, prepare
from .fleet import GIGABYTE, Fleet, Place, stays
from .remote import survey
from .store import Store
from .tasks import Cluster, Over, Remote, ended_by
from .wheel import unpacked

REACH = 10.0  # seconds in which HOST:PORT must answer
SURVEY = 180.0  # seconds in which nodes must say what they have; they get the wheel first
USUAL = ("CPU", "GPU", "memory", "object_store_memory")
TYPE = "accelerator_type:"


@contextmanager
def connected(on: str, pipeline: Pipeline) -> Iterator[Run]:
    """A pipeline whose commands run on a cluster, while the block lasts.

    Args:
        on: ray for a local cluster, or ray://HOST:PORT.
        pipeline: read.

    Raises:
        UsageError: no store is named, or no port.
        UnavailableError: the cluster cannot be reached, or none of its nodes can be used.
    """
    out = Path(pipeline.settings.out)
    if out.is_absolute() or ".." in out.parts:
        raise UsageError(f"{pipeline.path}: with --on {on}, out = {str(out)!r} must lie in the file's folder",
                         fix='out = "pipeline", or move the file')  # fmt: skip
    with contextlib.ExitStack() as ends:
        url = store_of(on, pipeline)
        if on != "ray":
            reach(on)
        url = url or ends.enter_context(tempfile.TemporaryDirectory(prefix="zoo-store-"))
        store = Store(url)
        ends.callback(lambda: store.forget(store.owner))
        modules = [str(path) for path in unpacked()]
        ends.enter_context(session(on, modules, pipeline.settings.cores))
        fleet = Fleet(places_of(store), look())
        cluster = Cluster(store, fleet)
        ends.callback(cluster.close)
        engine = prepare(pipeline)
        engine.fleet, engine.start = fleet, starter(cluster, lambda: engine)
        fleet.built = lambda node: built_on(node, engine)
        yield engine


def store_of(on: str, pipeline: Pipeline) -> str:
    """Where files move by; "" where a temporary folder does. Raises UsageError where a cluster has none."""
    store = pipeline.settings.store
    if store is None:
        if on == "ray":
            return ""
        raise UsageError(f"{pipeline.path}: [pipeline] has no store, by which files reach the cluster",
                         fix='store = "s3://BUCKET/FOLDER", or a folder that all its nodes see')  # fmt: skip
    return store if "://" in store else str((pipeline.path.absolute().parent / store).resolve())


@contextmanager
def session(on: str, modules: Sequence[str], cores: int | None) -> Iterator[None]:
    """Connected to Ray; workers get `modules`. A local cluster begins and ends with the block."""
    options: dict[str, Any] = {"runtime_env": {"py_modules": list(modules)}, "log_to_driver": False,
                               "logging_level": logging.ERROR}  # fmt: skip
    if on == "ray":
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # nothing is told to anybody
        options |= {"address": "local", "include_dashboard": False, "num_cpus": cores or cores_here()}
    else:
        options |= {"address": on}
    # Ray puts the folder that it is called from before the workers' own: a user's zoo/ in it would be theirs.
    with tempfile.TemporaryDirectory(prefix="zoo-ray-") as empty:
        try:
            with contextlib.chdir(empty), kept_signals(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of Ray, about its own future
                begin(options)
        except (ConnectionError, RuntimeError, TimeoutError, OSError, raised.RayError) as error:
            fix = "is it the port of Ray's client server, 10001, and the same version of Ray and Python?"
            raise UnavailableError(f"no Ray cluster at {on}: {' '.join(str(error).split())[:300]}", fix=fix) from error
        try:
            yield
        finally:
            with contextlib.suppress(ConnectionError, raised.RayError):
                ray.shutdown()


def begin(options: dict[str, Any]) -> None:
    """ray.init; once more where the head could not start the server of this client in its 30 seconds."""
    try:
        ray.init(**options)
    except ConnectionAbortedError:
        ray.init(**options)


def reach(address: str) -> None:
    """Raise UnavailableError where nobody answers within REACH seconds, UsageError where it is no address."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise UsageError(f"--on {address} names no port", fix="ray://HOST:10001")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=REACH):
            return
    except (OSError, OverflowError) as error:
        why = f"nobody answers within {REACH:g} s" if isinstance(error, TimeoutError) else one_line(error)
        fix = "on its head node: ray start --head --ray-client-server-port=10001"
        raise UnavailableError(f"no Ray cluster at {address}: {why}", fix=fix) from error


@contextmanager
def kept_signals() -> Iterator[None]:
    """Ray takes SIGTERM for itself; it stays this command's, so that exit codes stay what they are."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def places_of(store: Store) -> tuple[Place, ...]:
    """The nodes of the cluster that can be used, with what they have; the others are named.

    Raises:
        UnavailableError: there is none.
    """
    note = f"survey-{secrets.token_hex(8)}"
    store.tell(note, {})
    found: list[Place] = []
    problems: list[str] = []
    try:
        nodes = [one for one in ray.nodes() if one["Alive"]]
        ask = ray.remote(survey)
        refs = [
            ask.options(num_cpus=0, max_retries=0, label_selector={"ray.io/node-id": f"in({one['NodeID']})"}).remote(
                store.url, note
            )
            for one in nodes
        ]
        ray.wait(refs, num_returns=len(refs), timeout=SURVEY)
        for node, ref in zip(nodes, refs, strict=True):
            try:
                told = ray.get(ref, timeout=0)
                problem = f"{told['problem']}" if told["problem"] else ""
            except (raised.RayError, TimeoutError) as error:
                told, problem = {}, f"does not answer: {one_line(error)}"
            if problem:
                problems.append(f"{node['NodeManagerHostname']}: {problem}")
            else:
                found.append(place_of(node, told))
    finally:
        store.forget(note)
    for problem in problems if found else ():
        say(f"left out, {problem}", "yellow")
    if not found:
        raise UnavailableError(f"no node of the cluster can be used; {problems[0] if problems else 'none lives'}",
                               fix=f"store {store.url} must be seen by all")  # fmt: skip
    return tuple(found)


def place_of(node: dict[str, Any], told: dict[str, Any]) -> Place:
    """A node as Ray and it itself describe it."""
    has: dict[str, float] = node["Resources"]
    own = {name: amount for name, amount in has.items() if name not in USUAL and not name.startswith(("node:", TYPE))}
    kinds = frozenset(name.removeprefix(TYPE) for name in has if name.startswith(TYPE))
    return Place(node["NodeID"], told["host"], int(has.get("CPU", 0)), int(has.get("GPU", 0)),
                 has.get("memory", 0) / GIGABYTE, kinds, own, frozenset(told["modules"]), told["machine"])  # fmt: skip


def starter(cluster: Cluster, engine: Callable[[], Run]) -> Callable[..., Job]:
    """What starts a command: on the cluster, or here what has to be here."""

    def start(group: Sequence[Node], command: Command, log: Path, gpus: tuple[int, ...] | None) -> Job:
        if stays(group[0]):
            return Process(command, engine().state.folder, log, gpus)
        try:
            return Remote(cluster, engine(), group, command, log)
        except ZooError as error:
            return Over(ended_by(error))

    return start


def built_on(node: Node, engine: Run) -> str:
    """The machine, as keys say it, on which the artifact was built that a check or profile takes; "" for any."""
    if not isinstance(node.options, Check | Profile) or engine.fleet is None:
        return ""
    checks = {one.id: one for one in engine.nodes if isinstance(one.options, Check)}
    record = engine.outcome(artifact_of(node, checks)).record
    if record is None or not builds(node.backend):
        return ""
    return next((one.machine for one in engine.fleet.places if one.host == record.host), "")
