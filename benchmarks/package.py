"""What a package costs where it runs: start, memory, the import of its modules, and whether its profile is right.

    .venv/bin/python benchmarks/package.py PACKAGE [PYTHON]

PYTHON is of an environment with onnxruntime, numpy and pillow alone; else this one. Everything in processes of its own,
alternating; medians of eleven, the smallest and largest in brackets.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from zoo.exporter.runtime.container import Package

ROUNDS = 11
IMPORT = "import time; begun = time.perf_counter(); import onnxruntime, numpy; {more}print(time.perf_counter() - begun)"
OURS = "import sys; sys.path.insert(0, {path!r}); import zoo.exporter.runtime.predictor; "
SESSION = """
import json, sys, time, numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.log_severity_level = 3
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
images = numpy.random.default_rng(0).normal(size=json.loads(sys.argv[2])).astype(numpy.float32)
begun = time.perf_counter()
while time.perf_counter() - begun < 0.5:
    session.run(None, {"images": images})
times = []
begun = time.perf_counter()
while time.perf_counter() - begun < 3:
    one = time.perf_counter()
    session.run(None, {"images": images})
    times.append(1e3 * (time.perf_counter() - one))
print(numpy.median(times))
"""


def main(path: str, python: str = sys.executable) -> None:
    """Print each figure."""
    with Package(path) as package, tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "image.png"
        image.write_bytes(package.read("golden/0.png"))
        one = next(one for one in package.manifest["artifacts"] if one["backend"] == "onnx")
        model = Path(folder) / "model.onnx"
        model.write_bytes(package.read(one["model"]))
        shape = json.dumps([1, *package.manifest["spec"]["input"]])
        for name in package.names():  # as files, which Python keeps compiled
            if name.startswith("zoo/"):
                (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
                (Path(folder) / name).write_bytes(package.read(name))
        output(python, "-c", IMPORT.format(more=OURS.format(path=folder)))
        starts, plain, files, ours, ratios = [], [], [], [], []
        for _ in range(ROUNDS):
            begun = time.perf_counter()
            output(python, path, "predict", str(image), "--artifact", one["name"])
            starts.append(time.perf_counter() - begun)
            plain.append(1e3 * float(output(python, "-c", IMPORT.format(more=""))))
            files.append(1e3 * float(output(python, "-c", IMPORT.format(more=OURS.format(path=folder)))))
            ours.append(1e3 * float(output(python, "-c", IMPORT.format(more=OURS.format(path=path)))))
            session = float(output(python, "-c", SESSION, str(model), shape))
            found = json.loads(output(python, path, "profile", "--json", "--artifact", one["name"]))
            ratios.append(found["rows"][0]["percentiles"]["p50"] / session)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"start to first prediction: {told(starts)} s; largest resident size of all of it {peak:.0f} MB")
    for where, times in (("as files", files), ("from the package", ours)):
        more = [one - other for one, other in zip(times, plain, strict=True)]
        print(f"its modules {where} add {told(more, 1)} ms to the import of onnxruntime and numpy, {told(plain, 0)} ms")
    print(f"p50 of the package's profile over a plain session's: {told(ratios, 3)}")


def output(*command: str) -> str:
    """What a command prints."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def told(values: Sequence[float], places: int = 2) -> str:
    """The median, the smallest and the largest."""
    return f"{statistics.median(values):.{places}f} ({min(values):.{places}f} to {max(values):.{places}f})"


if __name__ == "__main__":
    main(*sys.argv[1:])
