"""VGG: stacks of 3x3 convolutions, as deep as they train.

Simonyan, Zisserman 2014 (https://arxiv.org/abs/1409.1556), configurations A, B, D and E; with batch norm as an option.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from .blocks import initialise, scaled

# Convolutions before each of the five poolings: table 1 of the paper.
DEPTHS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
CHANNELS = (64, 128, 256, 512, 512)

VARIANTS: dict[str, dict[str, Any]] = {
    f"vgg{depth}{'_bn' if norm else ''}": {"depths": depths, "batch_norm": norm}
    for depth, depths in DEPTHS.items()
    for norm in (False, True)
}


class VGG(nn.Module):
    """N x 3 x H x W -> N x num_classes; H and W at least 32, or 28 with the small stem.

    The small stem leaves out the first pooling and averages over what is left of the image
    instead of looking at a 7 x 7 grid of it; the first convolution has stride 1 anyway.
    """

    def __init__(
        self,
        depths: tuple[int, ...],
        batch_norm: bool,
        num_classes: int = 1000,
        stem: str = "paper",
        width: float = 1.0,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        small = stem == "small"
        grid, hidden = (1 if small else 7), scaled(4096, width)
        layers: list[nn.Module] = []
        channels = 3
        for stage, depth in enumerate(depths):
            out = scaled(CHANNELS[stage], width)
            for _ in range(depth):
                layers.append(nn.Conv2d(channels, out, 3, padding=1))
                layers.extend([nn.BatchNorm2d(out)] if batch_norm else [])
                layers.append(nn.ReLU(inplace=True))
                channels = out
            layers.append(nn.Identity() if small and stage == 0 else nn.MaxPool2d(2, 2))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(grid)
        self.classifier = nn.Sequential(
            nn.Linear(channels * grid * grid, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(hidden, num_classes),
        )
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


def build(name: str, **arguments: Any) -> VGG:
    """Build the variant `name` of `VARIANTS`."""
    return VGG(**VARIANTS[name], **arguments)
