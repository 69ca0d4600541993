"""The page of a pipeline holds what was made, what was not and why, whatever things are called."""

from __future__ import annotations

import copy
import random
import re
from typing import Any

import pytest
from page_help import NASTY, check_outline, embedded, light, without_numbers
from played_report import result as played
from zoo.exporter.report.front_figure import NAMED, front_figure
from zoo.exporter.report.nodes import lacking, problems, proven, read_nodes, standing, steps_of
from zoo.exporter.report.pipeline_page import devices_of, render_pipeline
from zoo.exporter.report.rows import read_rows

NAMES = "resnet18", "vgg11", "alexnet", "googlenet", "squeezenet", "efficientnet_b0"
MANY = tuple(f"{name}{small}" for name in NAMES for small in ("", "-small"))


@pytest.fixture(scope="module")
def whole() -> dict[str, Any]:
    return played()


@pytest.fixture
def pipelined(whole) -> dict[str, Any]:
    """A copy that a test may change."""
    return copy.deepcopy(whole)


def test_a_page_of_everything(pipelined) -> None:
    page = render_pipeline(pipelined)
    check_outline(page)
    assert embedded(page) == pipelined
    assert page.count("plotly.js v") == 1
    order = "problems", "picks", "fronts", "devices", "lineage", "steps", "summary", "latency", "repeat"
    places = [page.index(f'<h2 id="{place}"') for place in order]
    assert places == sorted(places)
    for node in pipelined["nodes"]:
        assert node["id"] in page
        if node["state"] == "done":
            assert f"{node['command']}</code>" in page
            assert f"log: <code>{node['log']}" in page
    for pick in pipelined["picks"]:
        assert pick["sentence"] in page
    assert page.count("tensorrt is not installed here") > 1
    assert "no picture" not in page, "a gallery without pictures is no gallery"


def test_a_hundred_and_fifty_nodes(pipelined) -> None:
    large = played(MANY)
    page = render_pipeline(large)
    check_outline(page)
    assert len(large["nodes"]) > 140
    drawing = page.partition("<svg")[2].partition("</svg>")[0]
    assert drawing.count("<rect") == 1 + 5 * len(MANY), "data; model, artifacts, checks, package, profile each"
    assert "share a box" in page
    assert page.count('class="plot"') < 8, "no figures of single artifacts"


def nasty_names(value: Any) -> Any:
    """Every text of people replaced; what names states, kinds and other things stays, or nothing would be shown."""
    kept = ("id", "kind", "state", "needs", "verdict", "precision", "ran", "by", "artifact_sha256")
    if isinstance(value, dict):
        return {key: each if key in kept or (key == "name" and "verdict" in value) else nasty_names(each)
                for key, each in value.items()}  # fmt: skip
    if isinstance(value, list):
        return [nasty_names(each) for each in value]
    return NASTY if isinstance(value, str) else value


def test_nothing_that_was_given_becomes_markup(pipelined) -> None:
    given = nasty_names(pipelined)
    for node in given["nodes"]:
        node["id"] = f"{node['id']}{NASTY}"
        node["needs"] = [f"{need}{NASTY}" for need in node["needs"]]
    page = render_pipeline(given)
    check_outline(page)
    assert embedded(page) == given
    assert "<script>alert" not in page
    assert "49 \U0001f600" not in page, "no template in a template"
    assert light(page).count("&lt;script&gt;alert(1)") > 100
    drawing = page.partition("<svg")[2].partition("</svg>")[0]
    assert "&lt;script&gt;" in drawing
    figure = front_figure(0, given["fronts"][0])
    assert figure is not None
    assert "<script" not in str(figure.plot), "plotly reads tags in labels"


def test_every_number_may_be_null(pipelined) -> None:
    given = without_numbers(pipelined)
    page = render_pipeline(given)
    check_outline(page)
    assert embedded(page) == given


@pytest.mark.parametrize("seed", range(8))
def test_any_number_may_be_null(pipelined, seed: int) -> None:
    drawn = random.Random(seed)
    check_outline(render_pipeline(without_numbers(pipelined, lambda: drawn.random() < 0.3)))


