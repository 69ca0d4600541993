"""Times subjects in a process of its own: `python -m zoo.exporter.timing.worker`.

Two runtimes in one process disturb each other: the spinning threads of one slow the other two- to threefold. The
process reads a line of JSON at a time and answers each with one, on a pipe that no library prints to:

    {"import": {"opener", "given", "batch"}, "setup": {...}}    have the runtime; a subject before it is closed
    {"open": true}                                              load, warm up, and say how that went
    {"operators": 40}                                           microseconds of each operator, of so many profiled runs
    {"block": {...}}                                            milliseconds of a block; what is given changes the setup
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from typing import IO, Any, Protocol

from ..backends.infos import find
from .loop import Steps, block, warm_up
from .setup import TimingSetup


class Opened(Steps, Protocol):
    """A subject that is loaded and has its input.

    Attributes:
        facts: what loading took: load_ms, first_ms, and transfers where there are any.
    """

    facts: dict[str, Any]

    def operators(self, runs: int) -> list[tuple[str, str, float]]:
        """Name, kind and microseconds of each operator; empty where the runtime does not tell."""
        ...


Opener = Any  # a function (given, setup, batch) -> function () -> context manager of Opened


def main() -> int:
    """Serve the engine until stdin ends."""
    out = own_stdout()
    warnings.simplefilter("ignore")
    try:
        with ExitStack() as stack:
            serve(sys.stdin, out, stack)
    except Exception as error:  # noqa: BLE001 - told to the parent, which names the subject
        say(out, {"error": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"})
        return 1
    return 0


def serve(lines: IO[str], out: IO[str], stack: ExitStack) -> None:
    """Answer each line."""
    setup, make, opened = TimingSetup(), None, None
    for line in lines:
        asked = json.loads(line)
        if "import" in asked:
            stack.close()
            setup = parse_setup(asked["setup"])
            subject = asked["import"]
            make = find(subject["opener"])(subject["given"], setup, subject["batch"])
            say(out, {"imported": True})
        elif "open" in asked:
            assert make is not None
            opened = enter(stack, make())
            stable = warm_up(opened, setup) if setup.warm_s[1] else None
            say(out, {"stable": stable, "peak_memory_mb": peak_memory_mb(), **opened.facts})
        elif "operators" in asked:
            assert opened is not None
            say(out, {"operators": opened.operators(asked["operators"])})
        else:
            assert opened is not None
            own = replace(setup, **asked["block"])
            times = opened.block(own) if hasattr(opened, "block") else block(opened, own)
            say(out, {"times": times})


def enter(stack: ExitStack, opened: AbstractContextManager[Any]) -> Any:
    """Open a subject until the next one is imported."""
    return stack.enter_context(opened)


def parse_setup(given: dict[str, Any]) -> TimingSetup:
    """A setup from JSON."""
    return TimingSetup(**{**given, "warm_s": tuple(given["warm_s"])})


def peak_memory_mb() -> float | None:
    """The largest resident size of this process so far."""
    from .machine import peak_mb

    return peak_mb()


def own_stdout() -> IO[str]:
    """Keep stdout for the answers: what libraries print goes to stderr."""
    kept = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return kept


def say(out: IO[str], value: dict[str, Any]) -> None:
    """Answer with a line."""
    out.write(json.dumps(value) + "\n")
    out.flush()


if __name__ == "__main__":
    sys.exit(main())
