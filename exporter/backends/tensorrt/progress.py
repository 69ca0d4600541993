"""TensorRT's progress monitor, told to a bar."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any


def make_monitor(trt: Any, stop: threading.Event, progress: Callable[[str, int, int], None] | None) -> Any:
    """A monitor that tells (phase, steps done, steps in all) of the outermost phases, and cancels when `stop` is set.

    TensorRT calls it from its own threads, and swallows what it raises: so nothing in it may.
    """

    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)  # without it the bindings crash
            self._steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if not parent_phase:  # the inner ones come and go in the hundreds
                self._steps[phase_name] = num_steps
                self._tell(phase_name, 0)

        def step_complete(self, phase_name: str, step: int) -> bool:
            self._tell(phase_name, step + 1)
            return not stop.is_set()

        def phase_finish(self, phase_name: str) -> None:
            self._tell(phase_name, self._steps.get(phase_name, 0))

        def _tell(self, phase: str, done: int) -> None:
            if progress is not None and phase in self._steps:
                progress(f"TensorRT: {phase}"[:60], min(done, self._steps[phase]), max(self._steps[phase], 1))

    return Monitor()
