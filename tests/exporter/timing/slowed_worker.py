"""A latency worker whose runs take a factor longer, by a busy wait: `slowed_worker.py FACTOR TASK`."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from zoo.exporter.timing.worker import main


class Slowed:
    """Around a runner: every step waits for (factor - 1) of what it took, without giving up the core."""

    def __init__(self, runner: Any, factor: float) -> None:
        step = runner._step

        def slowed() -> None:
            begun = time.perf_counter()
            step()
            until = begun + factor * (time.perf_counter() - begun)
            while time.perf_counter() < until:
                pass

        runner._step = slowed
        self.runner = runner


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[2]), lambda runner: Slowed(runner, float(sys.argv[1])).runner))
