"""What a Ray worker does: a command of zoo in a fresh folder, its inputs out of the store, its results into it.

Workers import this from the wheel that the driver sent.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ....config import from_mapping
from ....errors import UnavailableError, UsageError, ZooError
from ..cache_keys import ROOT, machine
from ..local_process import CHILD, PATIENCE
from ..requirements import look
from .store import Store, from_plain, plain

WORK = "zoo-run-"
TICK = 0.2  # seconds between two looks at the command


@dataclass(frozen=True)
class Task:
    """One command, as it travels.

    Attributes:
        store: where files are.
        attempt: unique: of the temporary names, and of the note that says where it runs.
        inputs: of the store, by their names from the pipeline file's folder.
        seen: names and paths of what is not sent, but must be seen from everywhere: folders of data.
        arguments: of zoo.
        copy: as of a Command.
        threads: OMP_NUM_THREADS.
        results: names of what it leaves; for exports and checks the command's JSON says them.
        kind: of the nodes.
        folder: of the pipeline file, on the driver.
    """

    store: str
    attempt: str
    inputs: dict[str, tuple[str, int]]
    seen: dict[str, str]
    arguments: tuple[str, ...]
    copy: tuple[str, str] | None
    threads: int | None
    results: tuple[str, ...]
    kind: str
    folder: str


def survey(store: str, note: str) -> dict[str, Any]:
    """What a node of the cluster has, and whether it sees the store. Errors are part of the answer."""
    try:
        problem = "" if Store(store).told(note) is not None else "does not see what was put there"
    except (ZooError, OSError) as error:
        problem = str(error)
    facts = look()
    return {"modules": sorted(facts.modules), "machine": machine(), "host": os.uname().nodename, "zoo": str(ROOT),
            "problem": problem}  # fmt: skip


def there(task: Mapping[str, Any]) -> dict[str, Any]:
    """What Ray calls: `work`, told where it is."""
    import ray

    return work(task, ray.get_runtime_context().get_node_id())


def work(task: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Run a command; how it ended, what it said, and what it left.

    Args:
        task: a Task as a mapping.
        place: Ray's name of this node, for who wants to know where it was lost.
    """
    asked, begun = from_mapping(Task, dict(task), "the task"), time.monotonic()
    store = Store(asked.store, asked.attempt)
    store.tell(asked.attempt, {"place": place, "host": os.uname().nodename})
    code, payload, log, left = 0, {}, "", {}
    with tempfile.TemporaryDirectory(prefix=WORK) as temporary:
        folder = Path(temporary).resolve() / "work"
        try:
            prepare(asked, store, folder)
            code, payload, log = command(asked, folder, Path(temporary))
            found = {name: plain(store.put(folder, [name])) for name in results(asked, payload, folder)}
            left = {name: tree for name, tree in found.items() if tree}  # a command that failed leaves nothing
        except ZooError as error:
            code, payload = error.exit_code, {"error": error.as_mapping()}
        except OSError as error:
            said = UsageError(f"{os.uname().nodename}: {error}", fix="look at its disk and at the store")
            code, payload = said.exit_code, {"error": said.as_mapping()}
        here = str(folder)
    return {"code": code, "payload": moved(payload, here, asked.folder), "log": log.replace(here, asked.folder),
            "left": left, "host": os.uname().nodename, "place": place, "seconds": time.monotonic() - begun}  # fmt: skip


def prepare(task: Task, store: Store, folder: Path) -> None:
    """Put the inputs into a fresh folder.

    Raises:
        UnavailableError: a folder that is to be seen from everywhere is not seen from here.
        IntegrityError: an input is broken or gone.
    """
    folder.mkdir(parents=True)
    store.get(from_plain(task.inputs), folder)
    for name, path in task.seen.items():
        if not Path(path).exists():
            raise UnavailableError(f"{os.uname().nodename} does not see {path}",
                                   fix="put it where all nodes see it, under the same path")  # fmt: skip
        if not Path(name).is_absolute():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).symlink_to(path)
    for name in task.results:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)


def command(task: Task, folder: Path, beside: Path) -> tuple[int, dict[str, Any], str]:
    """Run it; exit code, JSON and words. Being cancelled by Ray ends it too."""
    out, words = beside / "out.json", beside / "log"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT.parent), os.environ.get("PYTHONPATH", "")])}
    environment.setdefault("ORT_DISABLE_TELEMETRY", "1")  # as the command `zoo` does it
    environment.pop("OMP_NUM_THREADS", None)  # Ray's, which would be another number than on one machine
    if task.threads is not None:
        environment["OMP_NUM_THREADS"] = str(task.threads)
    given = {"parent": os.getpid(), "copy": task.copy, "arguments": task.arguments}
    with out.open("wb") as stdout, words.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", CHILD, json.dumps(given)], cwd=folder, env=environment,
            stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, start_new_session=True,
        )  # fmt: skip
    try:
        while process.poll() is None:  # short waits: Ray's KeyboardInterrupt comes between two steps of Python
            time.sleep(TICK)
    finally:
        stop(process)
    try:
        payload = json.loads(out.read_text(encoding="utf-8"))
    except ValueError:
        payload = {}
    return process.returncode, payload, words.read_text(encoding="utf-8", errors="replace")


def stop(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, and SIGKILL for all of its session when it does not end by itself; nothing where it has ended."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def results(task: Task, payload: Mapping[str, Any], folder: Path) -> list[str]:
    """Names of what a command left, from the folder: of exports the artifacts, of checks what was found about them."""
    if task.kind not in ("export", "check"):
        return list(task.results)
    end = ".check.json" if task.kind == "check" else ""
    paths = [Path(f"{row['artifact']}{end}") for row in payload.get("artifacts", ()) if row.get("artifact")]
    return [str(path.relative_to(folder) if path.is_absolute() else path) for path in paths]


def moved(value: Any, here: str, there: str) -> Any:
    """Plain values, their paths in one folder as paths in another."""
    if isinstance(value, str):
        return value.replace(here, there)
    if isinstance(value, dict):
        return {name: moved(one, here, there) for name, one in value.items()}
    return [moved(one, here, there) for one in value] if isinstance(value, Sequence) else value


def as_mapping(task: Task) -> dict[str, Any]:
    """As it is given to Ray."""
    return asdict(task)
