"""EfficientNet: one searched network, scaled in depth, width and resolution together.

Tan, Le 2019 (https://arxiv.org/abs/1905.11946). B1 to B7 are B0 with more layers (rounded up) and more channels
(rounded to a multiple of 8 that loses no more than 10 %).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor, nn

from .blocks import ConvNormAct, Residual, SqueezeExcitation, StochasticDepth, initialise, last_norm, make_divisible


class Stage(NamedTuple):
    """One row of table 1."""

    expansion: int
    kernel: int
    stride: int
    out: int
    layers: int


STEM, STAGES = (
    32,
    (
        Stage(1, 3, 1, 16, 1),
        Stage(6, 3, 2, 24, 2),
        Stage(6, 5, 2, 40, 2),
        Stage(6, 3, 2, 80, 3),
        Stage(6, 5, 1, 112, 3),
        Stage(6, 5, 2, 192, 4),
        Stage(6, 3, 1, 320, 1),
    ),
)

# Width and depth multiplier and dropout of the reference code. B5 to B7 were published with other batch norm constants.
_tf_norm = partial(nn.BatchNorm2d, eps=0.001, momentum=0.01)
VARIANTS: dict[str, dict[str, Any]] = {
    "efficientnet_b0": {"width_mult": 1.0, "depth_mult": 1.0, "dropout": 0.2},
    "efficientnet_b1": {"width_mult": 1.0, "depth_mult": 1.1, "dropout": 0.2},
    "efficientnet_b2": {"width_mult": 1.1, "depth_mult": 1.2, "dropout": 0.3},
    "efficientnet_b3": {"width_mult": 1.2, "depth_mult": 1.4, "dropout": 0.3},
    "efficientnet_b4": {"width_mult": 1.4, "depth_mult": 1.8, "dropout": 0.4},
    "efficientnet_b5": {"width_mult": 1.6, "depth_mult": 2.2, "dropout": 0.4, "norm": _tf_norm},
    "efficientnet_b6": {"width_mult": 1.8, "depth_mult": 2.6, "dropout": 0.5, "norm": _tf_norm},
    "efficientnet_b7": {"width_mult": 2.0, "depth_mult": 3.1, "dropout": 0.5, "norm": _tf_norm},
}


class MBConv(Residual):
    """Widen, filter depthwise, gate the channels, narrow; the whole branch may be dropped in training."""

    def __init__(
        self, in_channels: int, stage: Stage, stride: int, drop: float, norm: Callable[[int], nn.Module]
    ) -> None:
        super().__init__()
        conv = partial(ConvNormAct, norm=norm, act=nn.SiLU)
        hidden = make_divisible(in_channels * stage.expansion)
        widen = [conv(in_channels, hidden, 1)] if hidden != in_channels else []
        self.block = nn.Sequential(
            *widen,
            conv(hidden, hidden, stage.kernel, stride, groups=hidden),
            SqueezeExcitation(hidden, max(1, in_channels // 4), act=nn.SiLU),
            conv(hidden, stage.out, 1, act=None),
        )
        self.stochastic_depth = StochasticDepth(drop)
        self.residual = stride == 1 and in_channels == stage.out

    def forward(self, x: Tensor) -> Tensor:
        """N x in x H x W -> N x out x H/stride x W/stride."""
        return x + self.stochastic_depth(self.block(x)) if self.residual else self.block(x)

    def end(self) -> nn.BatchNorm2d | None:
        """See Residual."""
        return last_norm(self.block) if self.residual else None


class EfficientNet(nn.Module):
    """N x 3 x H x W -> N x num_classes.

    Args:
        width_mult: multiplies channels (compound scaling).
        depth_mult: multiplies the layers of each stage, rounded up.
        dropout: before the last layer.
        num_classes: the length of the logits.
        stem: "small" leaves out the first two of the five strides, so that 32 pixels end as 4 x 4.
        width: a further factor on `width_mult`, the same argument as in the other families.
        drop_path: probability to drop the last residual branch; grows linearly from 0 at the first.
        norm: the batch norm, given its channels.
    """

    def __init__(
        self,
        width_mult: float,
        depth_mult: float,
        dropout: float,
        num_classes: int = 1000,
        stem: str = "paper",
        width: float = 1.0,
        drop_path: float = 0.2,
        norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        small = stem == "small"
        factor = width_mult * width
        depths = [math.ceil(stage.layers * depth_mult) for stage in STAGES]
        channels = make_divisible(STEM * factor)
        conv = partial(ConvNormAct, norm=norm, act=nn.SiLU)
        features: list[nn.Module] = [conv(3, channels, 3, 1 if small else 2)]
        done = 0
        for index, (stage, depth) in enumerate(zip(STAGES, depths, strict=True)):
            stage = stage._replace(out=make_divisible(stage.out * factor))
            blocks: list[nn.Module] = []
            for layer in range(depth):
                stride = stage.stride if layer == 0 and not (small and index == 1) else 1
                blocks.append(MBConv(channels, stage, stride, drop_path * done / sum(depths), norm))
                channels = stage.out
                done += 1
            features.append(nn.Sequential(*blocks))
        features.append(conv(channels, 4 * channels, 1))
        self.features = nn.Sequential(*features)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(4 * channels, num_classes))
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


def build(name: str, **arguments: Any) -> EfficientNet:
    """Build the variant `name` of `VARIANTS`."""
    return EfficientNet(**VARIANTS[name], **arguments)
