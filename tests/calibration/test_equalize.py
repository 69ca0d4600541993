"""Cross-layer equalisation: the network computes the same, and the ranges are nearer to each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from calibration_help import calibrated_model, images
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from zoo.calibration.equalize import MOST, equalise, factors_of, find_pairs
from zoo.calibration.ranges import collect

POSITIVE = arrays(np.float64, 6, elements=st.floats(1e-3, 1e3))


@settings(deadline=None)
@given(POSITIVE, POSITIVE)
def test_both_sides_have_the_same_range_after(reach: np.ndarray, weight: np.ndarray) -> None:
    factors = factors_of(reach, weight)
    inside = (factors > 1 / MOST) & (factors < MOST)
    ratio = (reach / factors)[inside] / (weight * factors)[inside]
    np.testing.assert_allclose(ratio, ratio[:1].repeat(len(ratio)), rtol=1e-6)


@settings(deadline=None)
@given(POSITIVE, POSITIVE)
def test_a_clip_is_not_reached_by_what_did_not_reach_it(reach: np.ndarray, weight: np.ndarray) -> None:
    factors = factors_of(reach, weight, ceiling=6.0)
    assert (factors[reach >= 6] == 1).all()
    assert (reach[reach < 6] / factors[reach < 6] <= 6 * (1 + 1e-9)).all()


def test_dead_channels_are_left_alone() -> None:
    assert factors_of(np.array([0.0, 4.0, 1.0]), np.array([1.0, 0.0, 1.0])).tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "vgg11", "googlenet", "alexnet", "mobilenet_v1"])
def test_the_network_computes_the_same(name: str) -> None:
    model, calibrated = calibrated_model(name)
    made, pairs = equalise(model.module, calibrated.program, calibrated.table)
    assert pairs
    batch = torch.from_numpy(images(64)[:16])  # of those that were calibrated with: their clips are known
    with torch.inference_mode():
        before, after = model.module(batch), made.eval()(batch)
    assert (before - after).abs().max() < 1e-3 * before.abs().max()
    old = model.module.state_dict()
    changed = [key for key, value in made.state_dict().items() if not torch.equal(value, old[key])]
    assert len(changed) > len(pairs)


def test_a_spoiled_channel_is_mended() -> None:
    """A network whose channels differ by a factor of 50 in one place, as trained MobileNets do by nature."""
    model, calibrated = calibrated_model("resnet18")
    pair = find_pairs(calibrated.program)[0]
    import copy

    spoiled = copy.deepcopy(model.module)
    state = spoiled.state_dict(keep_vars=True)
    with torch.no_grad():
        for name in pair.first:
            state[name][0].mul_(20)
        state[pair.second][:, 0].mul_(1 / 20)
    from zoo.exporter.artifact.manifest import Batch
    from zoo.exporter.backends.graph.graph import trace_graph

    _, program = trace_graph(spoiled, model.spec, "fp32", Batch(1, 8, 64))
    table = collect(program, {pair.edge}, [images(32)])
    made, _ = equalise(spoiled, program, table)
    _, again = trace_graph(made, model.spec, "fp32", Batch(1, 8, 64))
    after = collect(again, {pair.edge}, [images(32)]).edges[pair.edge]
    before = table.edges[pair.edge]
    assert np.ptp(np.log(after.channel_high[after.channel_high > 0])) < 0.7 * np.ptp(
        np.log(before.channel_high[before.channel_high > 0])
    )


def test_swish_does_not_commute() -> None:
    _, calibrated = calibrated_model("efficientnet_b0")
    kinds = {node.name: str(node.target) for node in calibrated.program.graph.nodes}
    assert not any("silu" in kinds[pair.edge] for pair in find_pairs(calibrated.program))
