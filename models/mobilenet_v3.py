"""MobileNet V3: inverted residuals, some with squeeze-and-excitation and hard-swish, found by search.

Howard et al. 2019 (https://arxiv.org/abs/1905.02244), tables 1 and 2.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

from torch import Tensor, nn

from .blocks import ConvNormAct, Residual, SqueezeExcitation, initialise, last_norm, make_divisible

RE, HS = nn.ReLU, nn.Hardswish
BatchNorm = partial(nn.BatchNorm2d, eps=0.001, momentum=0.01)


class Row(NamedTuple):
    """One row of table 1 or 2: a bottleneck."""

    kernel: int
    hidden: int
    out: int
    se: bool
    act: type[nn.Module]
    stride: int


VARIANTS: dict[str, dict[str, Any]] = {
    "mobilenet_v3_large": {
        "head": 1280,
        "rows": (
            Row(3, 16, 16, False, RE, 1),
            Row(3, 64, 24, False, RE, 2),
            Row(3, 72, 24, False, RE, 1),
            Row(5, 72, 40, True, RE, 2),
            Row(5, 120, 40, True, RE, 1),
            Row(5, 120, 40, True, RE, 1),
            Row(3, 240, 80, False, HS, 2),
            Row(3, 200, 80, False, HS, 1),
            Row(3, 184, 80, False, HS, 1),
            Row(3, 184, 80, False, HS, 1),
            Row(3, 480, 112, True, HS, 1),
            Row(3, 672, 112, True, HS, 1),
            Row(5, 672, 160, True, HS, 2),
            Row(5, 960, 160, True, HS, 1),
            Row(5, 960, 160, True, HS, 1),
        ),
    },
    "mobilenet_v3_small": {
        "head": 1024,
        "rows": (
            Row(3, 16, 16, True, RE, 2),
            Row(3, 72, 24, False, RE, 2),
            Row(3, 88, 24, False, RE, 1),
            Row(5, 96, 40, True, HS, 2),
            Row(5, 240, 40, True, HS, 1),
            Row(5, 240, 40, True, HS, 1),
            Row(5, 120, 48, True, HS, 1),
            Row(5, 144, 48, True, HS, 1),
            Row(5, 288, 96, True, HS, 2),
            Row(5, 576, 96, True, HS, 1),
            Row(5, 576, 96, True, HS, 1),
        ),
    },
}


class Bottleneck(Residual):
    """Widen, filter depthwise, gate the channels, narrow (figure 4)."""

    def __init__(self, in_channels: int, row: Row) -> None:
        super().__init__()
        conv = partial(ConvNormAct, norm=BatchNorm)
        layers: list[nn.Module] = []
        if row.hidden != in_channels:
            layers.append(conv(in_channels, row.hidden, 1, act=row.act))
        layers.append(conv(row.hidden, row.hidden, row.kernel, row.stride, groups=row.hidden, act=row.act))
        if row.se:
            layers.append(SqueezeExcitation(row.hidden, make_divisible(row.hidden // 4), gate=nn.Hardsigmoid))
        layers.append(conv(row.hidden, row.out, 1, act=None))
        self.block = nn.Sequential(*layers)
        self.residual = row.stride == 1 and in_channels == row.out

    def forward(self, x: Tensor) -> Tensor:
        """N x in x H x W -> N x out x H/stride x W/stride."""
        return x + self.block(x) if self.residual else self.block(x)

    def end(self) -> nn.BatchNorm2d | None:
        """See Residual."""
        return last_norm(self.block) if self.residual else None


class MobileNetV3(nn.Module):
    """N x 3 x H x W -> N x num_classes.

    The small stem leaves out the first two of the five strides, so that 32 pixels end as 4 x 4.
    """

    def __init__(
        self,
        rows: tuple[Row, ...],
        head: int,
        num_classes: int = 1000,
        stem: str = "paper",
        width: float = 1.0,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        small = stem == "small"
        conv = partial(ConvNormAct, norm=BatchNorm, act=HS)
        channels = make_divisible(16 * width)
        layers: list[nn.Module] = [conv(3, channels, 3, 1 if small else 2)]
        strided = 0
        for row in rows:
            strided += row.stride == 2
            early = small and row.stride == 2 and strided == 1
            row = row._replace(
                hidden=make_divisible(row.hidden * width),
                out=make_divisible(row.out * width),
                stride=1 if early else row.stride,
            )
            layers.append(Bottleneck(channels, row))
            channels = row.out
        layers.append(conv(channels, 6 * channels, 1))
        hidden = make_divisible(head * width)
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(
            nn.Linear(6 * channels, hidden), nn.Hardswish(), nn.Dropout(dropout), nn.Linear(hidden, num_classes)
        )
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


def build(name: str, **arguments: Any) -> MobileNetV3:
    """Build the variant `name` of `VARIANTS`."""
    return MobileNetV3(**VARIANTS[name], **arguments)
