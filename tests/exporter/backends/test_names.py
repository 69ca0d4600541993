"""Nothing outside exporter/backends knows a backend by its name or by the suffix of its file."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import zoo.exporter
from zoo.exporter.backends.infos import BACKENDS, backend_info

ROOT = Path(zoo.exporter.__file__).parents[1]
INFOS = [backend_info(name) for name in BACKENDS]
KNOWN = {
    *(info.name for info in INFOS),
    *(info.suffix for info in INFOS if info.suffix),
    *(info.model for info in INFOS if info.model),
}
METHODS = ("startswith", "endswith", "removeprefix", "removesuffix", "index", "count", "match", "fullmatch")


def sources() -> list[Path]:
    rooms = [ROOT / name for name in ("models", "calibration", "exporter")]
    found = [path for room in rooms for path in room.rglob("*.py")] + list(ROOT.glob("*.py"))
    return sorted(path for path in found if "backends" not in path.relative_to(ROOT).parts)


def constants(node: ast.AST) -> Iterator[str]:
    """Strings in what is compared: a constant, or those in a tuple, list, set or dict that is written there."""
    for child in ast.walk(node):
        if isinstance(child, ast.Constant) and isinstance(child.value, str):
            yield child.value


def tables(tree: ast.AST) -> dict[str, list[str]]:
    """Strings in the tuples, lists and sets that have a name."""
    found: dict[str, list[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple | ast.List | ast.Set):
            found |= {name.id: list(constants(node.value)) for name in node.targets if isinstance(name, ast.Name)}
    return found


def comparisons(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of each backend's name or suffix that something is compared with."""
    named = tables(tree)
    for node in ast.walk(tree):
        compared: list[ast.AST] = []
        if isinstance(node, ast.Compare):
            compared = [side for side in (node.left, *node.comparators) if not isinstance(side, ast.Call)]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in METHODS:
            compared = list(node.args)
        elif isinstance(node, ast.match_case):
            compared = [node.pattern]
        for side in compared:
            for value in [*constants(side), *(named.get(side.id, []) if isinstance(side, ast.Name) else [])]:
                if value in KNOWN:
                    yield getattr(node, "lineno", getattr(side, "lineno", 0)), value


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_compares_them(path: Path) -> None:
    found = [f"{path}:{line}: {name}" for line, name in comparisons(ast.parse(path.read_text(encoding="utf-8")))]
    assert not found, "ask the record of the backend (exporter/backends/info.py)"


@pytest.mark.parametrize(
    "planted",
    [
        'x = backend == "onnx"', 'x = backend != "trt"', 'x = backend in ("torchscript", "eager")',
        'x = backend not in {"onnx": 1}', 'x = path.suffix == ".pt"', 'x = name.endswith((".json", ".plan"))',
        'x = form.startswith("trt")', 'x = name == "model.onnx"',
        'RUNS = ("onnx", "torchscript")\nx = backend in RUNS',
        'match backend:\n    case "onnx" | "trt":\n        x = 1',
    ],
)  # fmt: skip
def test_a_planted_comparison_is_found(planted: str) -> None:
    assert list(comparisons(ast.parse(planted)))


@pytest.mark.parametrize("plain", ['x = "onnx"', 'x = {"onnx": 1}', 'x = name == "onnxruntime"', 'x = a == b("onnx")'])
def test_what_compares_nothing_passes(plain: str) -> None:
    assert not list(comparisons(ast.parse(plain)))
