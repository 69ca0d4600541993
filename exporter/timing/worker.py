"""One side of a latency check, in a process of its own: `python -m zoo.exporter.timing.worker TASK`.

Two runtimes in one process disturb each other: the spinning threads of one slow the other two- to threefold. TASK is a
JSON object. The process imports what it needs and says so on a line of JSON; at the line `{}` it loads the artifact,
warms up until it is stable and says how that went; then it answers each line `{"ms": 100, "least": 5}` with a block of
runs, until its stdin ends.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..artifact.folder import Artifact

STABLE, WINDOW = 0.05, 5  # a window's median is within 5 % of the one before
WARM_UP_S = 0.06, 3.0  # at least, at most
# Not counted at the start of a block: the caches are another process's, and the threads of a pool that slept are on one
# core until the scheduler parts them (docs/benchmarks/checks.md).
LEAD_IN_MS, LEAD_IN_RUNS = 120.0, 2


def main(task: dict[str, Any], wrap: Callable[[Any], Any] = lambda runner: runner) -> int:
    """Serve one side.

    Args:
        task: folder, side (artifact or reference), device, threads, images (in a batch).
        wrap: what to put around the runner.
    """
    out = _own_stdout()
    warnings.simplefilter("ignore")
    try:
        from ..artifact.folder import load_artifact

        artifact = load_artifact(Path(task["folder"]))
        make = _runner(artifact, task)
        _say(out, {"imported": True})
        if not sys.stdin.readline():
            return 0
        with _opened(task, artifact, lambda: wrap(make())) as (runner, ready):
            _say(out, ready)
            for line in sys.stdin:
                asked = json.loads(line)
                _say(out, {"times": _block(runner, asked["ms"], asked["least"])})
    except Exception as error:  # noqa: BLE001 - told to the parent, which names the side
        _say(out, {"error": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"})
        return 1
    return 0


@contextmanager
def _opened(task: dict[str, Any], artifact: Artifact, make: Callable[[], Any]) -> Iterator[tuple[Any, dict[str, Any]]]:
    """A runner that is loaded and warm, and what that took."""
    import numpy as np

    from ..artifact.folder import golden_batch

    images = golden_batch(artifact.golden(), artifact)
    batch = images[np.arange(task["images"]) % len(images)]
    begun = time.perf_counter()
    made = make()
    made.threads = task["threads"]
    with made as runner:
        batch = runner.taken(batch)
        runner.prepare(batch)
        loaded = time.perf_counter()
        runner.step()
        runner.synchronize()
        first = time.perf_counter()
        stable = _warm_up(runner)
        ready: dict[str, Any] = {
            "load_ms": 1e3 * (loaded - begun), "first_ms": 1e3 * (first - loaded), "stable": stable,
            "peak_memory_mb": _peak_memory_mb(),
        }  # fmt: skip
        yield runner, ready | (_transfers(runner, batch) if task["device"] != "cpu" else {})


def _runner(artifact: Artifact, task: dict[str, Any]) -> Callable[[], Any]:
    """What makes the runner; the runtime is imported by then, which is no part of loading a file."""
    if task["side"] == "artifact":
        from ..backends.registry import get_backend

        backend = get_backend(artifact.manifest.backend)
        backend.require_available()
        return lambda: backend.load(artifact, task["device"])
    from ...models.sources import rebuild
    from ..backends.eager.runner import TorchRunner

    def eager() -> Any:
        module = rebuild(artifact.manifest.origin, artifact.weights_path).eval()
        return TorchRunner("the eager reference", artifact.manifest.spec, module, task["device"])

    return eager


def _warm_up(runner: Any) -> bool:
    """Run until the median of a window is within 5 % of the one before; False when that took too long."""
    begun = time.perf_counter()
    least, most = WARM_UP_S
    before = statistics.median(runner.time_steps(WINDOW))
    while time.perf_counter() - begun < most:
        now = statistics.median(runner.time_steps(WINDOW))
        if abs(now - before) <= STABLE * before and time.perf_counter() - begun >= least:
            return True
        before = now
    return False


def _block(runner: Any, milliseconds: float, least: int) -> list[float]:
    """Runs for so long and at least so many."""
    begun, lead = time.perf_counter(), runner.time_steps(LEAD_IN_RUNS)
    while 1e3 * (time.perf_counter() - begun) < LEAD_IN_MS:
        lead += runner.time_steps(LEAD_IN_RUNS)
    runs = max(least, int(milliseconds / max(min(lead), 1e-3)))
    return runner.time_steps(runs)


def _transfers(runner: Any, batch: Any) -> dict[str, float]:
    """Milliseconds to bring a batch to the device and logits back, medians, told apart from the runs."""
    there: list[float] = []
    back: list[float] = []
    for _ in range(20):
        begun = time.perf_counter()
        runner.upload(batch)
        runner.synchronize()
        there.append(1e3 * (time.perf_counter() - begun))
        runner.step()
        runner.synchronize()
        begun = time.perf_counter()
        runner.fetch()
        back.append(1e3 * (time.perf_counter() - begun))
    return {"upload_ms": statistics.median(there), "fetch_ms": statistics.median(back)}


def _peak_memory_mb() -> float | None:
    """Of this process; getrusage would tell the parent's peak too, whose memory it shared before its exec."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:  # no Linux
        return None
    return next((int(line.split()[1]) / 1e3 for line in lines if line.startswith("VmHWM:")), None)


def _own_stdout() -> IO[str]:
    """Keep stdout for the protocol: what libraries print goes to stderr."""
    kept = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return kept


def _say(out: IO[str], value: dict[str, Any]) -> None:
    out.write(json.dumps(value) + "\n")
    out.flush()


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
