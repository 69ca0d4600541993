from __future__ import annotations

import pytest
import torch
from zoo.models.training.health import NEVER, Bad, Health, not_finite


def test_the_first_step_that_was_no_number_is_remembered() -> None:
    health = Health(torch.device("cpu"))
    for step, loss in enumerate([1.0, 2.0]):
        health.see(step, torch.tensor(loss), torch.tensor(1.0))
    assert health.first() == NEVER
    for step, loss in enumerate([float("inf"), 1.0, float("nan")], start=2):
        health.see(step, torch.tensor(loss), torch.tensor(float(step)))
    assert health.first() == 2
    assert health.bad(2) == Bad(2, float("inf"), 2.0)


def test_a_gradient_that_is_no_number_is_noticed_before_a_loss_is() -> None:
    health = Health(torch.device("cpu"))
    health.see(0, torch.tensor(1.5), torch.tensor(float("inf")))
    assert health.first() == 0
    told = str(not_finite(0, health.bad(0), 0.1, "bf16"))
    assert "step 1 of epoch 1: the gradient is no number, of a loss of 1.5" in told
    scaled = Health(torch.device("cpu"))  # the scaler of fp16 finds the scale by such steps
    scaled.see(0, torch.tensor(1.5), None)
    assert scaled.first() == NEVER


def test_noting_waits_for_nothing() -> None:
    """On the meta device every wait raises, as the reading does."""
    health = Health(torch.device("meta"))
    health.see(3, torch.empty((), device="meta"), torch.empty((), device="meta"))
    with pytest.raises(RuntimeError, match="meta"):
        health.first()


def test_what_the_error_says() -> None:
    nan = float("nan")
    told = str(not_finite(2, Bad(6, nan, nan), 0.4, "fp16"))
    for words in (
        "step 7 of epoch 3: the loss is no number",
        "lr 0.4",
        "gradient norm not finite either",
        "an overflow in fp16",
        "the last checkpoint, from before, is kept",
        "--set lr=0.04",
        "precision=fp32",
    ):
        assert words in told
    told = str(not_finite(0, Bad(0, nan, 12.5), 0.1, "fp32"))
    assert "gradient norm 12.5" in told
    assert "kept" not in told
    assert "precision" not in told