@pytest.mark.parametrize(
    "result",
    [
        {},
        {"nodes": []},
        {"nodes": [{}]},
        {"nodes": [{"id": "runs/x", "kind": "train", "state": "done"}], "exit_code": 0},
        {"nodes": None, "artifacts": None, "profiles": None, "picks": None, "fronts": None, "versions": None},
        {"nodes": [{"id": "a", "state": "brand new"}], "fronts": [{"points": [{}]}], "profiles": [{}], "picks": [{}]},
        {"nodes": [{"id": "a", "kind": "check", "needs": []}], "artifacts": [{"label": "x"}]},
    ],
)
def test_little_or_nothing(result: dict[str, Any]) -> None:
    page = render_pipeline(result)
    check_outline(page)
    assert embedded(page) == result


def test_no_check_is_said(pipelined) -> None:
    pipelined |= {"fronts": [], "picks": []}
    for row in pipelined["artifacts"]:
        row["gates"] = [gate for gate in row["gates"] if gate["name"] not in ("accuracy", "latency")]
    page = render_pipeline(pipelined)
    assert "There is no front: no check judged an accuracy." in page


def test_what_failed_and_what_is_lacking_is_told_once(pipelined) -> None:
    nodes = read_nodes(pipelined)
    rows = read_rows(pipelined)
    found = problems(nodes, rows)
    assert [one for one in found if one.verdict == "unavailable"] == [], "it is no problem, but one quiet line"
    assert lacking(nodes) == (
        f"Not made on this machine: 4 of {len(nodes)}, because tensorrt is not installed here (pip install tensorrt)."
    )
    assert [one.label for one in found if one.what == "numerics"] == ["resnet18/onnx-int8"]
    export = next(one for one in pipelined["nodes"] if one["id"] == "exports/resnet18/onnx-fp32")
    export |= {"state": "failed", "exit_code": 2, "reason": "no such data", "fix": "give it"}
    found = problems(read_nodes(pipelined), rows)
    assert (found[0].label, found[0].verdict, found[0].reason, found[0].fix) == (
        export["id"], "error", "no such data", "give it")  # fmt: skip


@pytest.mark.parametrize(
    ("state", "code", "verdict", "word"),
    [
        ("done", 0, "pass", "made"), ("cached", 0, "pass", "done before"), ("cached", 4, "fail", "a gate failed"),
        ("done", 4, "fail", "a gate failed"), ("failed", 2, "error", "failed"),
        ("failed", 6, "inconclusive", "cannot tell"),
        ("lacking", 3, "unavailable", "lacking here"), ("blocked", 0, "skipped", "waits"),
        ("waiting", 0, "skipped", "waiting"), (None, None, "skipped", "not known"),
    ],
)  # fmt: skip
def test_the_state_of_a_node(state: Any, code: Any, verdict: str, word: str) -> None:
    (node,) = read_nodes({"nodes": [{"state": state, "exit_code": code}]})
    assert (node.verdict, node.word) == (verdict, word)


CODES = [(0, "pass"), (3, "inconclusive"), (6, "inconclusive"), (4, "fail"), (2, "fail")]


@pytest.mark.parametrize(("code", "verdict"), CODES)
def test_the_page_passes_only_where_the_command_did(pipelined, code: int, verdict: str) -> None:
    nodes = read_nodes(pipelined)
    assert standing({"exit_code": code}, nodes, [])[0] == verdict
    assert standing({"exit_code": code}, [], [])[0] != "pass", "where there was nothing to make"


def test_the_sentence_counts(pipelined) -> None:
    nodes, rows = read_nodes(pipelined), read_rows(pipelined)
    verdict, sentence, rest = standing(pipelined, nodes, rows)
    assert verdict == "fail"
    gates = sum(gate.verdict != "skipped" for row in rows for gate in row.gates)
    assert sentence == f"Failed: 1 of {gates} checks failed"
    assert rest == f"{len(nodes) - 4} made now, {gates - 1} checks passed"


def test_the_first_line_says_what_was_proven_and_not_what_is_lacking(pipelined) -> None:
    """Two models of which trt cannot be made here, which is exit code 3: all that could be checked passed."""
    for row in pipelined["artifacts"]:
        for gate in row["gates"]:
            gate["verdict"] = "pass"
            gate |= {"flips_in_all": 3, "images": 1000} if gate["name"] == "accuracy" else {}
    pipelined |= {"exit_code": 3}
    rows = read_rows(pipelined)
    gates = sum(len(row.gates) for row in rows)
    verdict, sentence, rest = standing(pipelined, read_nodes(pipelined), rows)
    assert (verdict, sentence) == (
        "pass", f"{gates} of {gates} checks passed on 6 artifacts: 18 of 6,000 answers changed")  # fmt: skip
    assert "wait" not in rest
    page = render_pipeline(pipelined)
    head, body = page[page.index("<header") : page.index("</header>")], page[page.index("<main") :]
    assert '<header class="pass">' in head
    assert head.index(sentence) < head.index('<p class="quiet">Not made on this machine: 4 of')
    assert "What did not pass" not in body


