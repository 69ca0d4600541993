"""int8 of users' own models: an odd layer stays float or gives its row an error, never a traceback."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from conftest import tiny_model
from torch import Tensor, nn
from zoo.calibration.qat import FakeQuantised, QatOptions
from zoo.errors import IntegrityError, UsageError
from zoo.exporter.artifact.folder import load_artifact
from zoo.exporter.backends.infos import rules_of
from zoo.exporter.backends.options import ExportOptions
from zoo.exporter.export import export
from zoo.exporter.quantize.options import Int8Options
from zoo.exporter.quantize.plan import parse_plan
from zoo.models.data.dataset import Dataset
from zoo.models.runs import Learned
from zoo.models.sources import Model
from zoo.models.training.recipe import load_recipe

INT8 = ExportOptions("int8")
QUICK = Int8Options(images=40, never_slower=False)


class Mean(nn.Module):
    """A mean over height and width without keepdim, which becomes a pool and a flatten."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.norm(self.conv(x))).mean((2, 3)))


class Attention(nn.Module):
    """Tensors whose dimension 1 is the batch, and operators that the exporter takes apart."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.norm = nn.Conv2d(3, 16, 8, 8), nn.LayerNorm(16)
        self.attend, self.head = nn.MultiheadAttention(16, 2, batch_first=True), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patch(x).flatten(2).transpose(1, 2)
        seen = self.norm(tokens)
        return self.head((tokens + self.attend(seen, seen, seen, need_weights=False)[0]).mean(1))


def head(channels: int = 8) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10)]


def stranger(module: nn.Module) -> Model:
    return replace(tiny_model(), module=module.eval(), meaningful=False, weights="random, seed 0")


def exported(module: nn.Module, backend: str, data: Dataset, out: Path):
    torch.manual_seed(0)
    (row,) = export(stranger(module), backend, INT8, out=out, data=data, int8=QUICK)
    return row


@pytest.mark.parametrize("make", [Mean, Attention])
def test_odd_tensors_export_to_onnx(make: type[nn.Module], few_digits: Dataset, tmp_path: Path) -> None:
    torch.manual_seed(0)
    row = exported(make(), "onnx", few_digits, tmp_path)
    assert row.error is None, row.error
    assert "int8" in {layer.precision for layer in load_artifact(row.folder).manifest.plan}


@pytest.mark.parametrize(
    "layers",
    [
        [nn.Conv2d(3, 8, 3, 2, 1), nn.PReLU(8), nn.Conv2d(8, 8, 3, 2, 1), *head()],
        [nn.Conv2d(3, 8, 3, 2, "valid"), nn.ReLU(), *head()],
        [nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.ConvTranspose2d(8, 8, 3), *head()],
    ],
)
def test_what_torch_cannot_convert_is_an_error_of_its_row(
    layers: list[nn.Module], few_digits: Dataset, tmp_path: Path
) -> None:
    row = exported(nn.Sequential(*layers), "torchscript", few_digits, tmp_path)
    assert row.error is None or (isinstance(row.error, UsageError) and "export int8 to onnx" in row.error.fix)
    row = exported(nn.Sequential(*layers), "onnx", few_digits, tmp_path)
    assert row.error is None or "at least 50% must be" in str(row.error), "a transposed convolution stays float"


def test_norms_without_statistics_and_with_a_cumulative_average_are_trained() -> None:
    plain = nn.BatchNorm2d(8, track_running_stats=False)
    module = nn.Sequential(nn.Conv2d(3, 8, 3), plain, nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8, momentum=None), *head())
    made = FakeQuantised(module.eval(), (3, 12, 12), QatOptions(), rules_of("onnx")).train()
    before = made.graph.state_dict()["3.running_mean"].clone()
    made(torch.randn(4, 3, 12, 12)).sum().backward()
    assert not torch.equal(made.graph.state_dict()["3.running_mean"], before), "it does not stand still"
    assert torch.isfinite(made.eval()(torch.randn(4, 3, 12, 12))).all()


@pytest.mark.parametrize(
    "change",
    [
        {"ranges": {}},
        {"ranges": {"x": (math.nan, 1.0)}},
        {"ranges": {"x": (1.0, 2.0)}},
        {"ranges": {"x": (1.0, -1.0)}},
        {"ranges": {"x": (0.0, math.inf)}},
        {"bits": 3},
        {"accuracy": math.nan},
    ],
)
def test_learned_ranges_that_cannot_be_are_refused(change: dict) -> None:
    with pytest.raises(ValueError, match="learned"):
        Learned(**{"target": "onnx", "bits": 8, "ranges": {"x": (0.0, 1.0)}, "accuracy": 0.5, **change})


def test_learned_ranges_of_another_model_are_refused(few_digits: Dataset, tmp_path: Path) -> None:
    model = replace(tiny_model(), learned=Learned("onnx", 8, {"nowhere": (0.0, 1.0)}, 0.5))
    with pytest.raises(IntegrityError, match="nowhere"):
        export(model, "onnx", INT8, out=tmp_path, data=few_digits, int8=QUICK)


def test_plans_are_read_before_the_calibration_and_typed(few_digits: Dataset, tmp_path: Path) -> None:
    good = {
        "options": {"int8": {"method": "minmax", "bias_correction": False, "weight_bits": 8}},
        "plan": [{"name": "a", "precision": "int8", "reason": ""}],
    }
    path = tmp_path / "artifact.json"
    path.write_text(json.dumps(good))
    choice, layers = parse_plan(path)
    assert (choice.method, layers) == ("minmax", {"a"})
    for key, value in (("weight_bits", 64), ("weight_bits", None), ("bias_correction", "no"), ("method", "guess")):
        wrong = {**good, "options": {"int8": {**good["options"]["int8"], key: value}}}
        path.write_text(json.dumps(wrong))
        with pytest.raises(UsageError, match="holds no int8 plan"):
            export(tiny_model(), "onnx", INT8, out=tmp_path / "o", data=few_digits, int8=Int8Options(plan=path))
    path.write_text(json.dumps({**good, "plan": good["plan"] * 2}))
    with pytest.raises(UsageError, match="each layer once"):
        parse_plan(path)


def test_a_users_file_in_the_way_is_found_before_the_calibration(few_digits: Dataset, tmp_path: Path) -> None:
    mine = tmp_path / "resnet18" / "onnx-int8" / "mine.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(UsageError, match="another --out"):
        export(tiny_model(), "onnx", INT8, out=tmp_path, data=few_digits, int8=QUICK)
    assert mine.read_text() == "mine"


def test_an_overwriting_that_was_interrupted_twice_keeps_the_finished_run(trained: Path, few_digits: Dataset) -> None:
    from zoo.models.runs import claim, restore_replaced

    weights = (trained / "weights.safetensors").read_bytes()
    claim(trained, resume=False, overwrite=True)
    (trained / "checkpoint.safetensors").write_bytes(b"of the first attempt")  # and then it was killed
    claim(trained, resume=False, overwrite=True)
    restore_replaced(trained)  # the second one came to nothing before its first checkpoint
    assert (trained / "weights.safetensors").read_bytes() == weights
    assert load_recipe("qat").epochs == 2
