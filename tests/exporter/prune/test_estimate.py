"""Will it pay: predictions from a table, and what has to be said beside them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import as_json, tiny_model, zoo
from zoo.calibration.pruning.removable import structure_of
from zoo.errors import UnavailableError, UsageError
from zoo.exporter.prune import estimate as pay
from zoo.exporter.prune.estimate import Row, as_mapping, notes_of, told_rows, will_it_pay
from zoo.exporter.prune.options import usual_block
from zoo.exporter.timing import layer_table as shapes
from zoo.exporter.timing.layer_table import Shape


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One whose layers take a time of their multiplications, a third of it in int8, and networks a tenth more."""

    def timed(wanted: list[Shape], target: str, progress: object = None) -> list[float]:
        return [
            one.inputs * one.outputs * float(np.prod(one.form.kernel)) * float(np.prod(one.form.size))
            / 1e3 / (3 if one.precision == "int8" else 1)
            for one in wanted
        ]  # fmt: skip

    monkeypatch.setattr(shapes, "time_shapes", timed)
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))


def whole_of(model, target: str = "onnx") -> float:
    structure = structure_of(model.module, model.spec.input, [])
    return shapes.measure_times(structure, target, 8).whole(structure) / 1e3


@pytest.mark.parametrize("target", ["onnx", "torchscript"])
def test_what_it_would_bring(monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    model = tiny_model(width=1.0)
    layers = whole_of(model, target)
    monkeypatch.setattr(pay, "whole_ms", lambda _model, _target: layers / 0.9)
    found = will_it_pay(model, target)
    left = {row.what: row.left for row in found.rows if row.left is not None}
    assert found.between == pytest.approx(0.1, abs=1e-6)
    assert left["0.5 of the MACs"] == pytest.approx(0.5 * 0.9 + 0.1 * 0.7, abs=0.05)
    assert left["int8"] == pytest.approx(0.3 + 0.1 / 4, abs=1e-3), "nothing float lies between the layers"
    assert left["0.5 of the MACs, then int8"] < left["int8"]
    assert left["0.75 of the MACs"] > left["0.5 of the MACs"] > left["0.25 of the MACs"]
    assert "fp16" not in left
    assert as_mapping(found)["rows"][0]["verdict"] == "yes"
    assert ["fp16", "no"] in [row[:2] for row in told_rows(found)]


def test_float_islands_and_odd_channels_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("mobilenet_v3_small")
    monkeypatch.setattr(pay, "whole_ms", lambda _model, _target: 2 * whole_of(model))
    found = will_it_pay(model, "onnx")
    (int8,) = [row for row in found.rows if row.what == "int8"]
    assert "stay float, each with Q/DQ around it" in int8.why
    assert int8.left == pytest.approx(1 / 6 + 0.5, abs=0.01), "what is between stays as it is"
    assert any("of the time is between the layers" in note for note in found.notes)


def test_channels_that_are_no_multiple_are_named() -> None:
    from torch import nn

    odd = nn.Sequential(
        nn.Conv2d(3, 20, 3), nn.ReLU(), nn.Conv2d(20, 16, 3), nn.Flatten(), nn.Linear(16 * 16, 2)
    ).eval()
    structure = structure_of(odd, (3, 8, 8), [odd[-1]])
    notes = notes_of(structure, 0.0, 16)
    assert any("no multiple of 8, and slow for it: 0" in note for note in notes)
    assert any("1 groups have no more than 16" in note for note in notes)


@pytest.mark.parametrize(("left", "verdict"), [(0.5, "yes"), (0.95, "hardly"), (1.2, "no"), (None, "no")])
def test_a_verdict_is_of_what_is_left(left: float | None, verdict: str) -> None:
    assert Row("x", left, "").verdict == verdict


def test_what_cannot_be_told_is_refused() -> None:
    model = tiny_model()
    with pytest.raises(UsageError, match="in steps of 8"):
        will_it_pay(model, "onnx", round_to=4)
    with pytest.raises(UnavailableError):
        will_it_pay(model, "trt")
    with pytest.raises(UsageError, match="1 channels"):
        will_it_pay(model, "onnx", shape=(1, 32, 32))
    broken = replace(model, module=tiny_model("vgg11").module)
    with pytest.raises(UsageError, match="cannot take images"):
        will_it_pay(broken, "onnx", shape=(3, 1, 1))


def test_the_block_is_the_registers() -> None:
    assert usual_block({"avx512f", "avx2"}) == 16
    assert usual_block({"avx2"}) == usual_block(set()) == 8


def test_the_command_only_looks(trained: Path, tmp_path: Path) -> None:
    done = zoo("prune", trained, "--will-it-pay", "--macs", "0.5", "--data", "digits", "--json", cwd=tmp_path)
    assert done.returncode == 2
    assert "--macs, --data" in as_json(done)["error"]["fix"]
    done = zoo("prune", trained, "--macs", "0.5", "--json", cwd=tmp_path)
    assert done.returncode == 2
    assert "needs images" in as_json(done)["error"]["message"]


@pytest.mark.slow
def test_the_command_on_this_machine(trained: Path, tmp_path: Path) -> None:
    done = zoo("prune", trained, "--will-it-pay", "--round-to", "8", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert as_json(done)["milliseconds"] > 0
