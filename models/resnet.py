"""ResNet: layers learn what to add to their input.

He, Zhang, Ren, Sun 2015 (https://arxiv.org/abs/1512.03385). In the bottleneck the stride sits on the 3x3 convolution
("ResNet v1.5"), as in the published weights.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import Residual, initialise, scaled


class PadShortcut(nn.Module):
    """Option A of the paper (section 4.2): every second pixel, new channels zero, no parameters."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride, self.extra = stride, out_channels - in_channels

    def forward(self, x: Tensor) -> Tensor:
        """N x in x H x W -> N x out x H/stride x W/stride."""
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.extra))


class BasicBlock(Residual):
    """Two 3x3 convolutions (figure 5, left)."""

    expansion: ClassVar[int] = 1

    def __init__(self, in_channels: int, channels: int, stride: int, downsample: nn.Module | None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """Return relu(F(x) + shortcut(x))."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(x)) + shortcut)

    def end(self) -> nn.BatchNorm2d:
        """See Residual."""
        return self.bn2


class Bottleneck(Residual):
    """1x1 down, 3x3, 1x1 up by four (figure 5, right)."""

    expansion: ClassVar[int] = 4

    def __init__(self, in_channels: int, channels: int, stride: int, downsample: nn.Module | None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, channels * self.expansion, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels * self.expansion)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """Return relu(F(x) + shortcut(x))."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.relu(self.bn3(self.conv3(x)) + shortcut)

    def end(self) -> nn.BatchNorm2d:
        """See Residual."""
        return self.bn3


VARIANTS: dict[str, dict[str, Any]] = {  # table 1 of the paper
    "resnet18": {"block": BasicBlock, "depths": (2, 2, 2, 2)},
    "resnet34": {"block": BasicBlock, "depths": (3, 4, 6, 3)},
    "resnet50": {"block": Bottleneck, "depths": (3, 4, 6, 3)},
    "resnet101": {"block": Bottleneck, "depths": (3, 4, 23, 3)},
    "resnet152": {"block": Bottleneck, "depths": (3, 8, 36, 3)},
}


class ResNet(nn.Module):
    """N x 3 x H x W -> N x num_classes.

    Args:
        block: BasicBlock or Bottleneck.
        depths: how many blocks each of the four stages has.
        num_classes: the length of the logits.
        stem: "small" has a 3x3 stride-1 first convolution and no pooling, as the paper's CIFAR networks.
        shortcut: "projection" (a 1x1 convolution where the shape changes, option B) or "pad" (zeros, option A).
        width: multiplies every channel count.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: tuple[int, ...],
        num_classes: int = 1000,
        stem: str = "paper",
        shortcut: str = "projection",
        width: float = 1.0,
    ) -> None:
        super().__init__()
        if shortcut not in ("projection", "pad"):
            raise ValueError(f'shortcut must be "projection" or "pad", got "{shortcut}"')
        small = stem == "small"
        self._shortcut = shortcut
        self._channels = scaled(64, width)
        kernel, stride = (3, 1) if small else (7, 2)
        self.conv1 = nn.Conv2d(3, self._channels, kernel, stride, kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(self._channels)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.Identity() if small else nn.MaxPool2d(3, 2, 1)
        self.layer1 = self._stage(block, scaled(64, width), depths[0], stride=1)
        self.layer2 = self._stage(block, scaled(128, width), depths[1], stride=2)
        self.layer3 = self._stage(block, scaled(256, width), depths[2], stride=2)
        self.layer4 = self._stage(block, scaled(512, width), depths[3], stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(self._channels, num_classes)
        initialise(self)

    def _stage(
        self, block: type[BasicBlock] | type[Bottleneck], channels: int, depth: int, stride: int
    ) -> nn.Sequential:
        out = channels * block.expansion
        downsample: nn.Module | None = None
        if stride != 1 or self._channels != out:
            if self._shortcut == "pad":
                downsample = PadShortcut(self._channels, out, stride)
            else:
                projection = nn.Conv2d(self._channels, out, 1, stride, bias=False)
                downsample = nn.Sequential(projection, nn.BatchNorm2d(out))
        first = block(self._channels, channels, stride, downsample)
        self._channels = out
        return nn.Sequential(first, *(block(out, channels, 1, None) for _ in range(depth - 1)))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x).flatten(1))


def build(name: str, **arguments: Any) -> ResNet:
    """Build the variant `name` of `VARIANTS`."""
    return ResNet(**VARIANTS[name], **arguments)
