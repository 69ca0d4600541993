"""MobileNet V1: a depthwise convolution filters, a 1x1 convolution combines.

Howard et al. 2017 (https://arxiv.org/abs/1704.04861). At width 1.0 it has 4,231,976 parameters.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from .blocks import ConvNormAct, initialise, scaled

VARIANTS: dict[str, dict[str, Any]] = {"mobilenet_v1": {}}

# Table 1 of the paper: output channels and stride of each depthwise separable convolution.
LAYERS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))


class DepthwiseSeparable(nn.Sequential):
    """3x3 depthwise and 1x1 pointwise convolution, each with batch norm and ReLU (figure 3)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__(
            ConvNormAct(in_channels, in_channels, 3, stride, groups=in_channels),
            ConvNormAct(in_channels, out_channels, 1),
        )


class MobileNetV1(nn.Module):
    """N x 3 x H x W -> N x num_classes.

    The small stem leaves out the first two of the five strides, so that 32 pixels end as 4 x 4.
    """

    def __init__(
        self, num_classes: int = 1000, stem: str = "paper", width: float = 1.0, dropout: float = 0.001
    ) -> None:
        super().__init__()
        small = stem == "small"
        channels = scaled(32, width)
        layers: list[nn.Module] = [ConvNormAct(3, channels, 3, stride=1 if small else 2)]
        for index, (out, stride) in enumerate(LAYERS):
            early = small and index < 2
            layers.append(DepthwiseSeparable(channels, scaled(out, width), 1 if early else stride))
            channels = scaled(out, width)
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(channels, num_classes))
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


def build(name: str, **arguments: Any) -> MobileNetV1:
    """Build the variant `name` of `VARIANTS`."""
    return MobileNetV1(**VARIANTS[name], **arguments)
