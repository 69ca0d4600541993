"""Time an engine for the report of run.sh: device, enqueue and transfers apart, medians and spread.

python tests/gpu/latency.py ARTIFACT
"""

from __future__ import annotations

import statistics
import sys

import numpy as np
from zoo.exporter.load import load


def main() -> int:
    """Print one line a batch size."""
    with load(sys.argv[1], "cuda") as runner:
        sizes = runner.batch
        assert sizes is not None
        for count in sorted({sizes.min, sizes.opt, sizes.max}):
            batch = np.random.default_rng(0).normal(size=(count, *runner.spec.input)).astype(np.float32)
            timed = runner.time(batch, runs=200, warm_up=50)
            parts = {"gpu": timed.gpu, "enqueue": timed.enqueue, "with transfers": timed.total}
            told = ", ".join(
                f"{name} {statistics.median(values):.3f} ms ({np.percentile(values, 5):.3f} to "
                f"{np.percentile(values, 95):.3f})"
                for name, values in parts.items()
            )
            print(f"batch {count}: {told}, CUDA graph {'yes' if timed.graph else 'no'}; {'; '.join(runner.notes)}")
        print(runner.receipt())
    return 0


if __name__ == "__main__":
    sys.exit(main())
