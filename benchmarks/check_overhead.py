"""How much of `zoo check` on 10,000 Fashion-MNIST images is spent outside the models' forward passes.

    .venv/bin/python benchmarks/check_overhead.py RUN

Exports RUN to eager, TorchScript and ONNX, then times the whole command (imports and all) and, inside it, every call of
the reference's and the artifacts' run methods.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

INSIDE = """
import sys, time
begun = time.perf_counter()
import zoo.exporter.backends.base as base
spent, real = [0.0], base.Runner.run
def run(self, batch):
    start = time.perf_counter()
    try:
        return real(self, batch)
    finally:
        spent[0] += time.perf_counter() - start
base.Runner.run = run
from zoo.exporter.cli.app import app
from zoo.exporter.cli.main import run as run_command
code = run_command(app, sys.argv[1:])
sys.stderr.write(f"forward {spent[0]}\\n")
sys.exit(code)
"""


def main(run: str) -> None:
    """Print the share of the command's time that is not forward passes."""
    zoo = str(Path(sys.executable).with_name("zoo"))
    with tempfile.TemporaryDirectory() as folder:
        export = [zoo, "export", str(Path(run).absolute()), "--to", "eager,torchscript,onnx", "--data", "fashion-mnist"]
        subprocess.run(export, cwd=folder, check=True, capture_output=True)
        artifacts = [str(path) for path in sorted(Path(folder).glob("exports/*/*"))]
        command = [sys.executable, "-c", INSIDE, "check", *artifacts, "--data", "fashion-mnist"]
        begun = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        whole = time.perf_counter() - begun
        forward = float(done.stderr.split("forward ")[-1])
        print(f"exit {done.returncode}; {whole:.1f} s in all, {forward:.1f} s in forward passes of the reference and "
              f"{len(artifacts)} artifacts, {whole / forward:.2f} of them")  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1])
