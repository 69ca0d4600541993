"""GoogLeNet: nine inception modules, two auxiliary heads that help the gradient in training.

Szegedy et al. 2014 (https://arxiv.org/abs/1409.4842), with batch norm, and with 3x3 where the paper has 5x5
convolutions: so the published weights have it (they were ported from the TensorFlow code, which has the same).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import initialise, scaled

VARIANTS: dict[str, dict[str, Any]] = {"googlenet": {}}

# Table 1 of the paper: 1x1 | 3x3 reduce, 3x3 | 5x5 reduce, 5x5 | pool projection.
INCEPTION = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
AUXILIARY_WEIGHT = 0.3  # of the loss of each auxiliary head, section 5 of the paper


class GoogLeNetOutputs(NamedTuple):
    """What the model gives in training: N x num_classes from the main head and from both auxiliary ones."""

    logits: Tensor
    aux2: Tensor
    aux1: Tensor


class BasicConv2d(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, (kernel - 1) // 2, bias=False)
        self.bn = nn.BatchNorm2d(out_channels, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        """Return the activated feature map."""
        return F.relu(self.bn(self.conv(x)), inplace=True)


class Inception(nn.Module):
    """Four views of the same input, concatenated: 1x1, 3x3, a wider one, and a pooled one (figure 2b)."""

    def __init__(self, channels: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        ch1, red3, ch3, red5, ch5, pool = widths
        self.branch1 = BasicConv2d(channels, ch1)
        self.branch2 = nn.Sequential(BasicConv2d(channels, red3), BasicConv2d(red3, ch3, 3))
        self.branch3 = nn.Sequential(BasicConv2d(channels, red5), BasicConv2d(red5, ch5, 3))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, 1, ceil_mode=True), BasicConv2d(channels, pool))
        self.out_channels = ch1 + ch3 + ch5 + pool

    def forward(self, x: Tensor) -> Tensor:
        """Return N x (sum of the branches) x H x W."""
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)


class InceptionAux(nn.Module):
    """An auxiliary head: average to 4 x 4, 1x1 convolution, two linear layers."""

    def __init__(self, channels: int, num_classes: int, width: float, dropout: float) -> None:
        super().__init__()
        squeezed, hidden = scaled(128, width), scaled(1024, width)
        self.conv = BasicConv2d(channels, squeezed)
        self.fc1 = nn.Linear(squeezed * 16, hidden)
        self.fc2 = nn.Linear(hidden, num_classes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return auxiliary logits."""
        x = self.conv(F.adaptive_avg_pool2d(x, 4)).flatten(1)
        return self.fc2(self.dropout(F.relu(self.fc1(x), inplace=True)))


class GoogLeNet(nn.Module):
    """N x 3 x H x W -> N x num_classes; in training `GoogLeNetOutputs` with the auxiliary logits.

    Args:
        num_classes: the length of the logits.
        stem: "small" has a 3x3 stride-1 first convolution and no first pooling.
        transform_input: the input is normalised with ImageNet's mean and std, but the weights want
            (x - 0.5) / 0.5; torchvision's ImageNet weights do.
        width: multiplies every channel count.
        dropout: before the last layer.
    """

    inception3a: Inception
    inception3b: Inception
    inception4a: Inception
    inception4b: Inception
    inception4c: Inception
    inception4d: Inception
    inception4e: Inception
    inception5a: Inception
    inception5b: Inception

    def __init__(
        self,
        num_classes: int = 1000,
        stem: str = "paper",
        transform_input: bool = False,
        width: float = 1.0,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        small = stem == "small"
        c64, c192 = scaled(64, width), scaled(192, width)
        self.transform_input = transform_input
        self.conv1 = BasicConv2d(3, c64, 3 if small else 7, stride=1 if small else 2)
        self.maxpool1 = nn.Identity() if small else nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv2 = BasicConv2d(c64, c64)
        self.conv3 = BasicConv2d(c64, c192, 3)
        self.maxpool2 = nn.MaxPool2d(3, 2, ceil_mode=True)

        channels: dict[str, int] = {}
        last = c192
        for name, widths in INCEPTION.items():
            channels[name] = last
            block = Inception(last, tuple(scaled(one, width) for one in widths))
            setattr(self, f"inception{name}", block)
            last = block.out_channels
        self.maxpool3 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.maxpool4 = nn.MaxPool2d(2, 2, ceil_mode=True)

        self.aux1 = InceptionAux(channels["4b"], num_classes, width, dropout=0.7)
        self.aux2 = InceptionAux(channels["4e"], num_classes, width, dropout=0.7)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(last, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor | GoogLeNetOutputs:
        """Return logits, with both auxiliary logits in training."""
        if self.transform_input:
            x = _half_centred(x)
        x = self.maxpool1(self.conv1(x))
        x = self.maxpool2(self.conv3(self.conv2(x)))
        x = self.maxpool3(self.inception3b(self.inception3a(x)))
        after_4a = self.inception4a(x)
        after_4d = self.inception4d(self.inception4c(self.inception4b(after_4a)))
        x = self.maxpool4(self.inception4e(after_4d))
        x = self.inception5b(self.inception5a(x))
        logits = self.fc(self.dropout(self.avgpool(x).flatten(1)))
        if not self.training:
            return logits
        return GoogLeNetOutputs(logits, self.aux2(after_4d), self.aux1(after_4a))


def _half_centred(x: Tensor) -> Tensor:
    """From (p - mean) / std of ImageNet to (p - 0.5) / 0.5, channel by channel."""
    red = x[:, 0:1] * (0.229 / 0.5) + (0.485 - 0.5) / 0.5
    green = x[:, 1:2] * (0.224 / 0.5) + (0.456 - 0.5) / 0.5
    blue = x[:, 2:3] * (0.225 / 0.5) + (0.406 - 0.5) / 0.5
    return torch.cat([red, green, blue], 1)


def build(name: str, **arguments: Any) -> GoogLeNet:
    """Build the variant `name` of `VARIANTS`."""
    return GoogLeNet(**VARIANTS[name], **arguments)
