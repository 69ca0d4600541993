"""ONNX Runtime's own profile: what each operator takes, and where it ran. It also runs inside packages.

The one parser of that profile in zoo. The format: events of category Node whose names end in `_kernel_time`, with the
operator's kind and the provider as arguments, in whole microseconds, and `model_run` for the whole
(onnxruntime/core/common/profiler.cc).
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

KERNEL, WHOLE = "_kernel_time", "model_run"
WARM = 5  # runs that are not counted, at least; a fifth of the others where that is more


@dataclass(frozen=True)
class Kernel:
    """A node's kernel in a profile.

    Attributes:
        name: of the node in the graph that the runtime made.
        kind: its operator.
        provider: that ran it.
        microseconds: of each run.
    """

    name: str
    kind: str
    provider: str = ""
    microseconds: list[float] = field(default_factory=list)

    def usual(self, warm: int = 0) -> float:
        """The mean of the middle half of the runs after a warm-up: whole microseconds are too coarse for a median."""
        kept = sorted(self.microseconds[warm:]) or self.microseconds
        cut = len(kept) // 4
        return statistics.fmean(kept[cut : len(kept) - cut])


def parse_profile(events: Iterable[Mapping[str, Any]]) -> dict[str, Kernel]:
    """Return the kernels of a profile by the name of their node, in the order in which they ran first."""
    found: dict[str, Kernel] = {}
    for event in events:
        name = str(event.get("name", ""))
        if event.get("cat") != "Node" or not name.endswith(KERNEL):
            continue
        given, name = event.get("args", {}), name.removesuffix(KERNEL)
        if name not in found:
            found[name] = Kernel(name, str(given.get("op_name", "")), str(given.get("provider", "")))
        found[name].microseconds.append(float(event["dur"]))
    return found


def whole_runs(events: Iterable[Mapping[str, Any]]) -> list[float]:
    """Return the microseconds of each profiled run as a whole."""
    return [float(event["dur"]) for event in events if str(event.get("name", "")) == WHOLE]


def profiled(make: Callable[[Any], Any], run: Callable[[Any], object], runs: int) -> list[dict[str, Any]]:
    """Return the events of so many runs of a session that keeps a profile.

    Args:
        make: a session with these onnxruntime.SessionOptions, to which the caller adds what it needs.
        run: one run of it.
        runs: how many.
    """
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = make(options)
        for _ in range(runs):
            run(session)
        return json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))


def warm_of(runs: int) -> int:
    """Return how many runs to add before so many that count."""
    return max(WARM, runs // 5)
