"""What travels with a command, and what every machine must see by itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from zoo.errors import UsageError
from zoo.exporter.pipeline.command_line import command_of
from zoo.exporter.pipeline.job_inputs import Luggage, luggage, modules, sort_out
from zoo.exporter.pipeline.scheduler import run

TEXT = """
[pipeline]
out = "out"
data = "photos"

[steps.base]
do = "source"
source = "net:make"
weights = "w.pth"
spec = "spec.toml"

[steps.again]
do = "train"
from = "base"
recipe = "mine.toml"

[steps.exports]
do = "export"
from = "again"
to = ["torchscript", "onnx"]

[steps.proof]
do = "check"
from = "exports"
budget = "limits.toml"

[steps.bundle]
do = "package"
from = "proof"
"""


@pytest.fixture
def done(engine, tmp_path: Path):
    """A pipeline that has run, with all the files it names."""
    for name in ("net.py", "helper.py", "w.pth", "spec.toml", "mine.toml", "not-mine.txt"):
        (tmp_path / name).write_text(name)
    (tmp_path / "limits.toml").write_text("[int8.accuracy]\nmax_drop = 0.03\n")
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    (tmp_path / "photos" / "cat" / "1.png").write_text("x")
    made = engine(TEXT)
    run(made)
    assert {one.state for one in made.outcomes.values()} <= {"done", "cached"}
    return made


def of(engine, *names: str) -> Luggage:
    nodes = {node.id: node for node in engine.nodes}
    group = [nodes[name] for name in names]
    paths = {name: one.record.path for name, one in engine.outcomes.items() if one.record}
    command = command_of(group, engine.made(), engine.pipeline.settings)
    return luggage(group, command, nodes, engine.made(), paths, engine.pipeline.settings, engine.state.folder)


def test_each_takes_what_it_needs_and_no_more(done, tmp_path: Path) -> None:
    photos = {"photos": str(tmp_path / "photos")}
    training = of(done, "runs/make-again")
    assert set(training.sent) == {"w.pth", "spec.toml", "mine.toml", "net.py", "helper.py"}
    assert training.seen == photos, "a folder of data is seen, not sent"
    export = of(done, "exports/make-again/onnx-fp32")
    assert set(export.sent) == {"out/runs/make-again", "net.py", "helper.py"}
    check = of(done, "checks/make-again/onnx-fp32", "checks/make-again/torchscript-fp32")
    artifacts = {f"out/exports/make-again/model/{form}-fp32" for form in ("onnx", "torchscript")}
    assert {*artifacts, "limits.toml"} <= set(check.sent)
    assert "w.pth" not in check.sent
    package = of(done, "packages/make-again")
    assert {*artifacts, *(f"{one}.check.json" for one in artifacts)} <= set(package.sent)
    assert not {"limits.toml", "not-mine.txt"} & set(package.sent)


def test_what_lies_elsewhere_must_be_seen_or_is_refused(tmp_path: Path) -> None:
    folder, other = tmp_path / "mine", tmp_path / "other.pth"
    folder.mkdir()
    other.write_text("x")
    (folder / "list.bin").write_text("x")
    found = sort_out(["resnet18", "--weights", str(other), "list.bin", ""], {"list.bin"}, folder)
    assert found == Luggage(("list.bin",), {str(other): str(other)}), "data that is one file is sent"
    with pytest.raises(UsageError, match=r"\.\./other.pth lies outside .* give its full path: /"):
        sort_out(["../other.pth"], (), folder)


def test_a_factory_takes_its_package_or_its_neighbours(tmp_path: Path) -> None:
    for name in ("net.py", "helper.py", "lab/__init__.py", "lab/deep/model.py", "lab/notes.txt", "other/x.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    assert modules(tmp_path, "net:make") == ["helper.py", "net.py"]
    assert modules(tmp_path, "lab.deep.model:make") == ["lab/__init__.py", "lab/deep/model.py"]
    assert modules(tmp_path, "torchvision:resnet18") == []
    assert modules(tmp_path, "resnet18") == []
