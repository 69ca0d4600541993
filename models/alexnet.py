"""AlexNet: five convolutions, three linear layers.

Krizhevsky, Sutskever, Hinton 2012 (https://papers.nips.cc/paper/4824), in the one-tower form of
Krizhevsky 2014 (https://arxiv.org/abs/1404.5997), which is the one that has published weights.
"""

from __future__ import annotations

from torch import Tensor, nn

from .blocks import initialise, scaled

VARIANTS = {"alexnet": {}}


class AlexNet(nn.Module):
    """N x 3 x H x W -> N x num_classes; H and W at least 63, or 28 with the small stem.

    The small stem has a 3x3 stride-1 first convolution, no first pooling, and averages over what is left
    of the image instead of looking at a 6 x 6 grid of it.
    """

    def __init__(self, num_classes: int = 1000, stem: str = "paper", width: float = 1.0, dropout: float = 0.5) -> None:
        super().__init__()
        small = stem == "small"
        c1, c2, c3, c4, hidden = (scaled(channels, width) for channels in (64, 192, 384, 256, 4096))
        grid = 1 if small else 6
        self.features = nn.Sequential(
            nn.Conv2d(3, c1, 3, padding=1) if small else nn.Conv2d(3, c1, 11, stride=4, padding=2),
            nn.ReLU(inplace=True),
            nn.Identity() if small else nn.MaxPool2d(3, 2),
            nn.Conv2d(c1, c2, 5, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(c2, c3, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(c3, c4, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(c4, c4, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2),
        )
        self.avgpool = nn.AdaptiveAvgPool2d(grid)
        self.classifier = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(c4 * grid * grid, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, num_classes),
        )
        initialise_plain(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


def initialise_plain(model: nn.Module) -> None:
    """He initialisation by fan-in everywhere: without batch norm, activations must keep their size by themselves."""
    initialise(model)
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")


def build(name: str, **arguments: object) -> AlexNet:
    """Build the variant `name` of `VARIANTS`."""
    return AlexNet(**VARIANTS[name], **arguments)  # pyright: ignore[reportArgumentType]
