"""The table of layer times, what is read between its points, and the search for what was asked for."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from zoo.calibration.pruning.budget import Budget
from zoo.calibration.pruning.groups import Cost, Form
from zoo.calibration.pruning.removable import structure_of
from zoo.errors import InconclusiveError, UnavailableError, UsageError
from zoo.exporter.prune import latency_target as latency
from zoo.exporter.prune.latency_target import TRIES, aim, next_share, timed_shape
from zoo.exporter.timing import layer_table as shapes
from zoo.exporter.timing.layer_models import input_shape, layer_graph
from zoo.exporter.timing.layer_table import Shape, Times, axis, grids_of, load_table, measure_times, rising, time_shapes
from zoo.models.registry import create_model


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1, groups=32), nn.ReLU(),
        nn.Conv2d(32, 24, 1), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24 * 4, 5),
    ).eval()  # fmt: skip


def structure(module: nn.Module):
    return structure_of(module, (3, 8, 8), [module[-1]])


def by_volume(wanted: list[Shape], target: str, progress=None) -> list[float]:
    """A machine whose layers take a microsecond for a thousand multiplications."""
    del target, progress
    return [0.5 + one.inputs * one.outputs * float(np.prod(one.form.kernel)) / 1000 for one in wanted]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int]:
    asked: list[int] = []

    def timed(wanted: list[Shape], target: str, progress=None) -> list[float]:
        asked.append(len(wanted))
        return by_volume(wanted, target)

    monkeypatch.setattr(shapes, "time_shapes", timed)
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    return asked


@pytest.mark.parametrize(
    ("channels", "step", "points"),
    [(64, 8, [8, 16, 24, 32, 40, 48, 56, 64]), (512, 8, [8, 64, 128, 192, 256, 320, 384, 448, 512]),
     (20, 8, [8, 16, 20]),
     (4, 8, [4]), (96, 32, [32, 64, 96])],
)  # fmt: skip
def test_widths_are_measured_at_multiples(channels: int, step: int, points: list[int]) -> None:
    assert axis(channels, step) == points


def test_only_what_can_be_narrower_is_measured_at_other_widths() -> None:
    grids = {key[0].op + str(key[1:]): value for key, value in grids_of(structure(net()), 8).items()}
    assert grids["Conv(3, 32)"] == ([3], [8, 16, 24, 32])
    assert grids["Conv(32, 32)"] == ([8, 16, 24, 32], [32]), "a depthwise layer has one width"
    assert grids["Conv(32, 24)"] == ([8, 16, 24, 32], [8, 16, 24])
    assert grids["Gemm(96, 5)"][1] == [5], "logits stay"
    assert max(grids["Gemm(96, 5)"][0]) == 96


def test_a_table_is_measured_once_and_kept(machine: list[int]) -> None:
    found = structure(net())
    times = measure_times(found, "onnx", 8)
    measure_times(found, "onnx", 8)
    assert len(machine) == 1
    assert len(load_table("onnx")) == machine[0]
    whole = times.whole(found)
    narrow = found.total({"0": 16, "4": 8}, times.price)
    assert narrow < whole
    cost = found.costs["4"]
    assert times.price(cost, 32, 24) == pytest.approx(0.5 + 32 * 24 / 1000)
    assert times.price(cost, 28, 24) == pytest.approx(0.5 + 28 * 24 / 1000), "between two points"
    shapes.table_path("onnx").write_text("{", encoding="utf-8")
    measure_times(found, "onnx", 8)
    assert len(machine) == 2, "a broken table is measured again"
    data = json.loads(shapes.table_path("onnx").read_text(encoding="utf-8"))
    data["microseconds"] = dict.fromkeys(data["microseconds"], float("nan"))
    shapes.table_path("onnx").write_text(json.dumps(data), encoding="utf-8")
    assert load_table("onnx") == {}


@given(st.lists(st.lists(st.floats(0.1, 100), min_size=4, max_size=4), min_size=3, max_size=3))
@settings(deadline=None)
def test_more_channels_never_take_less_and_nothing_is_slower_than_measured(rows: list[list[float]]) -> None:
    table = rising(rows)
    assert (np.diff(table, axis=0) >= 0).all()
    assert (np.diff(table, axis=1) >= 0).all()
    assert (table <= np.array(rows)).all()
    assert table[-1, -1] == rows[-1][-1]


def test_a_layer_that_runs_twice_costs_twice() -> None:
    form = Form("Conv", (8, 8))
    grid = (np.array([8.0]), np.array([8.0]), np.array([[3.0]]))
    times = Times({(form, 8, 8, "fp32"): grid})
    assert times.price(Cost(64, 8, 8, False, form, calls=2), 8, 8) == 6


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize(
    "form",
    [Form("Conv", (9, 7), (3, 3), (2, 2), (1, 1)), Form("Conv", (8, 8), (3, 3), (1, 1), (1, 1), groups=0),
     Form("Gemm", (1, 1)), Form("Conv", (8, 8), (3, 3), (1, 1), (2, 2), (2, 2), groups=2)],
)  # fmt: skip
def test_graphs_of_single_layers_are_what_they_are_of(form: Form, precision: str) -> None:
    import onnx
    import onnxruntime

    shape = Shape(form, 16, 16 if form.groups == 0 else 24, precision).as_mapping()
    content = layer_graph(shape, np.random.default_rng(0))
    onnx.checker.check_model(onnx.load_from_string(content), full_check=True)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    given = np.ones(input_shape(shape), np.float32)
    (got,) = session.run(None, {"x": given})
    if form.op == "Gemm":
        assert got.shape == (1, 24)
        return
    conv = nn.Conv2d(16, shape["outputs"], form.kernel, form.stride, form.padding, form.dilation, shape["groups"])
    assert got.shape == tuple(conv(torch.ones(given.shape)).shape)


@pytest.mark.parametrize("target", ["onnx", "torchscript"])
def test_layers_are_timed_in_a_process_of_their_own(target: str) -> None:
    wide = [Shape(Form("Conv", (32, 32), (3, 3), (1, 1), (1, 1)), 64, out, "fp32") for out in (16, 128)]
    more = [Shape(Form("Gemm", (1, 1)), 64, 16, precision) for precision in ("fp32", "int8")]
    told: list[int] = []
    found = time_shapes([*wide, *more], target, lambda done, _all: told.append(done))
    assert told == [1, 2, 3, 4]
    assert all(one > 0 for one in found)


def test_a_shape_that_no_runtime_takes_is_named() -> None:
    wrong = Shape(Form("Conv", (2, 2), (5, 5)), 8, 8, "fp32")
    with pytest.raises(UnavailableError, match="could not time the layer Conv 2x2 5x5"):
        time_shapes([wrong], "onnx")


@given(st.floats(0.3, 0.95), st.floats(0.7, 1.6), st.floats(0.0, 0.15))
@settings(deadline=None)
def test_what_was_asked_for_is_found(asked: float, power: float, rest: float) -> None:
    """Of a network whose time falls along a curve, with a part that no layer takes."""

    def measured(share: float) -> float:
        return rest + (1 - rest) * share**power

    tried: list[tuple[float, float]] = []
    for _ in range(TRIES + 1):
        share = next_share(asked, tried)
        tried.append((share, measured(share)))
        if abs(tried[-1][1] / asked - 1) < 0.03:
            return
    raise AssertionError(tried)


def test_a_disturbed_measurement_is_made_again() -> None:
    """The first try was measured while another process ran."""
    tried = [(0.75, 0.81)]
    for _ in range(5):
        share = next_share(0.75, tried)
        tried.append((share, 0.88 * share))
    assert abs(dict(tried)[min(dict(tried), key=lambda one: abs(dict(tried)[one] - 0.75))] / 0.75 - 1) < 0.1
    assert [one for one, _ in tried].count(0.75) == 2


def test_the_aim_is_corrected_by_what_the_network_takes(machine: list[int]) -> None:
    module = net()
    lines: list[str] = []
    budgets: list[float] = []

    def narrowed(budget: Budget, price) -> nn.Module:
        assert budget.share is not None
        budgets.append(budget.share)
        return module

    aimed = aim(structure(module), "onnx", Budget(0.6), narrowed, lambda _module: 0.2 + 0.8 * budgets[-1], lines.append)
    assert aimed.measured == pytest.approx(0.6, rel=0.03)
    assert aimed.budget.share == pytest.approx(0.5, rel=0.1)
    assert "of the network's, asked 0.6" in lines[-2]
    assert "taken: the widths with" in lines[-1]
    with pytest.raises(
        UsageError, match="0.15 of the latency on onnx is not to be had: the nearest that was found has"
    ):
        aim(structure(module), "onnx", Budget(0.15), narrowed, lambda _module: 0.2 + 0.8 * budgets[-1], lines.append)

    def refused(budget: Budget, price) -> nn.Module:
        raise UsageError("0.1 of the cost cannot be reached")

    with pytest.raises(UsageError, match="cannot be reached"):
        aim(structure(module), "onnx", Budget(0.1), refused, lambda _module: 1.0, lines.append)


def test_targets_that_are_not_timed_are_refused() -> None:
    with pytest.raises(UsageError, match="eager are not timed one by one"):
        measure_times(structure(net()), "eager", 8)
    with pytest.raises(UsageError, match="unknown backend"):
        measure_times(structure(net()), "onx", 8)
    with pytest.raises(UnavailableError):
        measure_times(structure(net()), "trt", 8)


def test_latency_may_count_at_another_size(tiny) -> None:
    assert timed_shape(tiny, None) == tiny.spec.input
    assert timed_shape(tiny, (3, 64, 64)) == (3, 64, 64)
    assert tiny.spec.sized(64, 64).input == (3, 64, 64)
    with pytest.raises(UsageError, match="1 channels"):
        timed_shape(tiny, (1, 64, 64))


def test_a_size_that_the_model_does_not_take_is_said(tiny) -> None:
    from dataclasses import replace

    flat = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10))
    with pytest.raises(UsageError, match="cannot take images"):
        timed_shape(replace(tiny, module=flat), (3, 64, 64))


@pytest.mark.parametrize(
    "name", ["mobilenet_v3_small", *(pytest.param(one, marks=pytest.mark.slow) for one in ("resnet18", "googlenet"))]
)
def test_every_family_has_a_grid_for_each_layer(name: str) -> None:
    module = create_model(name, num_classes=5, stem="small").eval()
    found = structure_of(module, (3, 32, 32), [])
    grids = grids_of(found, 8)
    assert {(cost.form, cost.inputs, cost.outputs) for cost in found.costs.values()} == set(grids)
    assert sum(len(ins) * len(outs) for ins, outs in grids.values()) < 4000


def test_a_machine_that_is_too_busy_to_tell_is_no_statement_about_the_model(
    machine: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = net()
    answers = itertools.cycle([0.9, 0.2])
    monkeypatch.setattr(latency, "next_share", lambda _asked, _tried: 0.5)
    with pytest.raises(InconclusiveError, match="the machine is too busy"):
        aim(structure(module), "onnx", Budget(0.4), lambda _one, _two: module, lambda _module: next(answers), print)
