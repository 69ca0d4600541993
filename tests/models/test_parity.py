"""Every variant that torchvision has: its state dict loads strictly, and the logits are the same."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from zoo.models.registry import MODELS, create_model

IN_TORCHVISION = [name for name in MODELS if name != "mobilenet_v1"]
LARGE = [name for name in IN_TORCHVISION if name.startswith("vgg") and name != "vgg11_bn"]  # seconds each
LIMIT = 1e-4  # of the spread of the logits


def live(module: nn.Module, size: int) -> nn.Module:
    """Statistics of one train-mode pass over noise: untrained in eval mode every comparison would be blind."""
    torch.manual_seed(0)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = None
    with torch.no_grad():
        module.train()(torch.randn(8, 3, size, size))
    return module.eval()


@pytest.mark.parametrize(
    "name", [pytest.param(one, marks=pytest.mark.slow if one in LARGE else ()) for one in IN_TORCHVISION]
)
@pytest.mark.filterwarnings("ignore")
def test_same_logits_as_torchvision(name: str) -> None:
    from torchvision.models import get_model

    arguments = {"init_weights": True, "transform_input": True} if name == "googlenet" else {}
    size = 64 if name != "alexnet" else 96
    theirs = live(get_model(name, weights=None, **arguments), size)
    ours = create_model(name, **({"transform_input": True} if name == "googlenet" else {})).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    images = torch.randn(3, 3, size, size)
    with torch.inference_mode():
        expected, got = theirs(images), ours(images)
    spread = float(expected.max() - expected.min())
    assert spread > 1e-3, "the reference is mute: the comparison would be blind"
    assert float(expected.std(0).max()) > 10 * LIMIT * spread, "different images must give different answers"
    assert float((expected - got).abs().max()) <= LIMIT * spread


def test_a_planted_fault_shows() -> None:
    """One residual connection left out, and the comparison above must notice."""
    model = live(create_model("resnet18"), 64)
    images = torch.randn(3, 3, 64, 64)
    with torch.inference_mode():
        before = model(images)
        model.layer2[1].bn2.weight.mul_(1.05)
        after = model(images)
    assert float((before - after).abs().max()) > 10 * LIMIT * float(before.max() - before.min())


def test_mobilenet_v1_has_the_papers_parameters() -> None:
    assert sum(p.numel() for p in create_model("mobilenet_v1").parameters()) == 4_231_976
