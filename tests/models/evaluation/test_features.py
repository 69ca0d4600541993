from __future__ import annotations

import pytest
import torch
from torch import nn
from zoo.models.evaluation.features import recorded_features


class Head(nn.Module):
    def __init__(self, call: object) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)
        self.call = call

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.call(self.fc, x)


@pytest.mark.parametrize(
    ("call", "shapes"),
    [
        (lambda fc, x: fc(x), [(2, 4)]),
        (lambda fc, x: fc(input=x), []),
        (lambda fc, x: fc(x) + fc(x), [(2, 4), (2, 4)]),
        (lambda fc, x: fc(x[:, None].expand(2, 5, 4)).mean(1), [(2, 20)]),
    ],
)
def test_what_the_last_layer_sees(call: object, shapes: list[tuple[int, ...]]) -> None:
    module = Head(call)
    with recorded_features(module) as features:
        module(torch.zeros(2, 4))
    assert [found.shape for found in features] == shapes
