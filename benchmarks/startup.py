"""How long `zoo --help` and `zoo list` take, and an export, as ratios to bare scripts in the same run.

    .venv/bin/python benchmarks/startup.py

Each pair alternates; the result is the median of the ratios with the smallest and the largest.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ZOO = Path(sys.executable).with_name("zoo")
BARE_EXPORT = """
import torch
from zoo.models.resnet import build
model = build("resnet18").eval()
program = torch.onnx.export(model, (torch.randn(2, 3, 224, 224),), dynamo=True, opset_version=20, verbose=False,
                            dynamic_shapes=({0: torch.export.Dim("batch")},))
program.save("bare.onnx")
"""


def seconds(command: list[str], folder: str) -> float:
    """Wall time of a whole process."""
    begun = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - begun


def compare(name: str, ours: list[str], bare: list[str], repeats: int, folder: str) -> None:
    """Print the median ratio of `repeats` alternating pairs, after one pair for the caches."""
    pairs = [(seconds(ours, folder), seconds(bare, folder)) for _ in range(repeats + 1)][1:]
    ratios = sorted(one / other for one, other in pairs)
    median = statistics.median(ratios)
    print(
        f"{name:55s} {median:5.2f}  ({ratios[0]:.2f} to {ratios[-1]:.2f}, {repeats} pairs; "
        f"{statistics.median(p[0] for p in pairs):.2f} s over {statistics.median(p[1] for p in pairs):.2f} s)"
    )


def main() -> None:
    """Print three ratios."""
    python = sys.executable
    with tempfile.TemporaryDirectory() as folder:
        compare("zoo --help / import torch", [str(ZOO), "--help"], [python, "-c", "import torch"], 9, folder)
        compare("zoo list / import torch", [str(ZOO), "list"], [python, "-c", "import torch"], 9, folder)
        ours = [str(ZOO), "export", "resnet18", "--to", "onnx", "--weights", "random"]
        compare("zoo export resnet18 --to onnx / bare torch.onnx.export", ours, [python, "-c", BARE_EXPORT], 5, folder)


if __name__ == "__main__":
    main()
