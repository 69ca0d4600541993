"""A clip behind a layer sets the layer's scale."""

from __future__ import annotations

import pytest
import torch
from calibration_help import calibrated, images
from torch import nn
from zoo.calibration.choice import Choice
from zoo.exporter.backends.torchscript.int8 import render


@pytest.mark.parametrize("clip", [nn.ReLU6(), nn.Hardtanh(-1, 2)])
def test_a_layer_that_a_clip_cuts_off_has_the_scale_of_what_is_left(clip: nn.Module) -> None:
    """Before, the layer's own range was taken, here 30 times as wide."""
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 8, 3, 2)
    with torch.no_grad():
        conv.weight *= 40
    module = nn.Sequential(conv, clip, nn.Conv2d(8, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))
    quantised = render(calibrated(module.eval()), Choice(weight_bits=7))
    low, high = float(clip.min_val), float(clip.max_val)
    assert float(quantised.get_submodule("0").scale) == pytest.approx((high - low) / 255, rel=0.01)
    batch = torch.from_numpy(images(8, 1))
    with torch.inference_mode():
        reference = module(batch)
        assert float((quantised(batch) - reference).norm() / reference.norm()) < 0.05


def test_a_layer_that_others_read_beside_the_clip_keeps_its_own_range() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.clip, self.last = nn.Conv2d(3, 8, 3, 2), nn.ReLU6(), nn.Linear(8, 10)

        def forward(self, x):
            x = self.conv(x) * 1.0
            x = self.clip(x) + x
            return self.last(x.mean((2, 3)))

    torch.manual_seed(0)
    module = Both().eval()
    batch = torch.from_numpy(images(8, 1))
    quantised = render(calibrated(module), Choice(weight_bits=7))
    with torch.inference_mode():
        reference = module(batch)
        assert float((quantised(batch) - reference).norm() / reference.norm()) < 0.1
