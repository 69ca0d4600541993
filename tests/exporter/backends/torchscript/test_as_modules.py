"""int8 TorchScript of layers that are no plain modules: right, or in float with the reason."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from calibration_help import calibrated, images
from torch import nn
from torch.nn.utils import parametrizations
from zoo.calibration.choice import Choice
from zoo.exporter.backends.eager.runner import layers_run
from zoo.exporter.backends.graph.layers import list_layers
from zoo.exporter.backends.torchscript.as_modules import as_modules, layer_paths
from zoo.exporter.backends.torchscript.int8 import kept_modules, render, why_float
from zoo.models.weights import random_statistics

SEVEN = Choice("percentile", bias_correction=True, weight_bits=7)  # 8 bits saturate on some CPUs


def tail(channels: int = 8) -> list[nn.Module]:
    return [
        nn.Conv2d(channels, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, 10),
    ]  # fmt: skip


class Same(nn.Conv2d):
    """As networks that came from TensorFlow pad."""

    def forward(self, x):  # pyright: ignore[reportIncompatibleMethodOverride]
        return F.conv2d(F.pad(x, [0, 1, 0, 1]), self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


class Standardised(nn.Conv2d):
    def forward(self, x):  # pyright: ignore[reportIncompatibleMethodOverride]
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        weight = weight / (weight.std((1, 2, 3), keepdim=True) + 1e-5)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(8, 3, 3, 3) * 0.3), nn.Parameter(torch.randn(8))
        self.tail, self.last = nn.Sequential(*tail()), nn.Parameter(torch.randn(10, 10))

    def forward(self, x):
        return F.linear(F.relu(self.tail(F.relu(F.conv2d(x, self.weight, self.bias, 2, 1)))), self.last)


class FromImages(nn.Module):
    """A convolution whose weights the images change."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.mixed = nn.Conv2d(3, 8, 3, 2), nn.Parameter(torch.randn(2, 8, 8, 3, 3) * 0.2)
        self.tail = nn.Sequential(*tail())

    def forward(self, x):
        x = F.relu(self.conv(x))
        return self.tail(F.relu(F.conv2d(x, self.mixed[0] * x.mean().sigmoid() + self.mixed[1], None, 1, 1)))


def same() -> nn.Module:
    first = [Same(3, 8, 3, 2, bias=False), nn.BatchNorm2d(8), nn.ReLU6()]
    return nn.Sequential(*first, Same(8, 8, 3, 2, groups=8, bias=False), nn.BatchNorm2d(8), nn.ReLU6(), *tail())


def zero_padded() -> nn.Module:
    pads = nn.ZeroPad2d((0, 1, 0, 1)), nn.ZeroPad2d((0, 1, 0, 1))
    return nn.Sequential(pads[0], nn.Conv2d(3, 8, 3, 2), nn.ReLU6(), pads[1], nn.Conv2d(8, 8, 3, 2), nn.ReLU(), *tail())


def otherwise_padded() -> nn.Module:
    first = [nn.ConstantPad2d(1, 2.5), nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.ReflectionPad2d(1), nn.Conv2d(8, 8, 3)]
    return nn.Sequential(*first, nn.ReLU(), nn.Conv2d(8, 8, 3, 1, "same"), nn.ReLU(), *tail())


def standardised() -> nn.Module:
    return nn.Sequential(Standardised(3, 8, 3, 2, 1), nn.ReLU(), Standardised(8, 8, 3), nn.ReLU(), *tail())


def weight_normed() -> nn.Module:
    first = parametrizations.weight_norm(nn.Conv2d(3, 8, 3, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.Sequential(first, nn.ReLU(), nn.utils.weight_norm(nn.Conv2d(8, 8, 3)), nn.ReLU(), *tail())


def activations() -> nn.Module:
    first = [nn.Conv2d(3, 8, 3, 2), nn.PReLU(8), nn.Conv2d(8, 8, 3), nn.ELU(), nn.Conv2d(8, 8, 1), nn.LeakyReLU(0.1)]
    return nn.Sequential(*first, nn.Conv2d(8, 8, 1), nn.SiLU(), *tail())


def transposed() -> nn.Module:
    first = [nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.ConvTranspose2d(8, 8, 2, 2), nn.ReLU()]
    return nn.Sequential(*first, nn.Conv2d(8, 8, 3, 1, 1, padding_mode="replicate"), nn.ReLU(), *tail())


CASES = {  # layers in float, by their place
    same: (), zero_padded: (), otherwise_padded: (), standardised: (), Functional: (), weight_normed: (),
    activations: (2,), transposed: (1, 2), FromImages: (1,),
}  # fmt: skip


@pytest.mark.parametrize("make", CASES)
def test_int8_of_it_answers_like_the_float_model(make) -> None:
    torch.manual_seed(0)
    module = make().eval()
    random_statistics(module, (3, 32, 32), seed=1)
    made = calibrated(module)
    quantised = render(made, SEVEN)
    batch = torch.from_numpy(images(16, 1))
    with torch.inference_mode():
        reference = module(batch)
        assert float((quantised(batch) - reference).norm() / reference.norm()) < 0.1
    ran = layers_run(lambda: quantised(batch))
    assert ran == ["fp32" if index in CASES[make] else "int8" for index in range(len(list_layers(made.graph)))]
    why = why_float(made)
    for layer, precision in zip(list_layers(made.graph), ran, strict=True):
        assert precision == "int8" or len(why(layer.name)) > 20


def test_the_reasons_why_layers_stay_float() -> None:
    made = calibrated(transposed().eval())
    told = [why_float(made)(layer.name) for layer in list_layers(made.graph)]
    assert "one scale for all channels" in told[1]
    assert "no such padding" in told[2]
    made = calibrated(FromImages().eval())
    assert why_float(made)(list_layers(made.graph)[1].name) == "its weights are computed from the images"


def test_any_layer_can_be_kept_in_float() -> None:
    for make in (Functional, standardised):
        made = calibrated(make().eval())
        layers = list_layers(made.graph)
        kept = Choice(keep={layers[0].name: "first", layers[-1].name: "last"}, weight_bits=7)
        assert len(kept_modules(made, kept)) == 2
        quantised = render(made, kept)
        ran = layers_run(lambda quantised=quantised: quantised(torch.from_numpy(images(2))))
        assert ran == ["fp32", *["int8"] * (len(layers) - 2), "fp32"]


def test_layers_become_modules_that_compute_the_same_and_the_users_module_is_left_alone() -> None:
    for make in (Functional, standardised, same, weight_normed, FromImages):
        module = make().eval()
        before = {name: value.clone() for name, value in module.state_dict().items()}
        made, batch = as_modules(module), torch.from_numpy(images(2))
        with torch.no_grad():
            assert torch.allclose(made(batch), module(batch), atol=1e-5)
        assert {name: torch.equal(value, before[name]) for name, value in module.state_dict().items()} == dict.fromkeys(
            before, True
        )


def test_layers_of_both_graphs_are_paired() -> None:
    made = calibrated(Functional().eval())
    graph = as_modules(made.module)
    paths = layer_paths(graph, made)
    assert list(paths) == [layer.name for layer in list_layers(made.graph)]
    assert [type(graph.get_submodule(path)) for path in paths.values()] == [nn.Conv2d, nn.Conv2d, nn.Linear, nn.Linear]
    assert np.prod(graph.get_submodule(next(iter(paths.values()))).weight.shape) == 8 * 27
