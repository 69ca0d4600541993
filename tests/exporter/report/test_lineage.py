"""The drawing has every node once, in columns that lead from data to packages; nothing lies on anything else."""

from __future__ import annotations

import re
from typing import Any

import pytest
from played_report import FORMS, result
from zoo.exporter.report.figure import short
from zoo.exporter.report.lineage import edges_of, items_of, traces_of
from zoo.exporter.report.lineage_drawing import MANY, MARGIN, Box, Drawing, draw
from zoo.exporter.report.nodes import Node, read_nodes

TWO = ("resnet18", "resnet18-small")
SEVEN = ("a", "a-small", "b", "b-small", "c", "d", "e")


def nodes_of(variants: tuple[str, ...]) -> list[Node]:
    return read_nodes(result(variants))


def drawn(nodes: list[Node], many: int = MANY) -> Drawing:
    found = draw(nodes, many)
    assert found is not None
    return found


def touch(one: Box, other: Box) -> bool:
    return (one.x < other.x + other.width and other.x < one.x + one.width
            and one.y < other.y + other.height and other.y < one.y + one.height)  # fmt: skip


@pytest.mark.parametrize("variants", [TWO[:1], TWO, SEVEN])
@pytest.mark.parametrize("many", [0, 10_000])
def test_boxes_lie_beside_each_other_and_inside(variants: tuple[str, ...], many: int) -> None:
    found = drawn(nodes_of(variants), many)
    boxes = found.boxes
    assert not [(one, other) for index, one in enumerate(boxes) for other in boxes[:index] if touch(one, other)]
    assert min(box.x for box in boxes) >= MARGIN
    assert max(box.x + box.width for box in boxes) <= found.width
    assert max(box.y + box.height for box in boxes) <= found.height
    assert found.grouped == (many == 0)


@pytest.mark.parametrize("grouped", [False, True])
def test_every_node_is_in_one_box(grouped: bool) -> None:
    nodes = nodes_of(SEVEN)
    held = [node.name for item in items_of(nodes, grouped=grouped) for node in item.nodes]
    assert sorted(held) == sorted(node.name for node in nodes)


@pytest.mark.parametrize("many", [0, 10_000])
def test_lines_lead_to_the_right_and_end_at_boxes(many: int) -> None:
    found = drawn(nodes_of(SEVEN), many)
    left = {(round(box.x), round(box.y + box.height / 2, 1)) for box in found.boxes}
    right = {(round(box.x + box.width), round(box.y + box.height / 2, 1)) for box in found.boxes}
    for path in found.paths:
        numbers = [float(number) for number in re.findall(r"-?[\d.]+", path)]
        assert (round(numbers[0]), numbers[1]) in right
        assert (round(numbers[-2]), numbers[-1]) in left
        assert numbers[0] < numbers[-2]


def test_all_needs_are_drawn_and_the_data_once() -> None:
    nodes = nodes_of(TWO)
    edges = edges_of(items_of(nodes, grouped=False))
    needs = {(need, node.name) for node in nodes for need in node.data["needs"]
             if not (node.kind == "package" and "trt" in need)}  # fmt: skip
    assert set(edges) == needs | {("origin data digits", "runs/resnet18")}, "what is made of it is of that data too"
    assert len(edges) == len(set(edges))


def test_what_is_only_compared_with_is_no_origin() -> None:
    data: dict[str, Any] = result(TWO)
    check = next(one for one in data["nodes"] if one["id"] == "checks/resnet18/onnx-int8")
    check["needs"] = [*check["needs"], "exports/resnet18/onnx-fp32"]
    edges = edges_of(items_of(read_nodes(data), grouped=False))
    assert ("exports/resnet18/onnx-int8", check["id"]) in edges
    assert ("exports/resnet18/onnx-fp32", check["id"]) not in edges
    trace = next(one for one in traces_of(read_nodes(data)) if one.name == "resnet18/onnx-fp32")
    assert [name for name, _ in trace.packages] == ["packages/resnet18"]


def test_a_package_does_not_hold_what_did_not_pass() -> None:
    data: dict[str, Any] = result(TWO)
    check = next(one for one in data["nodes"] if one["id"] == "checks/resnet18/onnx-int8")
    check |= {"exit_code": 4, "reason": "numerics fail"}
    nodes = read_nodes(data)
    assert (check["id"], "packages/resnet18") not in edges_of(items_of(nodes, grouped=False))
    packages = {one.name: one.packages for one in traces_of(nodes)}
    assert packages["resnet18/onnx-int8"] == ()
    assert packages["resnet18/onnx-fp32"] != ()
    package = next(one for one in data["nodes"] if one["id"] == "packages/resnet18")
    package["state"] = "blocked"
    edges = edges_of(items_of(read_nodes(data), grouped=False))
    assert (check["id"], "packages/resnet18") in edges, "what it waits for"


def test_a_source_comes_from_its_weights() -> None:
    source = {"id": "sources/x", "kind": "source", "variant": "x", "options": {"weights": "imagenet"}}
    (node,) = read_nodes({"nodes": [source]})
    titles = [(item.title, item.line) for item in items_of([node], grouped=False)]
    assert titles[0] == ("imagenet", "weights")
    assert drawn([node]).paths


def test_a_trace_goes_from_the_package_back_to_the_data() -> None:
    data = result(TWO)
    for node in data["nodes"]:
        if node["id"] == "runs/resnet18":
            node["data_sha256"] = "12" * 32
        if node["id"] == "exports/resnet18-small/onnx-int8":
            node["weights_sha256"] = "34" * 32
    trace = next(one for one in traces_of(read_nodes(data)) if one.name == "resnet18-small/onnx-int8")
    named = {node["id"]: node for node in data["nodes"]}
    assert trace.models == TWO
    assert trace.weights == "34" * 32
    assert trace.sha256 == named["exports/resnet18-small/onnx-int8"]["digest"]
    assert trace.packages == (("packages/resnet18-small", named["packages/resnet18-small"]["digest"]),)
    assert trace.origins == (f"data digits {'12' * 6}", "data digits"), "the recovery's had no hash"
    assert len(traces_of(read_nodes(data))) == 2 * (len(FORMS) - 1), "the trt artifacts are not there"


def test_a_graph_stands_beside_what_is_built_of_it() -> None:
    nodes = nodes_of(TWO)
    boxes = {box.about.partition(":")[0]: box for box in drawn(nodes).boxes}
    for variant in TWO:
        graph, built = boxes[f"graphs/{variant}/trt-fp16"], boxes[f"exports/{variant}/trt-fp16"]
        assert graph.y == built.y
        middle = boxes[f"runs/{variant}"].y + boxes[f"runs/{variant}"].height / 2
        assert not graph.y <= middle <= graph.y + graph.height, "lines to the other artifacts pass beside it"


def test_long_names_keep_both_ends() -> None:
    assert short("torchscript-int8", 16) == "torchscript-int8"
    assert short("torchscript-int8-pixels", 16) == "torchscr…-pixels"
    assert len(short("x" * 99, 15)) == 15
    assert draw([]) is None
