"""Times subjects in a process of its own: `python -m zoo.exporter.timing.worker`.

Two runtimes in one process disturb each other: the spinning threads of one slow the other two- to threefold. The
process reads a line of JSON at a time and answers each with one, on a pipe that no library prints to:

    {"do": "import", "subject", "opener", "given", "batch", "setup"}    have the runtime
    {"do": "open", "subject"}                   load, warm up, and say how that went
    {"do": "block", "subject", "other"}         milliseconds of a block; `other` changes the setup
    {"do": "operators", "subject", "runs"}      microseconds of each operator, of so many profiled runs
    {"do": "close", "subject"}                  forget it
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from typing import IO, Any, Protocol

from ..backends.infos import find
from .loop import Steps, block, warm_up
from .machine import peak_mb
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
    """Answer each line; what was opened stays until it is closed, and at the end until the stack is."""
    setups: dict[str, TimingSetup] = {}
    makes: dict[str, Callable[[], AbstractContextManager[Opened]]] = {}
    opened: dict[str, tuple[Opened, ExitStack]] = {}
    for line in lines:
        asked = json.loads(line)
        name = asked["subject"]
        if asked["do"] == "import":
            setups[name] = parse_setup(asked["setup"])
            makes[name] = find(asked["opener"])(asked["given"], setups[name], asked["batch"])
            say(out, {"imported": True})
        elif asked["do"] == "open":
            own = stack.enter_context(ExitStack())
            found = own.enter_context(makes[name]())
            opened[name] = found, own
            stable = warm_up(found, setups[name]) if setups[name].warm_s[1] else None
            say(out, {"stable": stable, "peak_memory_mb": peak_mb(), **found.facts})
        elif asked["do"] == "close":
            opened.pop(name)[1].close()
            say(out, {"closed": True})
        elif asked["do"] == "operators":
            say(out, {"operators": opened[name][0].operators(asked["runs"])})
        else:
            found, setup = opened[name][0], replace(setups[name], **asked["other"])
            own = getattr(found, "block", None)  # of what has to make its runs by itself, such as one profile of them
            say(out, {"times": block(found, setup) if own is None else own(setup)})


def parse_setup(given: dict[str, Any]) -> TimingSetup:
    """A setup from JSON."""
    return TimingSetup(**{**given, "warm_s": tuple(given["warm_s"])})


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
