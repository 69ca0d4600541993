"""Additions are moved into convolutions where nothing reads the memory that the sum is written to, and else are not."""

from __future__ import annotations

import copy
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from calibration_help import calibrated_model, images
from torch import Tensor, fx, nn
from torch.ao.quantization import get_default_qconfig_mapping
from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx
from zoo.calibration.choice import Choice
from zoo.calibration.engine import quantised_engine
from zoo.errors import UnavailableError, UsageError
from zoo.exporter.backends.graph.layers import list_layers
from zoo.exporter.backends.torchscript import additions
from zoo.exporter.backends.torchscript import int8 as target
from zoo.exporter.quantize.initial import suitable_bits
from zoo.exporter.timing.machine import cpu_flags

ONEDNN = pytest.mark.skipif(
    "onednn" not in torch.backends.quantized.supported_engines, reason="this torch has no engine onednn"
)


@pytest.fixture
def engine() -> Iterator[None]:
    with quantised_engine("onednn"), torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # quantize_fx is deprecated, and scales become constants
        yield


class Block(nn.Module):
    """A residual block around `body`, written the way its subclasses say."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.first = nn.Conv2d(8, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.last = nn.Conv2d(8, 4, 1)


class Plain(Block):
    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.last(self.second(self.first(x)) + x)


class Mirrored(Block):
    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.last(torch.relu(x + self.second(self.first(x))))


class ReadLater(Block):
    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.second(self.first(x)) + x
        return self.last(torch.cat([y, x], 1)[:, 4:12])


class OfItself(Block):
    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.last(self.second(x) + x)


class ReadByAnotherName(Block):
    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout()  # which gives the same tensor when it does nothing

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        same = self.drop(x)
        y = self.second(self.first(x)) + x
        return self.last(y + same)


class Pools(Block):
    def __init__(self) -> None:
        super().__init__()
        self.pool, self.pool2 = nn.MaxPool2d(3, 1, 1), nn.MaxPool2d(3, 1, 1)


class EqualPools(Pools):
    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        pooled = self.pool(x)
        y = self.second(self.first(x)) + pooled
        return self.last(y + self.pool2(x))


class EqualConvolutions(Block):
    def __init__(self) -> None:
        super().__init__()
        self.third = nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        one, other = self.third(x), self.third(x)
        return self.last(torch.cat([self.second(self.first(x)) + one, other], 1)[:, 4:12])


class EqualInputs(Pools):
    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        pooled = self.pool(x)
        return self.last(self.second(self.pool2(x)) + pooled)


class ChangedBetween(Block):
    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.first(x)
        z = self.second(y)
        y = nn.functional.relu(y, inplace=True)
        return self.last(z + x) + self.last(y)


class Doubled(Block):
    def forward(self, x: Tensor) -> Tensor:
        x = self.first(self.stem(x))
        return self.last(x + x)


class Shared(Block):
    def forward(self, x: Tensor) -> Tensor:
        x = self.first(self.stem(x))
        return self.last(self.first(x) + x)


class Reflected(Block):
    def __init__(self) -> None:
        super().__init__()
        self.second = nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect")

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.last(self.second(self.first(x)) + x)


class Broadcast(Block):
    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.last(self.second(self.first(x)) + nn.functional.adaptive_avg_pool2d(x, 1))


class LayerBetween(Block):
    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.first(x)
        z = self.last(x)
        return torch.cat([y + x, z], 1)


class FloatLayerBetween(Block):
    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.second(self.first(x))
        z = torch.matmul(x, x)
        return self.last(y + x) + self.last(z)


class GivenBack(Block):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.stem(x)
        return self.last(self.second(self.first(x)) + x), x


def converted(module: nn.Module) -> tuple[fx.GraphModule, Tensor]:
    torch.manual_seed(0)
    module = module.eval()
    sample = torch.randn(4, 3, 12, 12)
    prepared = prepare_fx(module, get_default_qconfig_mapping("onednn"), (sample,))
    prepared(sample)
    return convert_fx(prepared), sample


def tensors(given: Tensor | tuple[Tensor, ...]) -> list[Tensor]:
    return [one.clone() for one in (given if isinstance(given, tuple) else (given,))]


def differ(one: list[Tensor], other: list[Tensor]) -> float:
    return max(float((a - b).abs().max() / (a.max() - a.min())) for a, b in zip(one, other, strict=True))


@ONEDNN
@pytest.mark.parametrize("kind", [Plain, Mirrored])
def test_an_addition_is_moved_into_the_convolution_before_it(kind: type[Block], engine: None) -> None:
    module, sample = converted(kind())
    before = tensors(module(sample))
    assert additions.fuse_additions(module, sample) == 1
    assert not [node for node in module.graph.nodes if "quantized.add" in str(node.target)]
    assert differ(before, tensors(module(sample))) < 0.02, "up to a step of 8 bits"
    assert differ(before, tensors(module(sample))) < 0.02, "the second time as the first"


UNSAFE = [ReadLater, OfItself, ReadByAnotherName]
AS_A_FILE = [EqualPools, EqualConvolutions, EqualInputs]


@ONEDNN
@pytest.mark.parametrize(
    "kind",
    [
        *UNSAFE,
        *AS_A_FILE,
        ChangedBetween,
        Doubled,
        Shared,
        Reflected,
        Broadcast,
        LayerBetween,
        FloatLayerBetween,
        GivenBack,
    ],
)
def test_where_the_memory_is_read_or_has_another_shape_it_stays(kind: type[Block], engine: None) -> None:
    module, sample = converted(kind())
    before = tensors(module(sample))
    assert additions.fuse_additions(module, sample) == 0
    assert all(torch.equal(*pair) for pair in zip(before, tensors(module(sample)), strict=True))


@ONEDNN
@pytest.mark.parametrize("kind", AS_A_FILE)
def test_what_torchscript_calculates_once_is_one_memory(
    kind: type[Block], engine: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fused without looking at equal calculations, the file answers otherwise than the module it was traced from."""
    module, sample = converted(kind())
    before = tensors(module(sample))
    monkeypatch.setattr(additions, "equal_calculations", lambda _module: {})
    assert additions.fuse_additions(module, sample) >= 1
    assert differ(before, tensors(module(sample))) < 0.05
    frozen = torch.jit.freeze(torch.jit.trace(module, sample, check_trace=False).eval())
    assert max(differ(before, tensors(frozen(sample))) for _ in range(3)) > 0.05


