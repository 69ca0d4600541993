"""MobileNet V2: inverted residuals with linear bottlenecks.

Sandler et al. 2018 (https://arxiv.org/abs/1801.04381).
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn

from .blocks import ConvNormAct, Residual, initialise, last_norm, make_divisible

VARIANTS: dict[str, dict[str, Any]] = {"mobilenet_v2": {}}

# Table 2 of the paper: expansion, output channels, repeats, stride of the first.
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
ConvNormReLU6 = partial(ConvNormAct, act=nn.ReLU6)


class InvertedResidual(Residual):
    """Widen by 1x1, filter by 3x3 depthwise, narrow by 1x1 without activation (table 1, figure 4)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        widen = [] if expansion == 1 else [ConvNormReLU6(in_channels, hidden, 1)]
        self.conv = nn.Sequential(
            *widen,
            ConvNormReLU6(hidden, hidden, 3, stride, groups=hidden),
            nn.Conv2d(hidden, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """N x in x H x W -> N x out x H/stride x W/stride."""
        return x + self.conv(x) if self.residual else self.conv(x)

    def end(self) -> nn.BatchNorm2d | None:
        """See Residual."""
        return last_norm(self.conv) if self.residual else None


class MobileNetV2(nn.Module):
    """N x 3 x H x W -> N x num_classes.

    The small stem leaves out the first two of the five strides, so that 32 pixels end as 4 x 4.
    """

    def __init__(self, num_classes: int = 1000, stem: str = "paper", width: float = 1.0, dropout: float = 0.2) -> None:
        super().__init__()
        small = stem == "small"
        channels = make_divisible(32 * width)
        last = make_divisible(1280 * max(1.0, width))
        layers: list[nn.Module] = [ConvNormReLU6(3, channels, 3, stride=1 if small else 2)]
        for index, (expansion, out, repeats, first_stride) in enumerate(STAGES):
            out = make_divisible(out * width)
            for repeat in range(repeats):
                stride = first_stride if repeat == 0 and not (small and index == 1) else 1
                layers.append(InvertedResidual(channels, out, stride, expansion))
                channels = out
        layers.append(ConvNormReLU6(channels, last, 1))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(last, num_classes))
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


def build(name: str, **arguments: Any) -> MobileNetV2:
    """Build the variant `name` of `VARIANTS`."""
    return MobileNetV2(**VARIANTS[name], **arguments)
