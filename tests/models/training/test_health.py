from __future__ import annotations

import pytest
import torch
from zoo.models.training.health import Health, gradient_norm, not_finite


def test_the_first_step_that_was_no_number_is_remembered() -> None:
    health = Health(torch.device("cpu"))
    for step, loss in enumerate([1.0, 2.0]):
        health.see(step, torch.tensor(loss))
    assert health.first_bad() is None
    for step, loss in enumerate([float("inf"), 1.0, float("nan")], start=2):
        health.see(step, torch.tensor(loss))
    assert health.first_bad() == 2


def test_noting_waits_for_nothing() -> None:
    """On the meta device every wait raises, as the reading does."""
    health = Health(torch.device("meta"))
    health.see(3, torch.empty((), device="meta"))
    with pytest.raises(RuntimeError, match="meta"):
        health.first_bad()


def test_the_norm_is_of_all_gradients() -> None:
    module = torch.nn.Linear(2, 1)
    assert gradient_norm(module) == 0
    module.weight.grad, module.bias.grad = torch.tensor([[3.0, 0.0]]), torch.tensor([4.0])
    assert gradient_norm(module) == 5


def test_what_the_error_says() -> None:
    told = str(not_finite(2, 6, 0.4, float("nan"), "fp16"))
    for words in (
        "step 7 of epoch 3",
        "lr 0.4",
        "gradient norm not finite either",
        "an overflow in fp16",
        "the last checkpoint, from before, is kept",
        "--set lr=0.04",
        "precision=fp32",
    ):
        assert words in told
    told = str(not_finite(0, 0, 0.1, 12.5, "fp32"))
    assert "gradient norm 12.5" in told
    assert "kept" not in told
    assert "precision" not in told
