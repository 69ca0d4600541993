"""What speaks against an artifact, where it was measured, and which points a front has: from evidence as it is kept."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from played_report import result
from zoo.exporter.pipeline.candidates import (
    against,
    device_of,
    fronts_of,
    interval_of_rounds,
    judged,
    picks_of,
    short_front,
    span_of,
)

MADE = {"state": "done", "exit_code": 0, "reason": ""}
PASS = {"name": "numerics", "verdict": "pass", "reason": "r"}


@pytest.fixture(scope="module")
def whole() -> dict[str, Any]:
    return result()


def parts(whole: dict[str, Any]) -> tuple[list[dict[str, Any]], dict[str, Any], list[Any]]:
    found = copy.deepcopy(whole)
    named = {node["id"]: node for node in found["nodes"]}
    rows = {row["label"]: row for row in found["artifacts"]}
    return found["nodes"], rows, [(named[one["node"]], one) for one in found["profiles"]]


@pytest.mark.parametrize(
    ("artifact", "check", "row", "why"),
    [
        (MADE, MADE, {"gates": [PASS]}, ""),
        (MADE, MADE, {"gates": [PASS, {"name": "accuracy", "verdict": "fail", "reason": "drop 2"}]},
         "failed accuracy: drop 2"),
        (MADE, MADE, {"gates": [PASS, {"name": "latency", "verdict": "inconclusive", "reason": "noisy"}]},
         "latency inconclusive: noisy"),
        (MADE, MADE, {"gates": [{"name": "accuracy", "verdict": "skipped", "reason": "r"}]},
         "not checked: no gate was judged"),
        (MADE, MADE, {"error": {"message": "corrupt"}}, "could not be checked: corrupt"),
        (MADE, None, None, "not checked: no step checks it"),
        (MADE, {"state": "blocked", "reason": "waits for x"}, None, "not checked: waits for x"),
        ({"state": "lacking", "exit_code": 3, "reason": "no tensorrt"}, None, None, "not made: no tensorrt"),
        ({"state": "cached", "exit_code": 4, "reason": "golden images"}, None, None, "not made: golden images"),
    ],
)  # fmt: skip
def test_what_speaks_against_an_artifact(artifact: Any, check: Any, row: Any, why: str) -> None:
    assert against(artifact, check, row) == why


@given(st.lists(st.floats(1, 10), max_size=40))
def test_the_interval_of_a_median_has_its_certainty(medians: list[float]) -> None:
    found = interval_of_rounds(medians)
    assert (found is None) == (len(medians) < 6)
    if found is None:
        return
    ordered, count = sorted(medians), len(medians)
    places = [place for place in range(count // 2) if (ordered[place], ordered[-1 - place]) == found]
    coverage = [1 - 2 * sum(math.comb(count, one) for one in range(place + 1)) / 2**count for place in places]
    assert max(coverage) >= 0.95
    narrower = 1 - 2 * sum(math.comb(count, one) for one in range(places[-1] + 2)) / 2**count
    assert narrower < 0.95, "no narrower one would do"


def test_without_rounds_the_interval_is_of_the_ratio() -> None:
    latency = {"p50_ms": 10.0, "ratio": 0.5, "ratio_low": 0.4, "ratio_high": 0.75}
    assert span_of(latency) == (pytest.approx(8), pytest.approx(15))
    assert span_of(latency | {"round_medians_ms": [9.0, 10.0, 11.0, 9.5, 10.5, 12.0]}) == (9.0, 12.0)
    assert span_of({"p50_ms": 10.0}) == (None, None)


@pytest.mark.parametrize(
    ("latency", "device"),
    [
        ({"device": "cpu", "machine": {"cpu": "EPYC", "threads": 2}}, "EPYC, 2 threads"),
        ({"device": "cpu", "machine": {"cpu": "EPYC", "threads": 1}}, "EPYC, 1 thread"),
        ({"device": "cuda", "machine": {"cpu": "EPYC", "threads": 2, "gpu": "T4"}}, "T4"),
        ({"device": "cuda", "machine": None}, "a GPU"),
        ({}, "a CPU"),
    ],
)
def test_a_device_is_what_computed(latency: dict[str, Any], device: str) -> None:
    assert device_of(latency) == device


def test_a_pick_for_the_machine_and_for_every_device(whole) -> None:
    nodes, rows, profiles = parts(whole)
    machine, pi, cellar = picks_of(nodes, rows, profiles)
    assert (machine["device"], pi["device"], cellar["device"]) == (
        "AMD EPYC, 2 threads", "pi, profiled", "cellar, profiled")  # fmt: skip
    times = {name: next(gate["p50_ms"] for gate in row["gates"] if gate["name"] == "latency")
             for name, row in rows.items() if not judged(nodes, rows)[name]}  # fmt: skip
    assert machine["artifact"] == min(times, key=times.__getitem__)
    why = {one["artifact"]: one["reason"] for one in machine["others"]}
    assert set(why) == set(judged(nodes, rows)) - {machine["artifact"]}
    assert why["resnet18/onnx-int8"].startswith("failed numerics: ")
    assert why["resnet18/trt-fp16"] == "not made: tensorrt is not installed here"
    assert pi["artifact"] == "resnet18-small/onnx-int8", "the other one's numerics failed"
    elsewhere = {one["artifact"]: one["reason"] for one in pi["others"]}
    assert elsewhere["resnet18/onnx-fp32"] == "not measured here"
    assert cellar["artifact"] == ""
    assert "No route to host" in cellar["sentence"]


def test_two_machines_are_two_devices(whole) -> None:
    nodes, rows, _ = parts(whole)
    other = next(gate for gate in rows["resnet18/onnx-fp32"]["gates"] if gate["name"] == "latency")
    other["machine"] = {**other["machine"], "cpu": "Pi"}
    found = {one["device"]: one for one in picks_of(nodes, rows, [])}
    assert set(found) == {"AMD EPYC, 2 threads", "Pi, 2 threads"}
    assert found["Pi, 2 threads"]["artifact"] == "resnet18/onnx-fp32"


def test_accuracies_of_other_images_are_no_one_contest(whole) -> None:
    nodes, rows, profiles = parts(whole)
    rows["resnet18/onnx-fp32"]["data"] = {"name": "digits", "images": 50}
    found = {one["device"]: one for one in picks_of(nodes, rows, profiles)}
    few, most = (f"AMD EPYC, 2 threads, judged on {number} images of digits" for number in (50, 359))
    assert found[few]["artifact"] == "resnet18/onnx-fp32"
    assert {"artifact": "resnet18/onnx-fp32", "reason": "not measured here"} in found[most]["others"]
    assert "top-1" not in found["pi, profiled"]["sentence"]
    assert {front["device"] for front in fronts_of(nodes, rows)} == {few, most}


def test_no_latency_is_said_and_the_front_is_by_size(whole) -> None:
    nodes, rows, _ = parts(whole)
    for row in rows.values():
        row["gates"] = [gate for gate in row["gates"] if gate["name"] != "latency"]
    (only,) = picks_of(nodes, rows, [])
    assert only["artifact"] == ""
    for asked, words in (
        (True, "no check could measure the latency"),
        (False, "; add latency = true"),
    ):
        for node in nodes:
            node["options"] = {"latency": asked}
        assert words in picks_of(nodes, rows, [])[0]["sentence"]
    (front,) = fronts_of(nodes, rows)
    assert front["by"] == "bytes"
    assert {point["artifact"] for point in front["points"]} == set(rows)
    assert picks_of(nodes, {}, []) == [], "where nothing was checked, nothing is missing"


def test_a_front_has_every_point_and_marks_what_nothing_beats(whole) -> None:
    nodes, rows, _ = parts(whole)
    (front,) = fronts_of(nodes, rows)
    assert front["by"] == "p50_ms", "all were timed"
    points = front["points"]
    assert {point["artifact"] for point in points} == set(rows)
    passed = [point for point in points if not point["out"]]
    assert all(0 <= point["top1_low"] <= point["top1"] <= point["top1_high"] <= 1 for point in points)
    for point in points:
        mine = point["cost"], point["top1"]
        costs = [(one["cost"], one["top1"]) for one in passed]
        beaten = any(cost <= mine[0] and top1 >= mine[1] and (cost, top1) != mine for cost, top1 in costs)
        assert point["front"] == (not point["out"] and not beaten)
        assert bool(point["beaten_by"]) == (beaten and not point["out"])
    assert [one["artifact"] for one in short_front([front])] == [one["artifact"] for one in points if one["front"]]


def test_larger_batches_are_not_mixed_with_smaller(whole) -> None:
    nodes, rows, profiles = parts(whole)
    profiles[0][1]["devices"][0]["rows"][0]["batch"] = 8
    one = next(one for one in picks_of(nodes, rows, profiles) if one["device"].startswith("pi"))
    assert one["device"] == "pi, profiled"
    for _, found in profiles:
        found["devices"][0]["rows"][0]["batch"] = 8
    assert any(one["device"] == "pi, profiled at batch 8" for one in picks_of(nodes, rows, profiles))
