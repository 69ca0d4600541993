"""AdaRound: the objective against brute force, and on a real layer against rounding to the nearest."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from calibration_help import calibrated_model
from hypothesis import given, settings
from hypothesis import strategies as st
from zoo.calibration.adaround import flip_to_fit, moments
from zoo.calibration.choice import Choice
from zoo.calibration.quantize import channel_scales, to_int8
from zoo.calibration.view import View
from zoo.exporter.backends.graph.layers import list_layers
from zoo.exporter.backends.onnx import int8 as target


def problem(seed: int, rows: int, inner: int, groups: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Weights, and the moments of inputs that go together, as those of neighbouring pixels do."""
    random = np.random.default_rng(seed)
    weight = random.normal(size=(rows, inner)).astype(np.float32)
    mixing = random.normal(size=(groups, inner, inner)) + 1
    inputs = np.maximum(random.normal(size=(groups, 200, inner)) @ mixing, 0)
    return weight, (inputs.transpose(0, 2, 1) @ inputs / 200).astype(np.float32)


def error(weight: np.ndarray, integers: np.ndarray, scales: np.ndarray, moments: np.ndarray) -> np.ndarray:
    groups = len(moments)
    off = (integers * scales[:, None] - weight).reshape(groups, -1, weight.shape[1]).astype(np.float64)
    return np.einsum("gkd,gde,gke->gk", off, moments, off).ravel()


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.sampled_from([2, 4, 8]))
def test_never_worse_than_nearest_and_near_the_best_of_all(seed: int, bits: int) -> None:
    weight, square = problem(seed, 3, 7)
    scales = channel_scales(weight, 0, bits)
    near = to_int8(weight, scales, 0, bits)
    made = flip_to_fit(weight, scales, square, bits)
    assert np.abs(made * scales[:, None] - weight).max() <= scales.max() * 1.001  # up or down, no further
    got, nearest = error(weight, made, scales, square), error(weight, near, scales, square)
    assert (got <= nearest * (1 + 1e-4) + 1e-9).all()
    low = np.floor(weight / scales[:, None])
    limit = 2 ** (bits - 1) - 1
    best = np.min(
        [error(weight, np.clip(low + up, -limit, limit), scales, square) for up in product((0, 1), repeat=7)], axis=0
    )
    assert got.sum() <= 3 * best.sum() + 0.5 * (nearest.sum() - best.sum()) + 1e-9


def test_the_largest_weight_keeps_its_integer() -> None:
    weight, square = problem(1, 8, 32)
    scales = channel_scales(weight, 0)
    made = flip_to_fit(weight, scales, square)
    assert (np.abs(made).max(1) == 127).all()


def test_groups_have_their_own_moments() -> None:
    weight, square = problem(2, 6, 9, groups=6)
    scales = channel_scales(weight, 0, 4)
    whole = flip_to_fit(weight, scales, square, 4)
    each = [flip_to_fit(weight[i : i + 1], scales[i : i + 1], square[i : i + 1], 4)[0] for i in range(6)]
    np.testing.assert_array_equal(whole, np.stack(each))


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_moments_foretell_what_rounding_does_to_a_layer(name: str) -> None:
    """Every layer has them, and at 4 bits the error falls, the more the wider the layer is."""
    _, calibrated = calibrated_model(name)
    assert calibrated.rounder is not None
    found = moments(calibrated.graph, calibrated.program, calibrated.rounder.images())
    view = View(calibrated.graph)
    ratios: list[float] = []
    assert set(found) == {layer.name for layer in list_layers(calibrated.graph)}
    for node in view.nodes:
        if node.name in found:
            weight = np.asarray(view.value(node.input[1]))
            rows = weight.reshape(len(weight), -1)
            assert found[node.name].shape[1:] == (rows.shape[1],) * 2
            scales = channel_scales(rows, 0, 4)
            made = flip_to_fit(rows, scales, found[node.name], 4)
            near = error(rows, to_int8(rows, scales, 0, 4), scales, found[node.name]).sum()
            ratios.append(error(rows, made, scales, found[node.name]).sum() / near)
    assert np.median(ratios) < (0.67 if name == "resnet18" else 0.8)


def test_a_target_writes_the_integers_of_the_rounder() -> None:
    _, calibrated = calibrated_model("resnet18")
    graph = target.prepare(calibrated.graph)
    layers = [layer.name for layer in list_layers(graph)]
    both = [
        target.render(graph, calibrated.table, layers, choice, calibrated.rounder)
        for choice in (Choice(), Choice(adaround=True))
    ]
    stored = [{one.name: one for one in proto.graph.initializer} for proto in both]
    assert stored[0].keys() == stored[1].keys()
    names = [name for name in stored[0] if name.endswith("_weight_quantized")]
    differ = [name for name in names if stored[0][name] != stored[1][name]]
    assert len(differ) > len(names) / 2
    same = [name for name in stored[0] if name.endswith("_weight_scale")]
    assert all(stored[0][name] == stored[1][name] for name in same)
