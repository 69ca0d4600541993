"""Stages: how they are named, what their curves say, and that budgets by them hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from zoo.calibration.pruning.budget import Budget, choose_widths
from zoo.calibration.pruning.groups import Group
from zoo.calibration.pruning.members import Member
from zoo.calibration.pruning.stages import Curve, by_stage, measure_curves, shares_by_root, stage_of
from zoo.calibration.pruning.structured import part_of
from zoo.errors import UsageError


def group(root: str, channels: int) -> Group:
    places = tuple(range(channels))
    return Group(root, channels, (Member(root, True, places, places),))


GROUPS = (group("conv1", 32), group("layer1.0.conv1", 32), group("layer1.1.conv1", 32), group("layer2.0.conv1", 64))


def ones(kept) -> float:
    return float(sum(kept.values()))


@pytest.mark.parametrize(
    ("layer", "stage"),
    [("layer1.0.conv1", "layer1"), ("features.3.conv.0.0", "features.3"), ("conv1", "conv1"),
     ("stem.conv", "stem.conv"),
     ("inception3a.branch1.conv", "inception3a"), ("stages.0.blocks.1.conv", "stages.0"), ("0", "0")],
)  # fmt: skip
def test_a_stage_is_the_name_up_to_its_first_number(layer: str, stage: str) -> None:
    assert stage_of(layer) == stage


def test_curves_are_read_between_what_was_tried_and_never_fall() -> None:
    curve = Curve("layer1", ("a",), (0.0, 0.25, 0.5, 0.75), (0.9, 0.88, 0.89, 0.5))
    assert curve.removable(0.0) == 0.0
    assert curve.removable(0.01) == pytest.approx(0.125)
    assert curve.removable(0.021) == pytest.approx(0.5, abs=0.01), "a half cost less than a quarter: noise"
    assert curve.removable(0.4) == pytest.approx(0.75)
    assert 0.75 < curve.removable(0.7) < 1
    assert curve.removable(1.0) == 1.0


@given(st.lists(st.floats(0, 1), min_size=4, max_size=4), st.floats(0, 1), st.floats(0, 1))
@settings(deadline=None)
def test_who_allows_more_removes_more(accuracy: list[float], one: float, other: float) -> None:
    curve = Curve("s", ("a",), (0.0, 0.25, 0.5, 0.75), tuple(accuracy))
    low, high = sorted((one, other))
    assert 0 <= curve.removable(low) <= curve.removable(high) <= 1


def test_shares_are_of_stages_or_of_single_groups() -> None:
    found = shares_by_root(GROUPS, {"layer1": 0.5, "layer1.1.conv1": 0.75})
    assert found == {"layer1.0.conv1": 0.5, "layer1.1.conv1": 0.75}
    assert list(by_stage(GROUPS)) == ["conv1", "layer1", "layer2"]
    with pytest.raises(UsageError, match='no stage "layer3".*did you mean "layer'):
        shares_by_root(GROUPS, {"layer3": 0.5})


def test_stages_that_are_given_are_kept_whatever_the_others_do() -> None:
    scores = {one.root: np.arange(1.0, one.channels + 1) for one in GROUPS}
    kept = choose_widths(GROUPS, scores, ones, Budget(0.7, stages={"layer2": 1.0, "conv1": 0.5}))
    assert kept["layer2.0.conv1"] == 64
    assert kept["conv1"] == 16
    assert ones(kept) <= 0.7 * 160
    alone = choose_widths(GROUPS, scores, ones, Budget(None, stages={"layer1": 0.5}))
    odd = choose_widths((*GROUPS, group("conv5", 37)), scores, ones, Budget(None, stages={"layer1": 0.5}))
    assert odd["conv5"] == 37, "nobody asked for that"
    assert alone == {"conv1": 32, "layer1.0.conv1": 16, "layer1.1.conv1": 16, "layer2.0.conv1": 64}


def test_what_is_sensitive_keeps_its_channels() -> None:
    scores = {one.root: np.ones(one.channels) for one in GROUPS}
    tried = (0.0, 0.25, 0.5, 0.75)
    curves = (
        Curve("conv1", ("conv1",), tried, (0.9, 0.2, 0.1, 0.1)),
        Curve("layer1", ("layer1.0.conv1", "layer1.1.conv1"), tried, (0.9, 0.89, 0.88, 0.87)),
        Curve("layer2", ("layer2.0.conv1",), tried, (0.9, 0.89, 0.88, 0.87)),
    )
    kept = choose_widths(GROUPS, scores, ones, Budget(0.5, "sensitivity", curves=curves))
    assert kept["conv1"] == 32
    assert ones(kept) <= 80
    assert kept["layer1.0.conv1"] < 32


def test_curves_are_of_one_stage_at_a_time() -> None:
    seen: list[dict[str, float]] = []

    def accuracy(stages) -> float:
        seen.append(dict(stages))
        return 1 - 0.1 * sum(1 - share for share in stages.values())

    told: list[tuple[int, int]] = []
    curves = measure_curves(GROUPS, accuracy, lambda done, total: told.append((done, total)))
    assert [one.stage for one in curves] == ["conv1", "layer1", "layer2"]
    assert curves[1].accuracy == pytest.approx((1, 0.95, 0.9, 0.85))
    assert seen[0] == {}
    assert {"layer1.0.conv1": 0.5, "layer1.1.conv1": 0.5} in seen
    assert told[-1] == (10, 10)


def test_steps_multiply_to_the_whole_way() -> None:
    budget = Budget(0.5, stages={"layer1": 0.6})
    left = 1.0
    for way in (0.5, 1.0):
        part = part_of(budget, way, 1 / left)
        assert part.share is not None
        left *= part.share
    assert left == pytest.approx(0.5)
    assert part_of(budget, 0.5, 1.0).stages["layer1"] == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda: Budget(None), "nothing says how much"),
        (lambda: Budget(None, stages={"layer1": 0.0}), "would keep 0 of its channels"),
        (lambda: Budget(None, stages={"layer1": 1.5}), "at most 1"),
        (lambda: Budget(0.5, "wide"), "none of global, uniform, sensitivity"),
    ],
)
def test_contradictions_are_refused(change, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        change()
