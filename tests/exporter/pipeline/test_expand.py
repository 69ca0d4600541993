"""The matrix: which nodes a file is, and what each is given; what a machine lacks for them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zoo.errors import UsageError
from zoo.exporter.pipeline.cache_keys import facts_of, fingerprint
from zoo.exporter.pipeline.command_line import Made, command_of, together
from zoo.exporter.pipeline.config import Needs, read_pipeline
from zoo.exporter.pipeline.expand import Node, distinct, expand, name_of
from zoo.exporter.pipeline.kinds import Check, Export, Prune, Train
from zoo.exporter.pipeline.requirements import Facts, lacking, modules
from zoo.exporter.pipeline.schedule import Limits, choose

MODELS = """
[pipeline]
data = "digits"
[steps.base]
do = "source"
source = ["torchvision:resnet18", "timm:resnet18", "pkg.models:tiny"]
"""
FLEET = """
[steps.plans]
do = "export"
from = "base"
to = ["onnx", "trt"]
precision = "fp16"
accelerator = ["A100", "T4"]
set = { "trt.optimization_level" = 5 }
[steps.proof]
do = "check"
from = "plans"
latency = true
"""


def nodes_of(text: str, tmp_path: Path) -> dict[str, Node]:
    path = tmp_path / "pipeline.toml"
    path.write_text(text)
    return {node.id: node for node in expand(read_pipeline(path))}


def test_sources_of_one_name_are_told_apart(tmp_path: Path) -> None:
    assert list(nodes_of(MODELS, tmp_path)) == ["sources/resnet18", "sources/resnet18-2", "sources/tiny"]


@given(st.lists(st.sampled_from("abc"), max_size=8))
def test_distinct_names_are(names: list[str]) -> None:
    found = distinct(names)
    assert len(set(found)) == len(found)
    assert all(new.startswith(old) for new, old in zip(found, names))


def test_a_fleet_gets_a_plan_for_each_gpu(tmp_path: Path) -> None:
    nodes = nodes_of(MODELS + FLEET, tmp_path)
    built = nodes["exports/tiny/trt-fp16-A100"]
    assert built.needs == ("graphs/tiny/trt-fp16",)
    assert (built.machine.accelerator_type, built.machine.gpus) == ("A100", 1)
    assert nodes["checks/tiny/trt-fp16-T4"].needs == ("exports/tiny/trt-fp16-T4",)
    assert nodes["graphs/tiny/trt-fp16"].options.set == {"trt.optimization_level": 5}
    assert nodes["exports/tiny/onnx-fp16"].options.set == {}, "the others do not have it"
    here = Facts(frozenset(modules()), 1, 8, 64.0, ("NVIDIA A100-SXM4-80GB",))
    assert lacking(built, here) is None
    assert "a T4 is needed, and NVIDIA A100" in str(lacking(nodes["exports/tiny/trt-fp16-T4"], here))


def test_two_steps_for_one_place_are_refused(tmp_path: Path) -> None:
    twice = '[steps.again]\ndo = "export"\nfrom = "base"\nto = "onnx"\nprecision = "fp16"\n'
    with pytest.raises(UsageError, match="steps plans and again would make exports/resnet18/onnx-fp16"):
        nodes_of(MODELS + FLEET + twice, tmp_path)


def test_what_is_lacking_is_said_with_a_way_out() -> None:
    bare = Facts(frozenset(), 0, 2, 8.0)
    train = Node("runs/a", "base", Train(source="resnet18"), "a")
    assert str(lacking(train, bare)) == 'torch is not installed here; pip install "zoo-export[full]"'
    some = Facts(frozenset(modules()), 0, 2, 8.0)
    assert lacking(train, some) is None
    cuda = dataclasses.replace(train, machine=Needs(device="cuda"))
    assert "no GPU is here" in str(lacking(cuda, some))
    assert "2 GPUs are needed, and none" in str(lacking(dataclasses.replace(train, machine=Needs(gpus=2)), some))
    board = dataclasses.replace(train, machine=Needs(resources={"board": 1}))
    assert "--on ray" in str(lacking(board, some))


def test_a_latency_is_held_against_the_same_artifact_whoever_is_checked_with_it(tmp_path: Path) -> None:
    nodes = nodes_of(MODELS + FLEET.replace('precision = "fp16"', 'precision = ["fp32", "fp16"]'), tmp_path)
    node = nodes["checks/tiny/onnx-fp16"]
    assert node.sibling == "exports/tiny/onnx-fp32"
    made = {"exports/tiny/onnx-fp16": Made("a/onnx-fp16"), "exports/tiny/onnx-fp32": Made("a/onnx-fp32")}
    settings = read_pipeline(tmp_path / "pipeline.toml").settings
    assert command_of([node], made, settings).arguments[-2:] == ("--against", "a/onnx-fp32")
    assert together(list(nodes.values())).count([node]) == 1, "by itself: it measures"


def test_keys_hang_on_what_a_result_hangs_on(tmp_path: Path) -> None:
    settings = read_pipeline_of(tmp_path)
    node = Node("runs/a", "base", Train(source="resnet18", data="photos"), "a")
    photos = tmp_path / "photos" / "cats"
    photos.mkdir(parents=True)
    (photos / "a.png").write_text("x")
    before = facts_of(node, settings, [], tmp_path)
    assert facts_of(node, settings, [], tmp_path) == before
    for other in (
        dataclasses.replace(node, options=Train(source="resnet18", data="photos", epochs=3)),
        dataclasses.replace(node, machine=Needs(cores=1)),
        dataclasses.replace(node, form="x"),
    ):
        assert facts_of(other, settings, [], tmp_path) != before
    assert facts_of(node, settings, ["digest"], tmp_path) != before
    assert facts_of(node, dataclasses.replace(settings, seed=1), [], tmp_path) != before
    assert facts_of(dataclasses.replace(node, step="renamed"), settings, [], tmp_path) == before
    (photos / "b.png").write_text("x")
    assert facts_of(node, settings, [], tmp_path) != before, "the data have another image"


def read_pipeline_of(tmp_path: Path):
    (tmp_path / "pipeline.toml").write_text(MODELS)
    return read_pipeline(tmp_path / "pipeline.toml").settings


def test_a_factory_is_its_modules_file(tmp_path: Path) -> None:
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "models.py").write_text("one")
    before = fingerprint(tmp_path, "pkg.models:tiny")
    (tmp_path / "pkg" / "models.py").write_text("two")
    assert fingerprint(tmp_path, "pkg.models:tiny") != before
    assert fingerprint(tmp_path, "torchvision:resnet18") == "torchvision:resnet18"
    assert name_of("runs/resnet18-flowers/") == "resnet18-flowers"


LIMITS = Limits(4, 16.0, 1)
groups = st.lists(
    st.tuples(st.sampled_from([None, 1, 2, 4, 9]), st.sampled_from([1.0, 4.0, 12.0, 99.0]), st.booleans()), max_size=7
)


def grouped(kinds) -> list[list[Node]]:
    return [
        [Node(str(index), "s", Prune(timed=True) if alone else Export(to="onnx"), "m", form="onnx-fp32",
              machine=Needs(cores, memory, 0))]
        for index, (cores, memory, alone) in enumerate(kinds)
    ]  # fmt: skip


@given(groups, groups)
def test_the_machine_is_never_overbooked_and_never_left_idle(waiting, busy) -> None:
    ready, running = grouped(waiting), grouped(busy[:2])
    if any(node.alone for group in running for node in group):
        running = running[:1]
    chosen = choose(ready, running, LIMITS)
    begun = [ready[index] for index in chosen]
    if any(node.alone for group in (*begun, *running) for node in group):
        assert len(begun) + len(running) == 1 or not begun, "what measures is alone"
    if len(begun) + len(running) > 1 and begun:
        cores = sum(LIMITS.cores if group[0].machine.cores is None else group[0].machine.cores for group in begun)
        assert cores <= LIMITS.cores
        assert sum(group[0].machine.memory for group in begun) <= LIMITS.memory
    if ready and not running:
        assert begun, "something begins"


def test_what_measures_goes_last() -> None:
    ready = grouped([(1, 1.0, True), (1, 1.0, False), (1, 1.0, False)])
    assert choose(ready, [], LIMITS) == [1, 2]
    assert choose(ready[:1], ready[1:], LIMITS) == []
    assert choose(ready[:1], [], LIMITS) == [0]


def test_checks_without_latency_are_one_command() -> None:
    nodes = [Node(f"checks/m/{form}", "s", Check(), "m", (form,), form) for form in ("onnx-fp32", "torchscript-fp32")]
    assert together(nodes) == [nodes]
