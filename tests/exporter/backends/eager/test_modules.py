"""What the torch-based runners do with a user's module: its input stays the caller's, its receipt is what ran."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from zoo.errors import UsageError
from zoo.exporter.backends.eager.modules import in_precision, run_once
from zoo.exporter.backends.eager.runner import TorchRunner, layers_run
from zoo.models.preprocess import Preprocess
from zoo.models.spec import ModelSpec

SPEC = ModelSpec("m", (3, 16, 16), Preprocess(crop=(16, 16), resize=16), ("a", "b", "c"))


class InPlace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)

    def forward(self, x):
        x.sub_(0.5).mul_(2)
        return self.fc(self.conv(x).mean((2, 3)))


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Parameter(torch.randn(4, 3, 3, 3)), nn.Parameter(torch.randn(3, 4))

    def forward(self, x):
        return F.linear(F.conv2d(x, self.conv).mean((2, 3)), self.fc)


def images(count: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 3, 16, 16)).astype(np.float32)


def scripted() -> nn.Module:
    return torch.jit.script(InPlace().eval())


def frozen() -> nn.Module:
    return torch.jit.freeze(torch.jit.trace(InPlace().eval(), torch.randn(2, 3, 16, 16)).eval())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", [InPlace, scripted, frozen])
def test_a_model_that_works_in_place_changes_neither_the_callers_images_nor_the_next_answer(make) -> None:
    batch, other = images(), images(seed=1)
    kept = batch.copy()
    with TorchRunner("runner", SPEC, make().eval(), "cpu") as runner:
        answers, others = runner.run(batch), runner.run(other)
        assert np.array_equal(runner.run(batch), answers)
        assert np.array_equal(batch, kept)
        runner.prepare(batch)
        for _ in range(3):
            runner.step()
        assert np.array_equal(runner.fetch(), answers)
        assert len(runner.time_steps(2)) == 2
        assert np.array_equal(runner.fetch(), answers)
        runner.upload(other)
        for _ in range(2):
            runner.step()
        assert np.array_equal(runner.fetch(), others)
        assert np.array_equal(batch, kept)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("make", [InPlace, Functional, scripted])
def test_the_receipt_counts_what_ran(make, precision) -> None:
    """Also of scripts, and of layers that are no modules."""
    with TorchRunner("runner", SPEC, in_precision(make().eval(), precision), "cpu") as runner:
        assert runner.receipt().layers == {precision: 2}


def test_a_layer_that_computes_in_another_type_is_seen() -> None:
    class Upcast(InPlace):
        def forward(self, x):
            return F.linear(self.conv(x).mean((2, 3)).float(), self.fc.weight.float())

    with TorchRunner("runner", SPEC, in_precision(Upcast().eval(), "bf16"), "cpu") as runner:
        assert runner.receipt().layers == {"bf16": 1, "fp32": 1}


class Table(nn.Module):
    """Its table is a plain tensor, which module.to(dtype) does not reach."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.table = nn.Conv2d(3, 4, 3), torch.randn(4, 3)

    def forward(self, x):
        return self.conv(x).mean((2, 3)) @ self.table


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_a_module_that_cannot_run_in_half_precision_is_refused_with_the_place(precision) -> None:
    with pytest.raises(UsageError, match=rf"m cannot run in {precision}: .*test_modules.py, line \d+") as raised:
        run_once(in_precision(Table().eval(), precision), SPEC, precision)
    assert "\n" not in str(raised.value)
    assert "buffers" in raised.value.fix


@pytest.mark.filterwarnings("ignore")
def test_an_integer_trace_that_divides_by_a_number_is_watched() -> None:
    """TorchScript's interpreter calls aten::item with the number itself there."""
    from torch.ao.quantization import get_default_qconfig_mapping
    from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

    class Halved(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(3, 4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (self.layer(x) / 2).mean((2, 3))

    images = torch.randn(2, 3, 8, 8)
    prepared = prepare_fx(Halved().eval(), get_default_qconfig_mapping("x86"), (images,))
    prepared(images)
    frozen = torch.jit.freeze(torch.jit.trace(convert_fx(prepared), images).eval())
    assert layers_run(lambda: frozen(images)) == ["int8"]
