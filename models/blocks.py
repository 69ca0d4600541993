"""The few blocks that more than one family uses."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def make_divisible(channels: float, divisor: int = 8) -> int:
    """Round to a multiple of `divisor`, never losing more than 10 % of the channels.

    Source: the MobileNet V2 reference code; EfficientNet's compound scaling uses the same rule.

    >>> make_divisible(19.2), make_divisible(11)
    (24, 16)
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def scaled(channels: int, width: float) -> int:
    """A channel count at another width: a multiple of 8, or unchanged at width 1."""
    return channels if width == 1 else make_divisible(channels * width)


class ConvNormAct(nn.Sequential):
    """Convolution without bias, batch norm, activation; padded so that stride 1 keeps the size.

    Shapes: N x in_channels x H x W -> N x out_channels x ceil(H / stride) x ceil(W / stride).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 3,
        stride: int = 1,
        groups: int = 1,
        norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
        act: Callable[[], nn.Module] | None = nn.ReLU,
    ) -> None:
        conv = nn.Conv2d(in_channels, out_channels, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False)
        super().__init__(conv, norm(out_channels), *([act()] if act else []))


class SqueezeExcitation(nn.Module):
    """Scale each channel by a gate computed from the mean of all channels (https://arxiv.org/abs/1709.01507).

    Shapes: N x channels x H x W, in and out.
    """

    def __init__(
        self,
        channels: int,
        squeezed: int,
        act: Callable[[], nn.Module] = nn.ReLU,
        gate: Callable[[], nn.Module] = nn.Sigmoid,
    ) -> None:
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)
        self.activation = act()
        self.scale_activation = gate()

    def forward(self, x: Tensor) -> Tensor:
        """Return x times its gate."""
        gate = self.fc2(self.activation(self.fc1(self.avgpool(x))))
        return x * self.scale_activation(gate)


class StochasticDepth(nn.Module):
    """Drop the residual branch of single images in training (https://arxiv.org/abs/1603.09382).

    The branch is divided by the probability to survive, so that nothing changes in evaluation.
    """

    def __init__(self, drop: float) -> None:
        super().__init__()
        self.drop = drop

    def forward(self, x: Tensor) -> Tensor:
        """Zero whole rows of N x C x H x W with probability `drop`; the identity in evaluation."""
        if not self.training or self.drop == 0:
            return x
        alive = torch.empty(x.shape[0], 1, 1, 1, dtype=x.dtype, device=x.device).bernoulli_(1 - self.drop)
        return x * (alive / (1 - self.drop))

    def extra_repr(self) -> str:
        """Show the probability."""
        return f"drop={self.drop:.3f}"


def last_norm(branch: nn.Module) -> nn.BatchNorm2d:
    """The batch norm that ends a residual branch."""
    return [part for part in branch.modules() if isinstance(part, nn.BatchNorm2d)][-1]


class Residual(nn.Module):
    """A block that adds a branch to its input."""

    def end(self) -> nn.BatchNorm2d | None:
        """The norm that ends the branch; None where nothing is added."""
        raise NotImplementedError


def zero_residuals(model: nn.Module) -> int:
    """Set the weight of the norm that ends each residual branch to 0, in place; how many there were.

    The network then begins as if it had no branches, which lets large batches train at once. Source: Goyal et al. 2017
    (https://arxiv.org/abs/1706.02677), section 5.1.
    """
    norms = [norm for block in model.modules() if isinstance(block, Residual) and (norm := block.end()) is not None]
    for norm in norms:
        nn.init.zeros_(norm.weight)
    return len(norms)


def initialise(model: nn.Module) -> None:
    """He initialisation of convolutions (fan-out), N(0, 0.01) of linear layers, identity norms, in place.

    Source: https://arxiv.org/abs/1502.01852, as the ResNet, VGG and MobileNet papers and their reference codes use it.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0, 0.01)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
        bias = getattr(module, "bias", None)
        if isinstance(bias, nn.Parameter):
            nn.init.zeros_(bias)
