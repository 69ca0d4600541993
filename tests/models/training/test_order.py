from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from zoo.errors import UsageError
from zoo.models.training.order import Order, class_weights, rare_classes
from zoo.models.training.world import World


@given(st.integers(2, 200), st.integers(2, 40), st.integers(1, 4))
@settings(deadline=None, max_examples=60)
def test_processes_share_each_batch_of_the_one(count: int, batch: int, size: int) -> None:
    if min(batch, count) % size:
        with pytest.raises(UsageError, match="cannot be shared"):
            Order(count, batch, 0, World(0, size))
        return
    one = Order(count, batch, 0)
    seen: list[int] = []
    for step in range(one.steps):
        whole = one.step(one.epoch(3), step).tolist()
        parts = [(mine := Order(count, batch, 0, World(rank, size))).step(mine.epoch(3), step) for rank in range(size)]
        assert torch.cat(parts).tolist() == whole
        seen += whole
    assert len(seen) == len(set(seen)) == one.steps * min(batch, count)


def test_sampling_draws_classes_alike() -> None:
    labels = np.repeat([0, 1], [900, 100])
    order = Order(1000, 10, 0, weights=class_weights(labels, 2)[labels])
    drawn = labels[torch.cat([order.epoch(n) for n in range(5)]).numpy()]
    assert 0.46 < drawn.mean() < 0.54
    assert len(order.epoch(0)) == 1000
    assert torch.equal(order.epoch(1), order.epoch(1))


def test_weights_make_classes_count_alike() -> None:
    labels = np.repeat([0, 1, 3], [60, 30, 10])
    weights = class_weights(labels, 4)
    assert weights[labels].mean() == pytest.approx(1)
    assert weights[2] == 0
    totals = [weights[label] * (labels == label).sum() for label in (0, 1, 3)]
    assert totals == pytest.approx([totals[0]] * 3)


def test_rare_classes_are_named() -> None:
    assert rare_classes(np.repeat([0, 1], [100, 50]), ("cat", "dog")) is None
    told = str(rare_classes(np.repeat([0, 1, 2], [1000, 90, 20]), ("cat", "dog", "newt")))
    assert "2 of 3 classes" in told
    assert "up to 50 times rarer: newt 20, dog 90;" in told
    assert "balance=loss" in told
    assert "unseen" in str(rare_classes(np.zeros(5, np.int64), ("cat", "dog")))
    assert "nothing to tell apart" in str(rare_classes(np.zeros(5, np.int64), ("cat",)))
