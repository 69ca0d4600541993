"""Costs of layers on a target, and giving back until a drop holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from calibration_help import calibrated_model, images
from conftest import tiny_model
from zoo.calibration.choice import Choice
from zoo.calibration.sensitivity import Cost, Effect
from zoo.errors import GateError, UsageError
from zoo.exporter.backends.graph.layers import list_layers
from zoo.exporter.backends.onnx import int8 as target
from zoo.exporter.backends.onnx.layer_times import by_layer
from zoo.exporter.backends.registry import get_backend
from zoo.exporter.quantize.candidates import Judge
from zoo.exporter.quantize.fallback import hold_drop
from zoo.exporter.quantize.layer_costs import Costs, measure_costs
from zoo.exporter.quantize.options import Int8Options
from zoo.exporter.quantize.sensitivity import save, sensitivity
from zoo.models.data.dataset import Dataset

LABELS = np.arange(4000) % 10
REFERENCE = np.eye(10, dtype=np.float32)[LABELS]
NAMES = [f"conv{index}" for index in range(12)]


def costs(macs: int = 1) -> Costs:
    none = Effect(200.0, 0.0)
    layers = [Cost(name, "Conv", macs, none, none, 1.0 / (1 + index), 1.0) for index, name in enumerate(NAMES)]
    return Costs(Effect(20.0, 1.0), tuple(layers), 64, True)


class Fake:
    """Loses 30 answers for each of the first `wrong` layers that is in int8."""

    def __init__(self, choice: Choice, wrong: int) -> None:
        self.flip = 30 * sum(name not in choice.keep for name in NAMES[:wrong])

    def __enter__(self) -> Fake:
        return self

    def __exit__(self, *_: object) -> None: ...

    def run(self, batch: np.ndarray) -> np.ndarray:
        made = REFERENCE.copy()
        made[: self.flip] = np.roll(made[: self.flip], 1, axis=1)
        return made


def judge() -> Judge:
    def batches() -> Iterator[np.ndarray]:
        yield np.zeros((4000, 1), np.float32)

    return Judge(batches, LABELS, REFERENCE)


def test_as_few_layers_as_hold_are_given_back() -> None:
    told: list[str] = []
    choice, tried = hold_drop(judge(), lambda one: Fake(one, 3), Choice("mse"), costs(), 0.002, told.append)
    assert sorted(choice.keep) == NAMES[:3], "1, 2 and 4 are tried, then 3"
    assert [len(one.choice.keep) for one in tried] == [1, 2, 4, 3]
    assert choice.method == "mse"
    assert "saves" in choice.keep["conv0"]
    assert told[-1].startswith("int8 with 3 layers kept in float: pass")


def test_half_of_the_macs_stay_integer_or_it_is_refused() -> None:
    asked: list[int] = []

    def render(one: Choice) -> Fake:
        asked.append(len(one.keep))
        return Fake(one, 9)

    with pytest.raises(GateError, match="0.2 points was not shown with half of the MACs"):
        hold_drop(judge(), render, Choice(), costs(), 0.002, lambda _line: None)
    assert max(asked) == 6


def test_nothing_to_give_back_is_said() -> None:
    empty = Costs(Effect(20.0, 1.0), (), 64, True)
    with pytest.raises(GateError, match="no layer is better in float"):
        hold_drop(judge(), lambda one: Fake(one, 9), Choice(), empty, 0.002, lambda _line: None)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"max_drop": 0.0}, "above 0"),
        ({"max_drop": 1.5}, "below 100 points, got 150"),
        ({"max_drop": 0.01, "plan": Path("x")}, "repeats without measuring"),
    ],
)
def test_contradictions_are_refused(wrong: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Int8Options(**wrong)


def test_a_layers_time_is_its_kernel_and_its_own_qdq() -> None:
    _, calibrated = calibrated_model("alexnet")
    base = target.prepare(calibrated.graph)
    names = [layer.name for layer in list_layers(base)]
    graph = target.render(base, calibrated.table, names, Choice())
    first, second = names[0], names[1]
    nodes = {one.name: one for one in graph.graph.node}
    written = next(one for one in base.graph.node if one.name == first).output[0]
    relu = next(one.output[0] for one in base.graph.node if written in one.input)
    quantise = f"{relu}_QuantizeLinear"
    assert quantise in nodes
    times = {f"{first}_token_3": 10.0, quantise: 4.0, f"{second}_token_7": 20.0, "images_QuantizeLinear": 2.0, "Mul": 9}
    assert by_layer(times, graph, names) == {first: 16.0, second: 20.0}
    assert f"{first}_pad" in nodes
    colours = {f"{first}_pad": 1.0, "images_QuantizeLinear": 2.0, "Transpose": 4.0}
    assert by_layer(colours, graph, names) == {first: 3.0}, "what its colours take is the first layer's"
    floats = {f"{relu}_nchwc": 30.0, second: 50.0}
    assert by_layer(floats, base, names) == {first: 30.0, second: 50.0}


def test_costs_of_a_real_model(few_digits: Dataset, tmp_path: Path) -> None:
    """Every layer of ONNX Runtime is timed, and the table and picture are written."""
    found, _ = sensitivity(tiny_model("alexnet"), few_digits, images=100, compared=16)
    assert found.timed
    assert len(found.layers) == 8
    assert found.images == 16
    assert set(found.modules.values()) >= {"features.0", "classifier.6"}, found.modules
    assert all(one.saved is not None for one in found.layers)
    assert all(one.alone.sqnr > found.whole.sqnr - 6 for one in found.layers)
    save(found, "alexnet", "onnx", tmp_path / "made")
    assert {one.name for one in (tmp_path / "made").iterdir()} == {"sensitivity.json", "sensitivity.png"}
    save(found, "alexnet", "onnx", tmp_path / "made")  # its own may be replaced
    (tmp_path / "made" / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="holds no earlier sensitivity"):
        save(found, "alexnet", "onnx", tmp_path / "made")
    assert (tmp_path / "made" / "thesis.txt").exists()


def test_a_planted_range_is_found_by_its_layers() -> None:
    """A tensor whose range was taken fifty times too wide costs the layers on both of its sides most."""
    model, calibrated = calibrated_model("alexnet")
    layers = [layer.name for layer in list_layers(calibrated.graph)]
    reader = next(one for one in calibrated.graph.graph.node if one.name == layers[3])
    edge = calibrated.table.edges[reader.input[0]]
    wide = {**calibrated.table.edges, reader.input[0]: replace(edge, low=50 * edge.low, high=50 * edge.high)}
    planted = replace(calibrated, table=replace(calibrated.table, edges=wide))
    found = measure_costs(get_backend("torchscript"), model, planted, Choice(), images(16))
    assert not found.timed
    worst = sorted(found.layers, key=lambda one: one.alone.sqnr)
    assert {worst[0].name, worst[1].name} == set(layers[2:4])
    assert worst[1].alone.sqnr < worst[2].alone.sqnr - 6
