"""docs/pipeline.md says what the classes say, and its example holds together."""

from __future__ import annotations

import re
from pathlib import Path

from zoo.exporter.backends.infos import backend_names
from zoo.exporter.pipeline.config import read_pipeline
from zoo.exporter.pipeline.expand import expand
from zoo.exporter.pipeline.reference import put_in

ROOT = Path(__file__).parents[3]


def test_the_page_is_as_the_classes_are() -> None:
    page = (ROOT / "docs" / "pipeline.md").read_text()
    assert put_in(page) == page, "python -m zoo.exporter.pipeline.reference docs/pipeline.md"


def test_its_examples_are_pipelines(tmp_path: Path) -> None:
    first, fleet = re.findall(r"```toml\n(.*?)```", (ROOT / "docs" / "pipeline.md").read_text(), re.DOTALL)
    path = tmp_path / "pipeline.toml"
    path.write_text(first.replace("/data/flowers", "digits"))
    assert len(expand(read_pipeline(path))) == 2 + 2 * (3 + 1) * 2 + 12 + 2
    whole = expand(read_pipeline(ROOT / "examples" / "all-backends.toml"))
    assert {node.backend for node in whole if node.kind == "export"} == set(backend_names()) - {"eager"}
    always = expand(read_pipeline(ROOT / "examples" / "pipeline.toml"))
    assert {node.backend for node in always if node.kind == "export"} == {"onnx", "torchscript"}
    assert {node.kind for node in always} == {"train", "prune", "export", "check", "package"}
    path.write_text(fleet.replace("/data/flowers", "digits"))
    assert len(expand(read_pipeline(path))) == 1 + 2 * (1 + 3), "a training, and of two graphs three plans each"
