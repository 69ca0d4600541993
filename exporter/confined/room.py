"""Starts a confined child and waits for its answer: one line of what ended it, whatever it did."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

from ...errors import GateError, IntegrityError, UnavailableError, UsageError, ZooError, printable
from .confinement import Confinement, Walls

# -P: a folder `zoo` where the user is would be taken for ours
CHILD = (sys.executable, "-P", "-m", "zoo.exporter.confined.child")
KEPT = ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "LANG", "LC_ALL", "TZ", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
LARGEST_ANSWER = 64 << 20  # bytes
LONGEST_LINE = 1000  # characters of what it tells
GRACE = 2.0  # seconds in which a child ends that has closed its pipe
LAST_WORDS = 65536  # bytes of what it wrote to stderr
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_ERRORS = {error.kind: error for error in (UsageError, UnavailableError, GateError, IntegrityError)}


class ChildEndedError(Exception):
    """A child gave no answer; the text says why, as the end of a sentence about it."""


@dataclass(frozen=True)
class Answered:
    """What a child answered, and what it was confined by."""

    value: Any
    walls: Walls


def run_confined(
    module: str,
    task: Mapping[str, Any],
    confinement: Confinement,
    *,
    files: Sequence[IO[bytes]] = (),
    tell: Callable[[str], None] = lambda _text: None,
) -> Answered:
    """Have a module's `answer(task, inside)` run in a child that may use nothing but what it is given.

    Args:
        module: ours, such as zoo.exporter.package.inside.
        task: what JSON can hold.
        confinement: its limits.
        files: open files that it may read; their places in them are shared.
        tell: what it does now.

    Raises:
        ChildEndedError: it took too long or too much memory, or ended before its answer.
        ZooError: of the module.
        RuntimeError: of the module, with its traceback: a fault of ours.
    """
    readable, writable = _pipe()
    # above the standard streams, which Popen replaces
    descriptors = [fcntl.fcntl(one.fileno(), fcntl.F_DUPFD_CLOEXEC, 3) for one in files]
    given = {
        "module": module, "task": task, "descriptors": descriptors, "out": writable, "reads": confinement.reads,
        "file_mb": confinement.file_mb, "memory_mb": confinement.memory_mb, "parent": os.getpid(),
        "seconds": round((confinement.start_seconds + confinement.seconds) * (os.cpu_count() or 1)) + 1,
    }  # fmt: skip
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    environment = {**kept, "ORT_DISABLE_TELEMETRY": "1", **confinement.environment}
    with os.fdopen(readable, "rb", buffering=0) as answers, _scratch() as scratch:
        given["writes"] = [scratch, *confinement.writes]
        environment["TMPDIR"] = scratch  # libraries look for one
        try:
            process = subprocess.Popen(
                CHILD, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                pass_fds=[writable, *descriptors], start_new_session=True, env=environment,
            )  # fmt: skip
        finally:
            for one in (writable, *descriptors):
                os.close(one)
        answered = False  # then it ends by itself
        try:
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError), process.stdin as asked:
                asked.write(json.dumps(given).encode())
            found = _await(process, answers, confinement, tell)
            answered = True
            return found
        finally:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE if answered else 0.0)
            _kill(process)
            process.wait()
            assert process.stderr is not None
            process.stderr.close()


def _pipe() -> tuple[int, int]:
    """A pipe whose ends lie above the standard streams, though some of these may be closed."""
    ends = os.pipe()
    kept = tuple(fcntl.fcntl(one, fcntl.F_DUPFD_CLOEXEC, 3) for one in ends)
    for one in ends:
        os.close(one)
    return kept[0], kept[1]


@contextlib.contextmanager
def _scratch() -> Iterator[str]:
    """An empty folder for a child; whatever it left there, the end of it is nobody's error."""
    place = tempfile.mkdtemp(prefix="zoo-confined-")
    try:
        yield place
    finally:
        with contextlib.suppress(OSError, RecursionError):
            shutil.rmtree(place)


def _await(
    process: subprocess.Popen[bytes], answers: IO[bytes], confinement: Confinement, tell: Callable[[str], None]
) -> Answered:
    """Read lines until one answers."""
    deadline, ready = time.monotonic() + confinement.start_seconds, False
    walls = Walls()
    held, words = bytearray(), b""
    assert process.stderr is not None
    os.set_blocking(process.stderr.fileno(), False)
    with selectors.DefaultSelector() as selector:
        selector.register(answers, selectors.EVENT_READ)
        selector.register(process.stderr, selectors.EVENT_READ)
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                what = "took more than" if ready else "had not loaded its libraries after"
                raise ChildEndedError(f"{what} {confinement.seconds if ready else confinement.start_seconds:,.4g} s")
            for key, _ in selector.select(left):
                block = os.read(key.fd, 1 << 20)
                if key.fileobj is process.stderr:
                    words = (words + block)[-LAST_WORDS:]
                    if not block:
                        selector.unregister(process.stderr)
                    continue
                if not block:
                    raise ChildEndedError(_end(_ended(process), words))
                held += block
                if len(held) > LARGEST_ANSWER:
                    raise ChildEndedError(f"answered more than {LARGEST_ANSWER >> 20} MB")
                if b"\n" not in block:
                    continue
                *lines, held = held.split(b"\n")
                for line in map(_parsed, lines):
                    if "walls" in line:
                        walls = _walls(line["walls"])
                    elif "tell" in line:
                        tell(line_of(line["tell"]))
                    elif "ready" in line and not ready:  # once: who says it again gets no more time
                        ready, deadline = True, time.monotonic() + confinement.seconds
                    elif "ready" not in line:
                        return Answered(_answer(line), walls)


def _ended(process: subprocess.Popen[bytes]) -> int:
    """How a process ended that closed its pipe; one that goes on all the same is ended."""
    try:
        return process.wait(GRACE)
    except subprocess.TimeoutExpired:
        _kill(process)
        return process.wait()


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a child and all that it started; asked first, for the one that waits for it in there to see its end."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(GRACE)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _parsed(line: bytes | bytearray) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ChildEndedError("answered something else than it should")
    return found


def _walls(given: Any) -> Walls:
    try:
        return Walls(**{name: line_of(by) for name, by in given.items()})
    except (TypeError, AttributeError):
        raise ChildEndedError("answered something else than it should") from None


def _answer(line: Mapping[str, Any]) -> Any:
    """What a last line says: its answer, or what it raises."""
    if "answer" in line:
        return line["answer"]
    if "ended" in line:
        raise ChildEndedError(line_of(line["ended"]))
    given = line.get("error")
    if isinstance(given, dict):
        raise _ERRORS.get(str(given.get("kind")), ZooError)(
            line_of(given.get("message")), fix=line_of(given.get("fix"))
        )
    broke = [line_of(one) for one in str(line.get("broke", "")).splitlines() if one.strip()]
    if not broke:
        raise ChildEndedError("answered something else than it should")
    fault = RuntimeError(f"in a confined child: {broke[-1]}")
    fault.add_note("\n".join(broke))
    raise fault


def _end(code: int, words: bytes) -> str:
    """Why a process without an answer ended, in words."""
    last = _COLOURS.sub("", words.decode(errors="replace")).strip().splitlines()[-1:]
    told = f" ({line_of(last[0])})" if last else ""
    if -code in [one.value for one in signal.Signals]:
        return f"ended with {signal.Signals(-code).name}{told}"
    return f"ended with code {code}{told}"


def line_of(text: Any) -> str:
    """Return a stranger's words as one line of what can be printed."""
    return printable(" ".join(str(text).split()))[:LONGEST_LINE]