@ONEDNN
def test_numbers_are_added_as_before(engine: None) -> None:
    class Numbers(Block):
        def forward(self, x: Tensor) -> Tensor:
            y = self.first(self.stem(x))
            return self.last(1.0 + (y + 3.0))

    module, sample = converted(Numbers())
    assert additions.fuse_additions(module, sample) == 0


@ONEDNN
@pytest.mark.parametrize("kind", UNSAFE)
def test_moved_there_all_the_same_the_numbers_would_be_wrong(
    kind: type[Block], engine: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, sample = converted(kind())
    before = tensors(module(sample))
    monkeypatch.setattr(
        additions, "_fits", lambda memory, _add, conv, other: type(memory.called(conv)) is additions.Conv2d
        and conv.name == "second" and other.name == "stem",
    )  # fmt: skip
    assert additions.fuse_additions(copy.deepcopy(module), sample) == 1
    additions.fuse_additions(module, sample)
    assert differ(before, tensors(module(sample))) > 0.05


@ONEDNN
@pytest.mark.parametrize(
    "name", ["resnet18", *(pytest.param(name, marks=pytest.mark.slow) for name in ("resnet50", "mobilenet_v2"))]
)
def test_networks_lose_all_their_additions(name: str, engine: None) -> None:
    model, made = calibrated_model(name)
    batch = torch.from_numpy(images(8, 1))
    reference = model.module(batch)
    bits = suitable_bits("torchscript", cpu_flags())
    apart = [target.render(made, Choice(weight_bits=bits)), target.render(made, Choice(fused=True, weight_bits=bits))]
    errors = [float((one(batch) - reference).norm() / reference.norm()) for one in apart]
    assert errors[1] < 1.2 * errors[0], "random weights amplify how kernels round: 1.12 on a CPU with VNNI"
    traced = torch.jit.freeze(torch.jit.trace(apart[1], batch[:2], check_trace=False).eval())
    assert torch.equal(traced(batch), apart[1](batch))
    kinds = Counter(node.kind() for node in traced.inlined_graph.nodes())
    count = sum(node.op_type == "Add" for node in made.graph.graph.node)
    assert kinds["quantized::conv2d_add"] + kinds["quantized::conv2d_add_relu"] == count
    assert not {"quantized::add", "quantized::add_relu"} & set(kinds)
    layers = sum(found for kind, found in kinds.items() if kind.startswith(("quantized::conv", "quantized::linear")))
    assert layers == len(list_layers(made.graph))


@ONEDNN
def test_layers_that_stay_float_keep_their_additions(engine: None) -> None:
    _, made = calibrated_model("resnet18")
    layers = [layer.name for layer in list_layers(made.graph)]
    quantised: Any = target.render(made, Choice(fused=True, keep=dict.fromkeys(layers[:-1], "")))
    assert not [node for node in quantised.graph.nodes if "conv2d_add" in str(node.target)]
    assert not [part for part in quantised.modules() if "ConvAdd" in type(part).__name__]


def test_the_engine_is_put_back_and_one_that_is_not_there_is_said() -> None:
    before = torch.backends.quantized.engine
    with pytest.raises(ZeroDivisionError), quantised_engine():
        assert torch.backends.quantized.engine != "none"
        raise ZeroDivisionError
    assert torch.backends.quantized.engine == before
    with pytest.raises(UnavailableError, match="no quantised engine abacus, only"), quantised_engine("abacus"):
        pass


def test_an_addition_with_a_factor_is_refused() -> None:
    class Factor(nn.Module):
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module

        def forward(self, x: Tensor) -> Tensor:
            x = self.module(x)
            return torch.add(x, x, alpha=2)

    _, made = calibrated_model("alexnet")
    with pytest.raises(UsageError, match="would lose the alpha"):
        target.render(replace(made, module=Factor(made.module).eval()), Choice())
