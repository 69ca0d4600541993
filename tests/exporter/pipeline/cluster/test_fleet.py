"""Which machines of a cluster a step may run on, and what Ray is asked for."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from zoo.exporter.pipeline.cache_keys import facts_of, machine
from zoo.exporter.pipeline.cluster.fleet import Ask, Fleet, Place, ask, elsewhere, lacking_in, stays
from zoo.exporter.pipeline.command_line import together
from zoo.exporter.pipeline.config import Settings, read_pipeline
from zoo.exporter.pipeline.expand import Node, expand
from zoo.exporter.pipeline.requirements import Facts, modules

HERE = Facts(frozenset(modules()), 0, 2, 8.0)
ALL = frozenset(modules())
CPU = Place("c1", "c1", 16, 0, 32.0, modules=ALL - {"tensorrt"}, machine="xeon, 16 cores")
CPU2 = replace(CPU, id="c2", host="c2")
SMALL = replace(CPU, id="s", host="s", cores=4, machine="atom, 4 cores")
T4 = Place("t4", "t4", 8, 1, 32.0, frozenset({"T4"}), {}, ALL, "xeon, 8 cores, T4")
A100 = Place("a", "a", 64, 8, 400.0, frozenset({"A100"}), {}, ALL, "epyc, 64 cores, A100")
BOARD = Place("b", "b", 6, 1, 30.0, frozenset(), {"orin": 1.0}, frozenset({"tensorrt"}), "arm, 6 cores")
FLEET = (CPU, CPU2, SMALL, T4, A100, BOARD)
TEXT = """
[pipeline]
data = "digits"
[steps.base]
do = "train"
source = "resnet18"
[steps.out]
do = "export"
from = "base"
to = ["onnx", "trt"]
precision = "fp16"
accelerator = ["T4", "A100"]
[steps.judge]
do = "check"
from = "out"
latency = true
[steps.bundle]
do = "package"
from = "judge"
"""


@pytest.fixture
def nodes(tmp_path: Path):
    def make(text: str = TEXT) -> dict[str, Node]:
        (tmp_path / "pipeline.toml").write_text(text)
        return {node.id: node for node in expand(read_pipeline(tmp_path / "pipeline.toml"))}

    return make


def asking(fleet: Fleet, node: Node) -> Ask:
    asked = fleet.ask([node])
    assert asked is not None
    return asked


def ids(asked: Ask) -> set[str]:
    return {one.id for one in asked.places}


def test_a_plan_is_built_and_checked_on_its_own_type_of_gpu(nodes) -> None:
    found, fleet = nodes(), Fleet(FLEET, HERE)
    for kind, place in (("T4", "t4"), ("A100", "a")):
        for one in (f"exports/resnet18/trt-fp16-{kind}", f"checks/resnet18/trt-fp16-{kind}"):
            asked = asking(fleet, found[one])
            assert ids(asked) == {place}, one
            assert (asked.gpus, asked.accelerator_type) == (1, kind)
    graph = found["graphs/resnet18/trt-fp16"]
    assert graph.machine.accelerator_type is None, "a graph is written anywhere"
    assert ids(asking(fleet, graph)) == {"t4", "a"}, "where a GPU is, as on one machine"


def test_a_check_is_no_longer_of_one_command_with_one_for_another_gpu(nodes) -> None:
    found = nodes(TEXT.replace("latency = true", ""))
    checks = [node for node in found.values() if node.kind == "check"]
    groups = [sorted(node.form for node in group) for group in together(checks)]
    assert sorted(groups) == [["onnx-fp16"], ["trt-fp16-A100"], ["trt-fp16-T4"]]


def test_what_measures_has_all_of_its_machine_and_not_the_cluster(nodes) -> None:
    found, fleet = nodes(), Fleet(FLEET, HERE)
    checks = [node for node in found.values() if node.kind == "check"]
    assert all(node.alone for node in checks)
    for node in checks:
        asked = asking(fleet, node)
        assert all(asked.cores == one.cores for one in asked.places), "every CPU of the place"
        assert len({one.machine for one in asked.places}) == 1
    assert fleet.pick([[node] for node in checks], [], Settings()) == [0, 1, 2], "all at once, each on its machine"


def test_a_training_has_its_share_of_a_machine_with_many_gpus(nodes) -> None:
    base = nodes()["runs/resnet18"]
    asked = asking(Fleet(FLEET, HERE), base)
    assert (ids(asked), asked.cores, asked.gpus, asked.threads) == ({"a"}, 8, 1, 8)
    asked = ask([base], [CPU, SMALL, CPU2])
    assert (ids(asked), asked.cores, asked.gpus, asked.threads) == ({"c1", "c2"}, 16, 0, None), "the largest"


def test_a_training_that_says_what_it_wants_gets_that(nodes) -> None:
    base = nodes(TEXT.replace('source = "resnet18"', 'source = "resnet18"\ncores = 4\ngpus = 2\nmemory = 100'))
    asked = asking(Fleet(FLEET, HERE), base["runs/resnet18"])
    assert (ids(asked), asked.cores, asked.gpus, asked.memory) == ({"a"}, 4, 2, 100 * 10**9)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ('accelerator_type = "H100"', "no node of the cluster has a GPU of type H100, but A100, T4"),
        ("resources = {press = 1}", "no node of the cluster has the resource press"),
        ("resources = {orin = 2}", "no node of the cluster has 2 of the resource orin"),
        ("resources = {orin = 1}", "no single node of the cluster has all of .*orin 1, torch"),
        ("gpus = 9", "no single node of the cluster has all of .*9 GPUs"),
        ("cores = 65", "no single node of the cluster has all of 65 CPUs"),
    ],
)
def test_what_no_node_has_is_said(more: str, words: str, nodes) -> None:
    node = nodes(TEXT.replace('source = "resnet18"', f'source = "resnet18"\n{more}'))["runs/resnet18"]
    missing = Fleet(FLEET, HERE).missing(node)
    assert missing is not None
    assert re.search(words, missing.what), missing.what
    assert missing.fix


def test_a_module_that_no_node_has_is_said(nodes) -> None:
    missing = lacking_in(nodes()["runs/resnet18"], [replace(CPU, modules=frozenset())])
    assert missing is not None
    assert missing.what == "torch is installed on no node of the cluster"


def test_a_group_that_no_place_can_do_whole_is_taken_apart(nodes) -> None:
    found = nodes(TEXT.replace("latency = true", "").replace('accelerator = ["T4", "A100"]', ""))
    group = [found["checks/resnet18/onnx-fp16"], found["checks/resnet18/trt-fp16"]]
    halves = replace(T4, modules=ALL - {"onnxruntime"}), CPU
    assert Fleet(halves, HERE).parts(group) == [[group[0]], [group[1]]]
    assert Fleet(FLEET, HERE).parts(group) == [group]


def test_the_files_limits_hold_on_a_cluster_too(nodes) -> None:
    ready = [[node] for node in nodes().values() if node.kind == "check"]
    fleet = Fleet(FLEET, HERE)
    assert fleet.pick(ready, [], Settings(gpus=1)) == [0]
    assert fleet.pick(ready[1:], ready[:1], Settings(gpus=1)) == []
    assert fleet.pick(ready, [], Settings(cores=1)) == [0], "what needs more than there may be runs alone"


def test_keys_are_of_the_machine_only_where_something_is_measured(nodes, tmp_path: Path) -> None:
    found, fleet = nodes(), Fleet(FLEET, HERE)

    def keys(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
        one = found[name]
        return (
            facts_of(one, Settings(), [""], tmp_path),
            facts_of(one, Settings(), [""], tmp_path, where=fleet.machine(one)),
        )

    for name in ("runs/resnet18", "exports/resnet18/onnx-fp16", "graphs/resnet18/trt-fp16"):
        here, there = keys(name)
        assert here == there, name
    here, there = keys("checks/resnet18/onnx-fp16")
    assert here != there
    assert machine() not in {one.machine for one in FLEET}
    here, there = keys("exports/resnet18/trt-fp16-T4")
    assert here == there, "a type of GPU that the step names is the same wherever zoo is called"


def test_what_was_to_be_measured_on_a_machine_is_measured_on_no_other(nodes) -> None:
    node = nodes()["checks/resnet18/onnx-fp16"]
    fleet = Fleet((T4, A100), HERE)
    assert fleet.machine(node) == A100.machine
    fleet.places = (T4,)
    assert fleet.ask([node]) is None
    assert fleet.machine(node) == A100.machine, "as its key says"


def test_a_plan_is_judged_where_it_was_built(nodes) -> None:
    node = nodes(TEXT.replace('accelerator = ["T4", "A100"]', ""))["checks/resnet18/trt-fp16"]
    fleet = Fleet(FLEET, HERE, built=lambda _node: T4.machine)
    assert ids(asking(fleet, node)) == {"t4"}


def test_a_lost_place_is_left_out_while_there_is_another(nodes) -> None:
    asked = ask([nodes()["runs/resnet18"]], [CPU, CPU2])
    assert ids(elsewhere(asked, frozenset({"c1"}))) == {"c2"}
    assert ids(elsewhere(asked, frozenset({"c1", "c2"}))) == {"c1", "c2"}


def test_keys_and_devices_stay_on_this_machine(nodes, tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text("")
    text = TEXT.replace('from = "judge"', 'from = "judge"\nsign = "key.pem"')
    assert stays(nodes(text)["packages/resnet18"])
    assert not stays(nodes()["packages/resnet18"])
    more = '\n[steps.far]\ndo = "profile"\nfrom = "bundle"\non = "ssh://board"\n'
    profile = next(node for node in nodes(TEXT + more).values() if node.kind == "profile")
    assert stays(profile)
    assert Fleet((), HERE).missing(profile) is None