def test_without_numbers_the_first_line_says_less(pipelined) -> None:
    rows = read_rows(pipelined)
    assert proven([]) == ""
    for row in pipelined["artifacts"]:
        row["gates"] = [{"name": "numerics", "verdict": "pass"}]
    assert proven(read_rows(pipelined)) == f"{len(rows)} of {len(rows)} checks passed on {len(rows)} artifacts"
    nodes = read_nodes(pipelined)
    assert (
        standing({"exit_code": 0}, nodes, [])[1]
        == f"{len(nodes) - 4} of {len(nodes)} are made, and nothing was checked"
    )


def test_steps_add_up(pipelined) -> None:
    steps = steps_of(read_nodes(pipelined))
    assert sum(len(step.nodes) for step in steps) == len(pipelined["nodes"])
    assert {step.name: step.number("lacking") for step in steps}["build"] == 2
    assert [step.seconds for step in steps] == [1.5 * len(step.nodes) for step in steps]


def test_a_device_that_is_off_is_told_once(pipelined) -> None:
    devices = devices_of(pipelined)
    assert [device.label for device in devices] == ["pi", "pi", "cellar"]
    assert devices[2].data["artifact"] == "resnet18, resnet18-small"
    medians = [device.rows[0]["percentiles"]["p50"] for device in devices[:2]]
    assert medians == sorted(medians)


def test_the_front_is_drawn_with_all_points(pipelined) -> None:
    (front,) = pipelined["fronts"]
    figure = front_figure(0, front)
    assert figure is not None
    line, *points = figure.plot["data"]
    best = [point for point in front["points"] if point["front"]]
    assert list(line["x"]) == [point["cost"] for point in best]
    assert list(line["y"]) == [point["top1"] for point in best]
    expected = [(one["cost"], one["top1"]) for one in front["points"]]
    assert [(point["x"][0], point["y"][0]) for point in points] == expected
    for drawn, point in zip(points, front["points"]):
        assert drawn["error_x"]["array"][0] == pytest.approx(point["high"] - point["cost"])
        assert drawn["text"] == [point["artifact"].replace("/", "<br>")], "few have their names"
    assert all(point["artifact"] in figure.words for point in best)


def test_of_many_points_those_off_the_front_have_the_number_of_their_line() -> None:
    (front,) = played(MANY)["fronts"]
    assert len(front["points"]) > NAMED
    figure = front_figure(0, front)
    assert figure is not None
    for index, (drawn, point) in enumerate(zip(figure.plot["data"][1:], front["points"])):
        assert drawn["text"] == [point["artifact"].replace("/", "<br>") if point["front"] else str(index + 1)]
    page = render_pipeline(played(MANY))
    table = page.partition('<h2 id="fronts"')[2].partition("<tbody>")[2].partition("</tbody>")[0]
    numbers = re.findall(r'<th scope="row">([^<]+)</th><td>(\d+)</td>', table)
    assert numbers == [(point["artifact"], str(index + 1)) for index, point in enumerate(front["points"])]


def test_a_front_by_size_is_in_megabytes(pipelined) -> None:
    point = {"artifact": "x", "cost": 11_700_000, "top1": 0.9, "front": True}
    figure = front_figure(3, {"by": "bytes", "points": [point]})
    assert figure is not None
    assert figure.id == "front3"
    assert figure.plot["data"][1]["x"] == [11.7]
    assert "MB" in figure.plot["layout"]["xaxis"]["title"]["text"]
    assert front_figure(0, {"points": []}) is None


def test_a_package_that_lacks_other_things_is_not_lost_to_this_machine() -> None:
    def node(name: str, kind: str, state: str, *needs: str) -> dict[str, Any]:
        return {"id": name, "kind": kind, "state": state, "needs": needs, "reason": "no TensorRT"}

    nodes = [
        node("a", "build", "lacking"), node("b", "check", "blocked", "a"), node("c", "check", "failed"),
        node("d", "package", "blocked", "b", "c"), node("e", "package", "blocked", "b"),
    ]  # fmt: skip
    assert lacking(read_nodes({"nodes": nodes})) == "Not made on this machine: 3 of 5, because no TensorRT."
