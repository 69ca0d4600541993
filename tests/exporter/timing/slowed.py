"""An artifact whose runs take a factor longer, by a busy wait, as a timing worker opens it: `slowed:open_slowed`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from zoo.exporter.timing.openers import Opened, open_artifact
from zoo.exporter.timing.setup import Subject, TimingSetup


def slowed_subject(name: str, folder: Path, factor: float) -> Subject:
    """The artifact, slowed; a worker finds this file where PYTHONPATH names its folder."""
    return Subject(name=name, opener="slowed:open_slowed", given={"folder": str(folder), "factor": factor})


def open_slowed(
    given: Mapping[str, Any], setup: TimingSetup, batch: int
) -> Callable[[], AbstractContextManager[Opened]]:
    """Every step waits for (factor - 1) of what it took, without giving up the core."""
    make = open_artifact(given, setup, batch)

    @contextmanager
    def opened() -> Iterator[Opened]:
        with make() as found:
            runner = found._runner
            step = runner._step

            def slowed() -> None:
                begun = time.perf_counter()
                step()
                until = begun + given["factor"] * (time.perf_counter() - begun)
                while time.perf_counter() < until:
                    pass

            runner._step = slowed
            yield found

    return opened
