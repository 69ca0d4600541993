"""The snippets of docs/artifacts.md, run as they stand but for their paths."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ENVIRONMENT

SNIPPETS = re.findall(
    r"```python\n(.*?)```", (Path(__file__).parents[2] / "docs" / "artifacts.md").read_text(), re.DOTALL
)


@pytest.mark.parametrize("index", range(3))
def test_a_snippet_runs(index: int, exported: dict[str, Path], tmp_path: Path) -> None:
    backend = ("onnx", "onnx", "torchscript")[index]
    artifact = exported[backend]
    snippet = SNIPPETS[index].replace(f"exports/resnet18/{backend}-int8", str(artifact))
    image = min((artifact / "golden").glob("*.png"))
    snippet = snippet.replace("rose.jpg", str(image))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", snippet], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, **ENVIRONMENT},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in ("torch.Size([1, 10])" if index == 2 else "0123456789")


def test_there_are_three() -> None:
    assert len(SNIPPETS) == 3
