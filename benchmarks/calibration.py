"""What a calibration takes: peak memory of 64 and of 1,024 images, and time beside ONNX Runtime's entropy calibrator.

    .venv/bin/python benchmarks/calibration.py [MODEL]

Each in a process of its own, images of 3x224x224 (noise) through resnet50 with random weights and live statistics. The
memory is the largest resident size of the whole process (VmHWM), imports and tracing included; the time is of the pass
over the images alone, and for ours of choosing all ranges by entropy too, as the calibrator's does.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SHAPE = (3, 224, 224)
BATCH = 16
ROUNDS = 3


def stream(count: int) -> list[np.ndarray]:
    """Batches of noise, the same for both."""
    draw = np.random.default_rng(0)
    return [draw.normal(size=(BATCH, *SHAPE)).astype(np.float32) for _ in range(min(count, 64) // BATCH)]


def ours(name: str, count: int) -> float:
    """Seconds of collecting all edges and choosing all ranges."""
    from zoo.calibration.ranges import collect
    from zoo.exporter.artifact.manifest import Batch
    from zoo.exporter.backends.graph.graph import trace_graph
    from zoo.exporter.backends.onnx import int8 as target
    from zoo.models.sources import SourceOptions, resolve

    model = resolve(name, SourceOptions(weights="random"))
    graph, program = trace_graph(model.module, model.spec, "fp32", Batch(1, 8, 64))
    edges, images = target.edges(target.prepare(graph)), stream(count)
    begun = time.perf_counter()
    table = collect(program, edges, (images[index % len(images)] for index in range(count // BATCH)))
    for edge in table.edges:
        table.range(edge, "entropy")
    return time.perf_counter() - begun


def theirs(name: str, count: int) -> float:
    """Seconds of the entropy calibrator on the same graph, image by image as its quantize_static feeds it."""
    import onnx
    from onnxruntime.quantization.calibrate import CalibrationDataReader, CalibrationMethod, create_calibrator
    from zoo.exporter.artifact.manifest import Batch
    from zoo.exporter.backends.graph.graph import export_graph
    from zoo.models.sources import SourceOptions, resolve

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(one for batch in stream(count) for one in batch[:, None])

        def get_next(self) -> dict[str, np.ndarray]:
            one = next(self.left, None)
            return {} if one is None else {"images": one}

    model = resolve(name, SourceOptions(weights="random"))
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "f.onnx"
        onnx.save(export_graph(model.module, model.spec, "fp32", Batch(1, 8, 64)), source)
        maker = create_calibrator(str(source), None, str(Path(folder) / "a.onnx"), CalibrationMethod.Entropy)
        maker.set_execution_providers(["CPUExecutionProvider"])
        begun = time.perf_counter()
        maker.collect_data(Reader())
        maker.compute_data()
        return time.perf_counter() - begun


def measured(which: str, name: str, count: int) -> tuple[float, float]:
    """Seconds, and MiB at the peak, of a process of its own."""
    command = [sys.executable, __file__, "--one", which, name, str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{which} with {count} images ended with {done.returncode}: {done.stderr[-500:]}")
    seconds, peak = json.loads(done.stdout.splitlines()[-1])
    return seconds, peak


def main(name: str) -> None:
    """Print the figures, a line each."""
    rows = {key: [] for key in (("ours", 64), ("theirs", 64))}
    for _ in range(ROUNDS):
        for key, found in rows.items():
            found.append(measured(key[0], name, key[1]))
    many = measured("ours", name, 1024)
    medians = {key: [statistics.median(one[index] for one in found) for index in (0, 1)] for key, found in rows.items()}
    mine, other = medians[("ours", 64)], medians[("theirs", 64)]
    ratios = sorted(b[0] / a[0] for a, b in zip(rows[("ours", 64)], rows[("theirs", 64)], strict=True))
    print(f"{name}, 64 images: ours {mine[0]:.1f} s, peak {mine[1]:,.0f} MiB")
    print(f"{name}, 64 images: ONNX Runtime's entropy calibrator {other[0]:.1f} s, peak {other[1]:,.0f} MiB")
    print(f"time, theirs over ours: {ratios[len(ratios) // 2]:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")
    print(f"{name}, 1,024 images: ours {many[0]:.1f} s, peak {many[1]:,.0f} MiB, {many[1] / mine[1]:.3f} of 64 images'")


if __name__ == "__main__":
    import warnings

    warnings.simplefilter("ignore")
    if sys.argv[1:2] == ["--one"]:
        which, model, count = sys.argv[2:]
        taken = (ours if which == "ours" else theirs)(model, int(count))
        print(json.dumps([taken, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
    else:
        main(sys.argv[1] if len(sys.argv) > 1 else "resnet50")
