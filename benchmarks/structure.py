"""Counts of the house: what a backend touches, where processes are started to time, cycles, arrows, rooms.

    .venv/bin/python benchmarks/structure.py [CHECKOUT]

Everything is read from the sources; nothing of the checkout is imported.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

NAMES = re.compile(r"""["'](onnx|trt|torchscript|eager|\.onnx|\.pt|\.plan|model\.(?:onnx|pt|plan))["']""")
STARTS = ("Popen", "run")
ROOMS = ("models", "calibration", "exporter")


def sources(root: Path) -> list[Path]:
    """All files of the package."""
    return sorted(path for room in ROOMS for path in (root / room).rglob("*.py"))


def naming(root: Path) -> list[str]:
    """Files outside exporter/backends and calibration/targets that write a backend's name or suffix as a string."""
    found: list[str] = []
    for path in sources(root):
        inside = path.relative_to(root)
        if "backends" in inside.parts or "targets" in inside.parts:
            continue
        words = [
            node.value
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and NAMES.fullmatch(f'"{node.value}"')
        ]
        if words:
            found.append(str(inside))
    return found


def timers(root: Path) -> list[str]:
    """Files that start a process in whose command or name something is timed or profiled."""
    found: list[str] = []
    for path in sources(root):
        text = path.read_text(encoding="utf-8")
        starts = any(
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in STARTS
            and getattr(node.func.value, "id", "") == "subprocess"
            for node in ast.walk(ast.parse(text))
        )
        times = re.search(r"_worker\b|device\.engine|PACKAGE, \*arguments|timing\.worker", text)
        if starts and times:
            found.append(str(path.relative_to(root)))
    return found


def module_of(path: Path, root: Path) -> str:
    """The name of a file's module."""
    return ".".join(("zoo", *path.relative_to(root).with_suffix("").parts)).removesuffix(".__init__")


def imports(path: Path, root: Path, known: set[str]) -> Iterator[str]:
    """Modules of zoo that a file imports, for types too."""
    module = module_of(path, root).split(".")
    package = module if path.name == "__init__.py" else module[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            above = package[: len(package) - node.level + 1]
            base = ".".join([*above, *([node.module] if node.module else [])])
            for name in node.names:
                yield f"{base}.{name.name}" if f"{base}.{name.name}" in known else base


def cycles(root: Path) -> list[tuple[str, ...]]:
    """Groups of modules that reach each other, imports inside functions and for types included."""
    known = {module_of(path, root) for path in sources(root)}
    edges = {module_of(path, root): set(imports(path, root, known)) & known for path in sources(root)}

    def reach(start: str) -> set[str]:
        seen: set[str] = set()
        todo = [start]
        while todo:
            for other in edges[todo.pop()] - seen:
                seen.add(other)
                todo.append(other)
        return seen

    reached = {name: reach(name) for name in edges}
    groups = {
        tuple(sorted({name, *(other for other in reached[name] if name in reached[other])}))
        for name in edges
        if name in reached[name]
    }
    return sorted(groups)


def rooms(root: Path) -> list[str]:
    """Folders with code, and loose files of exporter/."""
    folders = {str(path.parent.relative_to(root)) for path in sources(root)}
    loose = {path.name for path in (root / "exporter").glob("*.py") if path.name != "__init__.py"}
    return sorted(folders) + sorted(f"exporter/{name}" for name in loose)


def main(root: Path) -> None:
    """Print the counts."""
    named, timed, around = naming(root), timers(root), cycles(root)
    print(f"files outside backends/ that write a backend's name or suffix: {len(named)}: {', '.join(named)}")
    print(f"files that start a process to time something: {len(timed)}: {', '.join(timed)}")
    print(f"cycles of modules: {len(around)}: {around}")
    print(f"rooms: {len(rooms(root))}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1])
