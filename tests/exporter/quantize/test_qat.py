"""`zoo train --qat`: from a run to a run whose int8 export is what was trained."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from zoo.errors import UsageError
from zoo.exporter.artifact.folder import load_artifact
from zoo.exporter.artifact.manifest import Batch
from zoo.exporter.backends.options import ExportOptions
from zoo.exporter.export import export
from zoo.exporter.quantize.initial import starting_choice
from zoo.exporter.quantize.options import Int8Options
from zoo.exporter.quantize.qat import qat_recipe
from zoo.exporter.train import Asked, set_up
from zoo.models.data.dataset import Dataset
from zoo.models.runs import Learned, read_run
from zoo.models.sources import resolve
from zoo.models.training.loop import Watcher, train
from zoo.models.training.recipe import Recipe

SHORT = {"epochs": 2, "batch_size": 50}


def asked(folder: Path, **more: object) -> Asked:
    return Asked(**{"source": str(folder), "values": SHORT, "qat": "onnx", **more})


@pytest.fixture(scope="module")
def learned_folder(tmp_path_factory: pytest.TempPathFactory, trained_folder: Path, few_digits: Dataset) -> Path:
    folder = tmp_path_factory.mktemp("qat") / "run"
    made = set_up(asked(trained_folder), few_digits)
    assert (made.named, made.recipe.precision, made.parent) == ("qat", "fp32", str(trained_folder))
    run = train(made.model, few_digits, made.recipe, folder, parent=made.parent, standin=made.standin)
    assert made.standin is not None and not made.standin.unmatched
    assert run.learned is not None
    return folder


def test_the_run_has_float_weights_and_learned_ranges(
    learned_folder: Path, trained_folder: Path, few_digits: Dataset
) -> None:
    run = read_run(learned_folder)
    assert run.learned is not None
    assert (run.learned.target, run.parent) == ("onnx", str(trained_folder))
    assert len(run.learned.ranges) >= 30
    assert all(low <= 0 <= high and low < high for low, high in run.learned.ranges.values())
    assert abs(run.reached.accuracy - run.learned.accuracy) < 0.1
    before, after = resolve(str(trained_folder)), resolve(str(learned_folder))
    assert after.learned == run.learned
    states = [one.module.state_dict() for one in (before, after)]
    assert states[0].keys() == states[1].keys()
    assert any(not torch.equal(one, two) for one, two in zip(*(one.values() for one in states)))


def test_the_export_takes_the_learned_ranges_first(learned_folder: Path, few_digits: Dataset, tmp_path: Path) -> None:
    model = resolve(str(learned_folder))
    told: list[str] = []
    rows = export(
        model, ["onnx", "torchscript"], ExportOptions("int8", Batch(1, 4, 64)), out=tmp_path, data=few_digits,
        int8=Int8Options(images=100, never_slower=False), tell=told.append,
    )  # fmt: skip
    assert [row.error for row in rows] == [None, None]
    first, other = (load_artifact(row.folder).manifest.options["int8"] for row in rows)
    assert first["climb"][0]["choice"].startswith("learned")  # and 7-bit weights on a CPU without VNNI
    assert other["climb"][0]["choice"].startswith("minmax"), "another target: its ranges are calibrated"
    assert any("trained with fake quantisation for onnx" in note for note in other["notes"])
    again = Int8Options(images=100, plan=rows[0].folder)
    (row,) = export(
        model, "onnx", ExportOptions("int8", Batch(1, 4, 64)), out=tmp_path / "b", data=few_digits, int8=again
    )
    assert row.error is None
    assert (row.folder / "model.onnx").read_bytes() == (rows[0].folder / "model.onnx").read_bytes()
    stranger = replace(model, learned=None)
    (row,) = export(stranger, "onnx", ExportOptions("int8"), out=tmp_path / "c", data=few_digits, int8=again)
    assert isinstance(row.error, UsageError)
    assert "this model has none" in str(row.error)


@pytest.mark.slow
def test_resumed_it_ends_where_it_would_have(
    trained_folder: Path, learned_folder: Path, few_digits: Dataset, tmp_path: Path
) -> None:
    class Killed(Exception): ...

    def stop(epoch: int, _epochs: int, step: int, _steps: int) -> None:
        if epoch == 1 and step == 2:
            raise Killed

    made = set_up(asked(trained_folder), few_digits)
    with pytest.raises(Killed):
        train(made.model, few_digits, made.recipe, tmp_path / "run", standin=made.standin, watcher=Watcher(step=stop))
    made = set_up(asked(trained_folder), few_digits)
    train(made.model, few_digits, made.recipe, tmp_path / "run", standin=made.standin, resume=True)
    one, two = (resolve(str(folder)) for folder in (learned_folder, tmp_path / "run"))
    for name, value in one.module.state_dict().items():
        assert torch.allclose(value.float(), two.module.state_dict()[name].float(), atol=1e-5), name
    assert one.learned is not None and two.learned is not None
    for edge, span in one.learned.ranges.items():
        assert np.allclose(span, two.learned.ranges[edge], atol=1e-4), edge
    with pytest.raises(UsageError, match="cannot resume"):
        other = set_up(asked(trained_folder, overrides=("qat.norms_until=0.1",)), few_digits)
        checkpoint = tmp_path / "killed"
        with pytest.raises(Killed):
            train(made.model, few_digits, made.recipe, checkpoint, standin=made.standin, watcher=Watcher(step=stop))
        train(other.model, few_digits, other.recipe, checkpoint, standin=other.standin, resume=True)


def test_weights_of_a_run_bring_its_stem_and_input(trained_folder: Path, few_digits: Dataset) -> None:
    made = set_up(Asked("resnet18", weights=str(trained_folder), values=SHORT, qat="trt"), few_digits)
    assert made.model.origin.arguments["stem"] == "small"
    assert made.model.origin.arguments["width"] == 0.25
    assert str(made.folder) == "runs/tiny-few-digits-qat"
    assert made.standin is not None and made.standin.options.target == "trt"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"source": "resnet18"}, "give --weights"),
        ({"qat": "eager"}, "eager has no int8; one of torchscript, onnx, trt"),
        ({"overrides": ("precision=bf16",)}, "trains in fp32"),
        ({"overrides": ("qat.norm_until=0.5",)}, 'did you mean "norms_until"'),
        ({"overrides": ("qat.norms_until=often",)}, "norms_until"),
        ({"qat": None, "overrides": ("qat.norms_until=0.5",)}, "qat.norms_until"),
    ],
)
def test_wrong_requests_are_refused(trained_folder: Path, few_digits: Dataset, change: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        set_up(asked(trained_folder, **change), few_digits)


def test_what_a_learned_choice_starts_with(monkeypatch: pytest.MonkeyPatch) -> None:
    from zoo.exporter.quantize import initial as starting

    learned = Learned("onnx", 8, {"x": (0.0, 1.0)}, 0.9)
    monkeypatch.setattr(starting, "cpu_flags", lambda: frozenset({"sse2"}))
    choice, notes = starting_choice("onnx", learned, None)
    assert (choice.method, choice.weight_bits) == ("learned", 8)
    assert "may saturate" in notes[0]
    choice, notes = starting_choice("onnx", learned, 7)
    assert choice.weight_bits == 7
    assert "trained for 8-bit" in notes[0]
    assert starting_choice("onnx", None, None)[0].weight_bits == 7
    assert qat_recipe(Recipe()).precision == "fp32"


def command(run: Path, *more: str) -> subprocess.CompletedProcess[str]:
    arguments = ["train", str(run), "--data", "digits", "--json", *more]
    return subprocess.run([sys.executable, "-m", "zoo", *arguments], capture_output=True, text=True)


def test_for_without_qat_is_refused(trained: Path) -> None:
    done = command(trained, "--for", "onnx")
    assert done.returncode == 2
    assert "add --qat" in json.loads(done.stdout)["error"]["fix"]


@pytest.mark.slow
def test_the_command_trains(trained: Path, tmp_path: Path) -> None:
    more = ["--qat", "--epochs", "1", "--set", "batch_size=128", "--out", str(tmp_path / "out")]
    done = command(trained, *more)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["qat"]["target"] == "onnx"
    assert told["qat"]["unmatched"] == []


@pytest.mark.gpu
def test_it_trains_on_a_gpu(trained_folder: Path, few_digits: Dataset, tmp_path: Path) -> None:
    made = set_up(asked(trained_folder), few_digits)
    run = train(made.model, few_digits, made.recipe, tmp_path / "run", device="cuda", standin=made.standin)
    assert run.learned is not None and made.standin is not None
    assert not made.standin.unmatched
    assert abs(run.reached.accuracy - run.learned.accuracy) < 0.1
