"""The snippets of docs/artifacts.md, run as they stand but for their paths."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ENVIRONMENT
from zoo.exporter.backends.options import ExportOptions
from zoo.exporter.export import export
from zoo.models.sources import resolve

SNIPPETS = re.findall(
    r"```python\n(.*?)```", (Path(__file__).parents[2] / "docs" / "artifacts.md").read_text(), re.DOTALL
)


PLACES = ("onnx-int8", "onnx-int8", "onnx-int8-pixels", "torchscript-int8")


@pytest.mark.parametrize("index", range(len(PLACES)))
def test_a_snippet_runs(index: int, exported: dict[str, Path], trained: Path, tmp_path: Path) -> None:
    artifact = exported[PLACES[index].partition("-")[0]]
    if "pixels" in PLACES[index]:
        artifact = export(resolve(str(trained)), "onnx", ExportOptions(with_preprocess=True), out=tmp_path)[0].folder
    assert f"exports/resnet18/{PLACES[index]}" in SNIPPETS[index]
    snippet = SNIPPETS[index].replace(f"exports/resnet18/{PLACES[index]}", str(artifact))
    image = min((artifact / "golden").glob("*.png"))
    snippet = snippet.replace("rose.jpg", str(image))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", snippet], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, **ENVIRONMENT},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in ("torch.Size([1, 10])" if "torch" in PLACES[index] else "0123456789")


def test_each_is_run() -> None:
    assert len(SNIPPETS) == len(PLACES)
