"""Which modules of a user's own a factory hangs on: read, never run."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from zoo.exporter.pipeline.cache_keys import fingerprint
from zoo.exporter.pipeline.imports import closure, factory_of
from zoo.exporter.pipeline.job_inputs import modules


def lay(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def names(folder: Path, factory: str = "net:make") -> list[str]:
    return [one.name for one in closure(folder, factory)]


@pytest.mark.parametrize(("line", "found"), [
    ("import lab.blocks", ["lab/__init__.py", "lab/blocks.py"]),
    ("import lab.blocks as blocks", ["lab/__init__.py", "lab/blocks.py"]),
    ("from lab import blocks", ["lab/__init__.py", "lab/blocks.py"]),
    ("from lab import blocks as b, other", ["lab/__init__.py", "lab/blocks.py", "lab/other.py"]),
    ("from lab.blocks import Block", ["lab/__init__.py", "lab/blocks.py"]),
    ("def make():\n    from lab import other", ["lab/__init__.py", "lab/other.py"]),
    ("try:\n    import helper\nexcept ImportError:\n    helper = None", ["helper.py"]),
    ("import importlib\nx = importlib.import_module('lab.other')", ["lab/__init__.py", "lab/other.py"]),
    ("from importlib import import_module as no, import_module\nimport_module(name='helper')", ["helper.py"]),
    ("__import__('helper')", ["helper.py"]),
    ("from space.deep import leaf", ["space/deep/leaf.py"]),
    ("import space.deep.leaf", ["space/deep/leaf.py"]),
    ("from lab import *", ["lab/__init__.py", "lab/blocks.py"]),
    ("import torch, json, os.path, zoo.models.blocks, numpy as np", []),
    ("import absent.module", []),
    ("from . import nowhere", []),
    ("import lab.blocks.no_package", ["lab/__init__.py", "lab/blocks.py"]),
    ("import importlib\nimportlib.import_module(f'lab.{1}')", ["helper.py", "lab/__init__.py"]),
    ("from importlib import import_module as im\nim('helper')", ["helper.py"]),
    ("import importlib\nload = importlib.import_module\nload('lab.other')", ["lab/__init__.py", "lab/other.py"]),
    ("import runpy\nrunpy.run_path('lab/other.py')", ["lab/__init__.py", "lab/other.py"]),
    ("import sys\nsys.path.insert(0, 'space/deep')\nimport leaf", ["space/deep/leaf.py"]),
    ("x = 'no module', '/', '..', 'a b', ''", []),
])  # fmt: skip
def test_every_way_of_importing(tmp_path: Path, line: str, found: list[str]) -> None:
    lay(tmp_path, {"net.py": line, "helper.py": "", "lab/__init__.py": "__all__ = ['blocks', 'CONSTANT']",
                   "lab/blocks.py": "", "lab/other.py": "", "space/deep/leaf.py": "", "notes.txt": ""})  # fmt: skip
    assert names(tmp_path) == sorted([*found, "net.py"])


def test_relative_imports_circles_and_all_that_is_further_away(tmp_path: Path) -> None:
    lay(tmp_path, {
        "lab/__init__.py": "from .net import make",
        "lab/net.py": "from . import blocks\nfrom .deep.far import thing",
        "lab/blocks.py": "from .net import make  # a circle",
        "lab/deep/__init__.py": "",
        "lab/deep/far.py": "from ..other import x\nfrom ... import above_the_root",
        "lab/other.py": "import lab",
        "lab/unused.py": "",
    })  # fmt: skip
    whole = [
        "lab/__init__.py",
        "lab/blocks.py",
        "lab/deep/__init__.py",
        "lab/deep/far.py",
        "lab/net.py",
        "lab/other.py",
    ]
    assert names(tmp_path, "lab.net:make") == whole
    assert names(tmp_path, "lab:make") == whole, "a factory in a package's own file"


def test_nothing_is_run_and_what_cannot_be_parsed_is_hashed_all_the_same(tmp_path: Path) -> None:
    lay(tmp_path, {"net.py": "import broken, odd, strange\nraise SystemExit('run')",
                   "broken.py": "def (:\nimport helper", "strange.py": "x = '\\d'", "helper.py": ""})  # fmt: skip
    (tmp_path / "odd.py").write_bytes(b"\0\xff")
    assert names(tmp_path) == ["broken.py", "net.py", "odd.py", "strange.py"]
    before = fingerprint(tmp_path, "net:make")
    (tmp_path / "broken.py").write_text("def (")
    assert fingerprint(tmp_path, "net:make") != before
    deep = "(" * 100_000
    (tmp_path / "broken.py").write_text(deep)
    assert "broken.py" in names(tmp_path), "nor does a file that no parser has the depth for end a plan"


def test_the_folder_comes_first_then_pythonpath(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, other = tmp_path / "mine", tmp_path / "other"
    lay(mine, {"net.py": "import helper, far"})
    lay(other, {"helper.py": "other", "far.py": "other"})
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", str(other), str(tmp_path / "absent")]))
    assert {one.name: one.root for one in closure(mine, "net:make")} == {
        "net.py": mine,
        "helper.py": other,
        "far.py": other,
    }
    lay(mine, {"helper.py": "mine"})
    assert {one.name: one.root for one in closure(mine, "net:make")} == {
        "net.py": mine,
        "helper.py": mine,
        "far.py": other,
    }
    assert modules(mine, "net:make") == ["helper.py", "net.py"], "only what lies in the folder is sent"


def test_an_editable_installation_is_a_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, work = tmp_path / "mine", tmp_path / "work" / "src"
    lay(mine, {"net.py": "from planted_lab import blocks"})
    lay(work, {"planted_lab/__init__.py": "", "planted_lab/blocks.py": "one"})
    monkeypatch.setattr(sys, "path", [*sys.path, str(work)])  # what a .pth file does
    assert names(mine) == ["net.py", "planted_lab/__init__.py", "planted_lab/blocks.py"]
    assert "planted_lab" not in sys.modules


def test_a_fingerprint_is_of_all_modules_and_of_no_place(tmp_path: Path) -> None:
    lay(tmp_path / "a", {"net.py": "import helper", "helper.py": "import two_away", "two_away.py": "x = 1"})
    first = fingerprint(tmp_path / "a", "net:make")
    (tmp_path / "a").rename(tmp_path / "b")
    assert fingerprint(tmp_path / "b", "net:make") == first
    (tmp_path / "b" / "two_away.py").write_text("x = 2")
    assert fingerprint(tmp_path / "b", "net:make") != first
    lay(tmp_path / "alone", {"net.py": "import torch"})
    alone = tmp_path / "alone"
    assert fingerprint(alone, "net:make") == fingerprint(alone, "net.py"), "of one file as older records have it"


def test_a_run_of_a_factory_hangs_on_the_factory(tmp_path: Path) -> None:
    lay(tmp_path, {"net.py": "import helper", "helper.py": "x = 1", "runs/a/weights.safetensors": "w",
                   "runs/a/run.json": json.dumps({"origin": {"source": "net:make"}}),
                   "runs/b/run.json": json.dumps({"origin": {"source": "resnet18"}}),
                   "runs/c/run.json": "[]", "runs/b/weights.safetensors": "",
                   "runs/c/weights.safetensors": ""})  # fmt: skip
    assert factory_of(tmp_path, "runs/a") == "net:make"
    assert [factory_of(tmp_path, one) for one in ("runs/b", "runs/c", "resnet18", "", "timm:x")] == [""] * 5
    before = {name: fingerprint(tmp_path, name) for name in ("runs/a", "runs/b")}
    (tmp_path / "helper.py").write_text("x = 2")
    assert fingerprint(tmp_path, "runs/a") != before["runs/a"]
    assert fingerprint(tmp_path, "runs/b") == before["runs/b"]
    assert modules(tmp_path, "runs/a") == ["helper.py", "net.py"], "and another machine needs them"


def test_a_package_takes_what_it_imports_beside_it_to_another_machine(tmp_path: Path) -> None:
    lay(tmp_path, {"lab/__init__.py": "", "lab/net.py": "import helper", "helper.py": "", "lab/by_name.py": "",
                   "unused.py": ""})  # fmt: skip
    assert modules(tmp_path, "lab.net:make") == ["helper.py", "lab/__init__.py", "lab/by_name.py", "lab/net.py"]


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.integers(0, 7), st.sets(st.integers(0, 7), max_size=4), min_size=1))
def test_the_closure_is_what_can_be_reached(tmp_path_factory: pytest.TempPathFactory, graph) -> None:
    folder = tmp_path_factory.mktemp("graph")
    for one, others in graph.items():
        (folder / f"m{one}.py").write_text("".join(f"import m{other}\n" for other in sorted(others)))
    start = min(graph)
    reached, waiting = set(), [start]
    while waiting:
        one = waiting.pop()
        if one in graph and one not in reached:
            reached.add(one)
            waiting += graph[one]
    assert names(folder, f"m{start}:make") == sorted(f"m{one}.py" for one in reached)
