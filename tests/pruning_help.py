"""Tiny networks with the layers and the operations that pruning meets outside the usual families."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CLASSES = 5


class Net(nn.Module):
    """A convolution, what is between, a convolution, and the last layer."""

    def __init__(self, between: nn.Module, outputs: int = 32, inputs: int = 32) -> None:
        super().__init__()
        self.first, self.between = nn.Conv2d(3, outputs, 3, padding=1), between
        self.second, self.last = nn.Conv2d(inputs, 32, 3, padding=1), nn.Linear(32, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        return self.last(F.relu(self.second(self.between(self.first(images)))).mean((2, 3)))


class Called(nn.Module):
    """An operation that is written in a forward."""

    def __init__(self, operation) -> None:
        super().__init__()
        self.operation = operation

    def forward(self, images: Tensor) -> Tensor:
        return self.operation(images)


class ChannelsLast(nn.Module):
    """A norm over the channels, which it wants last."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, images: Tensor) -> Tensor:
        return self.norm(images.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Scaled(nn.Module):
    """A parameter of a user's own, one value a channel."""

    def __init__(self, value: float = 1.5) -> None:
        super().__init__()
        self.scale = nn.Parameter(value * (1 + torch.rand(1, 32, 1, 1)))

    def forward(self, images: Tensor) -> Tensor:
        return images * self.scale


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(32, 4, batch_first=True)

    def forward(self, images: Tensor) -> Tensor:
        tokens = images.flatten(2).transpose(1, 2)
        return self.attention(tokens, tokens, tokens)[0].transpose(1, 2).unflatten(2, images.shape[2:])


def shuffled(images: Tensor) -> Tensor:
    """Mix four groups of channels, as ShuffleNet does, by numbers that fit any width."""
    return images.unflatten(1, (4, images.shape[1] // 4)).transpose(1, 2).flatten(1, 2)


def made_for_32(images: Tensor) -> Tensor:
    if images.shape[1] != 32:
        raise RuntimeError(f"32 channels, not {images.shape[1]}")
    return images


NARROWED = {
    "group norm": lambda: Net(nn.GroupNorm(8, 32)),
    "layer norm and PReLU": lambda: Net(nn.Sequential(ChannelsLast(nn.LayerNorm(32)), nn.PReLU(32))),
    "RMS norm": lambda: Net(ChannelsLast(nn.RMSNorm(32))),
    "instance norm": lambda: Net(nn.InstanceNorm2d(32, affine=True)),
    "own parameter": lambda: Net(Scaled()),
    "transposed": lambda: Net(nn.ConvTranspose2d(32, 16, 2, 2), inputs=16),
    "transposed depthwise": lambda: Net(nn.ConvTranspose2d(32, 32, 2, 2, groups=32)),
    "attention": lambda: Net(Attention()),
    "frozen": lambda: Net(nn.ReLU()).requires_grad_(False),
    "unfold": lambda: Net(Called(lambda images: F.unfold(images, 2, stride=2).unflatten(2, (4, 4))), inputs=128),
}

KEPT = {
    "pixel shuffle": (lambda: Net(nn.PixelShuffle(2), inputs=8), r"second \(Conv2d\) has 8 channels where 32 come"),
    "pixel unshuffle": (lambda: Net(nn.PixelUnshuffle(2), inputs=128), "not interchangeable"),
    "channel shuffle": (lambda: Net(Called(shuffled)), "not interchangeable"),
    "gated": (lambda: Net(nn.GLU(1), outputs=64), r"has 32 channels where 64 come"),
    "swapped halves": (
        lambda: Net(Called(lambda images: torch.cat(images.chunk(2, 1)[::-1], 1))),
        "coupled with each other",
    ),
    "transposed in groups": (
        lambda: Net(nn.ConvTranspose2d(32, 16, 2, 2, groups=4), inputs=16),
        r"between \(ConvTranspose2d\) convolves in groups",
    ),
    "weight norm": (lambda: _weight_normed(), r"first \(ParametrizedConv2d\) computes its weight"),
    "a forward that counts": (
        lambda: Net(Called(made_for_32)),
        r"does not run: between \(Called\): RuntimeError: 32 channels, not 16",
    ),
}


def _weight_normed() -> nn.Module:
    net = Net(nn.ReLU())
    nn.utils.parametrizations.weight_norm(net.first)
    return net
