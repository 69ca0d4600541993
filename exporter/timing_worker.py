"""Times one ONNX graph on ONNX Runtime's CPU, in a process of its own: `python -m zoo.exporter.timing_worker`.

Two runtimes in one process disturb each other: the spinning threads of one slow the other two- to threefold. Prints the
milliseconds of each run as one JSON list.
"""

from __future__ import annotations

import json
import sys
import time


def main(path: str, runs: int, threads: int, shape: list[int]) -> int:
    """Warm up with a fifth of the runs, then time each."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    batch = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    for _ in range(max(3, runs // 5)):
        session.run(None, {name: batch})
    times: list[float] = []
    for _ in range(runs):
        begun = time.perf_counter()
        session.run(None, {name: batch})
        times.append(1e3 * (time.perf_counter() - begun))
    sys.stdout.write(json.dumps(times) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), [int(size) for size in sys.argv[4].split("x")]))
