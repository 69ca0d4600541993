"""Times an ONNX or TorchScript file on this machine's CPU, in a process of its own.

`python -m zoo.exporter.timing_worker`: two runtimes in one process disturb each other, the spinning threads of one slow
the other two- to threefold. Prints the milliseconds of each run as one JSON list; with `nodes`, the microseconds of
each node of ONNX Runtime's optimised graph instead.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

LONG_ENOUGH = 300.0  # milliseconds of runs, however many that takes: a few short ones are all noise


def main(path: str, runs: int, threads: int, shape: list[int], nodes: bool = False) -> int:
    """Warm up with a fifth of the runs, then time at least so many."""
    if path.endswith(".pt"):
        sys.stdout.write(json.dumps(script_times(path, runs, threads, shape)) + "\n")
        return 0
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    with tempfile.TemporaryDirectory() as folder:
        if nodes:
            options.enable_profiling = True
            options.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        batch = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        warm = max(3, runs // 5)
        for _ in range(warm):
            session.run(None, {name: batch})
        times: list[float] = []
        while len(times) < runs or (sum(times) < LONG_ENOUGH and not nodes):
            begun = time.perf_counter()
            session.run(None, {name: batch})
            times.append(1e3 * (time.perf_counter() - begun))
        if nodes:
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
            sys.stdout.write(json.dumps(node_times(events, warm)) + "\n")
        else:
            sys.stdout.write(json.dumps(times) + "\n")
    return 0


def script_times(path: str, runs: int, threads: int, shape: list[int]) -> list[float]:
    """Milliseconds of each run of a TorchScript file, loaded without zoo, with the engine that its operators need."""
    import warnings

    import torch

    from ..calibration.engine import ONEDNN, count_fused

    warnings.simplefilter("ignore")
    torch.set_num_threads(threads)
    module = torch.jit.load(path, map_location="cpu")
    if count_fused(module):
        torch.backends.quantized.engine = ONEDNN
        module = torch.jit.load(path, map_location="cpu")  # again: the engine packs the weights
    batch = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    times: list[float] = []
    warm = max(3, runs // 5)
    with torch.inference_mode():
        while len(times) < runs + warm or sum(times) < LONG_ENOUGH:
            begun = time.perf_counter()
            module(batch)
            times.append(1e3 * (time.perf_counter() - begun))
    return times[warm:]


def node_times(events: list[dict[str, Any]], warm: int) -> dict[str, float]:
    """Microseconds a node, from ONNX Runtime's profile: the mean of the middle half of its runs after `warm`.

    The profiler counts whole microseconds, too coarse for the median of a small node.
    """
    durations: dict[str, list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and str(event["name"]).endswith("_kernel_time"):
            durations[event["name"].removesuffix("_kernel_time")].append(float(event["dur"]))
    found: dict[str, float] = {}
    for name, several in durations.items():
        kept = sorted(several[warm:]) or several
        cut = len(kept) // 4
        found[name] = statistics.fmean(kept[cut : len(kept) - cut])
    return found


if __name__ == "__main__":
    sys.exit(
        main(
            sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), [int(size) for size in sys.argv[4].split("x")],
            sys.argv[5:] == ["nodes"],
        )
    )  # fmt: skip
