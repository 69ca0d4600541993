"""A norm that says its shape is narrowed with it."""

from __future__ import annotations

import torch
from torch import nn
from zoo.calibration.pruning.norms import NormPruner, norms_by_shape


class Biased(nn.RMSNorm):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.bias = nn.Parameter(torch.arange(float(channels)))


def test_weight_bias_and_shape_become_narrower() -> None:
    norm, pruner = Biased(6), NormPruner()
    norm.weight.requires_grad_(False)
    pruner.prune_out_channels(norm, [0, 3])
    assert norm.normalized_shape == (4,)
    assert norm.bias.tolist() == [1, 2, 4, 5]
    assert norm.weight.shape == (4,)
    assert not norm.weight.requires_grad
    assert pruner.get_in_channels(norm) == 4
    assert norm(torch.ones(2, 4)).shape == (2, 4)


def test_layer_norms_are_left_to_torch_pruning() -> None:
    assert norms_by_shape(nn.Sequential(nn.LayerNorm(4), Biased(4), nn.RMSNorm(4))) == {Biased, nn.RMSNorm}
