from __future__ import annotations

import importlib
import subprocess
import sys

import pytest
import torch
from zoo.errors import UsageError
from zoo.models.googlenet import GoogLeNetOutputs
from zoo.models.registry import FAMILIES, MODELS, create_model


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.module)
def test_names_are_the_familys_variants(family) -> None:
    module = importlib.import_module(f"zoo.models.{family.module}")
    assert set(family.variants) == set(module.VARIANTS)
    assert family.paper in (module.__doc__ or ""), "the file names its paper"


@pytest.mark.parametrize("size", [28, 32, 64])
@pytest.mark.parametrize("name", MODELS)
def test_small_stem_sees_small_images(name: str, size: int) -> None:
    if size != 32 and name not in {next(iter(family.variants)) for family in FAMILIES}:
        pytest.skip("one of each family suffices at the other sizes")
    width = 0.25 if not name.startswith("efficientnet_b") else 0.125
    model = create_model(name, num_classes=7, stem="small", width=width)
    seen: list[torch.Size] = []
    pools = [part for part in model.modules() if isinstance(part, torch.nn.AdaptiveAvgPool2d)]
    last = model.avgpool if hasattr(model, "avgpool") else pools[-1]
    last.register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0].shape))
    assert model.eval()(torch.randn(2, 3, size, size)).shape == (2, 7)
    least = 1 if name.startswith("vgg") and size == 28 else 2  # four poolings of 28
    assert min(seen[0][2:]) >= least, f"only {tuple(seen[0][2:])} pixels are left before the pooling"


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_padding_shortcut_has_no_parameters(name: str) -> None:
    model = create_model(name, num_classes=3, shortcut="pad", width=0.25)
    assert not [key for key in model.state_dict() if "downsample" in key]
    assert model.eval()(torch.randn(1, 3, 64, 64)).shape == (1, 3)


def test_padding_shortcut_keeps_every_second_pixel_and_adds_zeros() -> None:
    from zoo.models.resnet import PadShortcut

    x = torch.arange(2 * 2 * 4 * 4.0).reshape(2, 2, 4, 4)
    y = PadShortcut(2, 5, 2)(x)
    assert y.shape == (2, 5, 2, 2)
    assert torch.equal(y[:, :2], x[:, :, ::2, ::2])
    assert not y[:, 2:].any()


def test_googlenet_has_auxiliary_heads_in_training_only() -> None:
    model = create_model("googlenet", num_classes=4, stem="small", width=0.25)
    images = torch.randn(2, 3, 32, 32)
    outputs = model.train()(images)
    assert isinstance(outputs, GoogLeNetOutputs)
    assert [tuple(head.shape) for head in outputs] == [(2, 4)] * 3
    assert isinstance(model.eval()(images), torch.Tensor)


def test_stochastic_depth_keeps_the_mean_and_drops_rows() -> None:
    from zoo.models.blocks import StochasticDepth

    torch.manual_seed(0)
    layer = StochasticDepth(0.25)
    y = layer.train()(torch.ones(4000, 1, 1, 1)).flatten()
    assert y.unique().tolist() == pytest.approx([0, 4 / 3])
    assert float(y.mean()) == pytest.approx(1, abs=0.05)
    assert torch.equal(layer.eval()(y), y)


def test_rounding_never_loses_more_than_ten_percent() -> None:
    from hypothesis import given
    from hypothesis import strategies as st
    from zoo.models.blocks import make_divisible

    @given(st.floats(8, 5000), st.sampled_from([4, 8, 16]))
    def holds(channels: float, divisor: int) -> None:
        rounded = make_divisible(channels, divisor)
        assert rounded % divisor == 0
        assert 0.9 * channels <= rounded <= channels + divisor

    holds()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "resnet19"}, 'did you mean "resnet18"'),
        ({"name": "resnet18", "stem": "tiny"}, "one of paper, small"),
        ({"name": "resnet18", "num_classes": 0}, "at least 1"),
        ({"name": "resnet18", "shortcut": "zero"}, "projection"),
        ({"name": "vgg11", "shortcut": "pad"}, "shortcut"),
    ],
)
def test_wrong_arguments_name_the_right_ones(arguments: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        create_model(arguments.pop("name"), **arguments)


def test_listing_models_imports_no_torch() -> None:
    code = "import sys, zoo.models.registry; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
