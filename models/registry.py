"""The models that are written here: name -> family, without importing torch.

A family is one file. It holds `build(name, num_classes=..., stem=..., **arguments)` and the table of its variants;
the names below are a copy of those tables' keys that `zoo list` can show without torch, and a test compares the two.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..config import near
from ..errors import UsageError

if TYPE_CHECKING:
    from torch import nn

STEMS = ("paper", "small")
SMALL_INPUT = 64  # up to this many pixels the paper's stem would leave nothing to see


@dataclass(frozen=True)
class Family:
    """One architecture file and its variants: name -> the input size of its paper or its published weights."""

    module: str
    title: str
    paper: str
    variants: dict[str, int]


def _sized(size: int, *names: str) -> dict[str, int]:
    return dict.fromkeys(names, size)


FAMILIES = (
    Family("alexnet", "AlexNet", "https://arxiv.org/abs/1404.5997", _sized(224, "alexnet")),
    Family(
        "vgg",
        "VGG",
        "https://arxiv.org/abs/1409.1556",
        _sized(224, *(f"vgg{depth}{bn}" for depth in (11, 13, 16, 19) for bn in ("", "_bn"))),
    ),
    Family("googlenet", "GoogLeNet", "https://arxiv.org/abs/1409.4842", _sized(224, "googlenet")),
    Family(
        "resnet",
        "ResNet",
        "https://arxiv.org/abs/1512.03385",
        _sized(224, *(f"resnet{depth}" for depth in (18, 34, 50, 101, 152))),
    ),
    Family("mobilenet_v1", "MobileNet V1", "https://arxiv.org/abs/1704.04861", _sized(224, "mobilenet_v1")),
    Family("mobilenet_v2", "MobileNet V2", "https://arxiv.org/abs/1801.04381", _sized(224, "mobilenet_v2")),
    Family(
        "mobilenet_v3",
        "MobileNet V3",
        "https://arxiv.org/abs/1905.02244",
        _sized(224, "mobilenet_v3_small", "mobilenet_v3_large"),
    ),
    Family(
        "efficientnet",
        "EfficientNet",
        "https://arxiv.org/abs/1905.11946",
        {f"efficientnet_b{i}": size for i, size in enumerate((224, 240, 260, 300, 380, 456, 528, 600))},
    ),
)

MODELS: dict[str, Family] = {name: family for family in FAMILIES for name in family.variants}


def find(name: str) -> Family:
    """The family of a model. Raises UsageError with the nearest name when there is none."""
    if name not in MODELS:
        raise UsageError(f'unknown model "{name}"{near(name, MODELS)}', fix="`zoo list models` shows all names")
    return MODELS[name]


def native_size(name: str) -> int:
    """Height and width, in pixels, that the model was published for."""
    return find(name).variants[name]


def stem_for(size: int) -> str:
    """The stem that leaves something to see: "small" up to 64 pixels, else "paper"."""
    return "small" if size <= SMALL_INPUT else "paper"


def create_model(name: str, *, num_classes: int = 1000, stem: str = "paper", **arguments: Any) -> nn.Module:
    """Build one of zoo's own models with freshly initialised weights.

    Args:
        name: a name of `zoo list models`, such as "resnet18".
        num_classes: the length of the logits.
        stem: "paper", or "small" for images of 28 to 64 pixels (stride-1 first convolution, no early pooling).
        **arguments: what the family takes besides, such as `width=0.5` or ResNet's `shortcut="pad"`.

    Returns:
        A module that takes float32 N x 3 x H x W and gives logits N x num_classes.

    Raises:
        UsageError: unknown name, stem or argument.
    """
    family = find(name)
    if stem not in STEMS:
        raise UsageError(f'unknown stem "{stem}"{near(stem, STEMS)}', fix=f"one of {', '.join(STEMS)}")
    if not isinstance(num_classes, int) or num_classes < 1:
        raise UsageError(f"num_classes must be at least 1, got {num_classes}")
    module = importlib.import_module(f".{family.module}", __package__)
    try:
        return module.build(name, num_classes=num_classes, stem=stem, **arguments)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{name} cannot be built with {arguments}", fix=str(error)) from error
