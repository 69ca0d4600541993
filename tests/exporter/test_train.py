"""How a training is set up: the input that suits the pictures, a user's own spec, the order of the classes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from zoo.errors import UsageError
from zoo.exporter.train import Asked, set_up
from zoo.models.data.catalog import open_data
from zoo.models.data.dataset import Dataset
from zoo.models.runs import read_run


@pytest.fixture(scope="module")
def small_pictures(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    root = tmp_path_factory.mktemp("pictures")
    for name, colour in (("ant", 30), ("bee", 120), ("cow", 220)):
        (root / name).mkdir()
        for number in range(8):
            Image.new("RGB", (64, 64), (colour, number, 7)).save(root / name / f"{number}.png")
    return open_data(str(root))


def own(**changes: object) -> Asked:
    return Asked(**{"source": "resnet18", **changes})


class OnlyLarge(nn.Sequential):
    """As vision transformers: one size and no other."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - as torch calls it
        if input.shape[-1] != 224:
            raise ValueError("224 and nothing else")
        return super().forward(input)


def only_large() -> nn.Module:
    return OnlyLarge(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3))


def any_size() -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3))


def test_small_pictures_are_trained_at_their_size_and_that_is_said(small_pictures: Dataset) -> None:
    made = set_up(own(), small_pictures)
    assert made.model.spec.input == (3, 64, 64)
    assert made.model.spec.preprocess.resize == 64, "nothing of the picture is cut off"
    assert made.model.origin.arguments["stem"] == "small"
    assert made.model.notes[0].startswith("the pictures are 64x64: trains at 3x64x64 (--input 3x224x224")


def test_what_is_asked_for_is_what_is_trained(small_pictures: Dataset, trained_folder: Path) -> None:
    asked = set_up(own(shape=(3, 96, 96)), small_pictures)
    assert (asked.model.spec.input, asked.model.notes) == ((3, 96, 96), ())
    assert asked.model.spec.preprocess.resize == 110
    for source, weights in (("resnet18", str(trained_folder)), (str(trained_folder), None)):
        made = set_up(own(source=source, weights=weights), small_pictures)
        assert made.model.spec.input == (3, 32, 32), "as the weights have it"
        assert not any("pictures" in note for note in made.model.notes)


def test_a_network_of_one_size_keeps_it(
    small_pictures: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets_of_one_size.py").write_text(Path(__file__).read_text())
    for name, shape in (("only_large", (3, 224, 224)), ("any_size", (3, 64, 64))):
        made = set_up(own(source=f"nets_of_one_size:{name}"), small_pictures)
        assert made.model.spec.input == shape


SPEC = """name = "mine"
input = [3, 48, 48]
labels = ["cow", "ant", "bee"]
[preprocess]
crop = [48, 48]
resize = 48
mean = [0.5, 0.5, 0.5]
std = [0.5, 0.5, 0.5]
"""


def test_a_spec_is_trained_by_and_remembered(small_pictures: Dataset, tmp_path: Path) -> None:
    from zoo.models.training.loop import train

    (tmp_path / "spec.toml").write_text(SPEC)
    made = set_up(own(spec=tmp_path / "spec.toml", values={"epochs": 1, "batch_size": 6}), small_pictures)
    assert (made.model.spec.name, made.model.spec.input) == ("mine", (3, 48, 48))
    assert made.model.spec.preprocess.mean == (0.5, 0.5, 0.5)
    assert made.data.classes == ("cow", "ant", "bee")
    before, after = small_pictures.train, made.data.train
    names = [[data.classes[label] for label in split.labels]
             for data, split in ((small_pictures, before), (made.data, after))]  # fmt: skip
    assert names[0] == names[1], "each picture keeps its class"
    assert set(after.labels[before.labels == 0]) == {1}
    train(made.model, made.data, made.recipe, tmp_path / "run")
    assert read_run(tmp_path / "run").spec == made.model.spec


def test_labels_order_the_outputs(small_pictures: Dataset) -> None:
    made = set_up(own(labels=("bee", "cow", "ant", "dog")), small_pictures)
    assert made.model.spec.labels == ("bee", "cow", "ant", "dog"), "a class that the data lacks has its output"
    assert np.array_equal(np.unique(made.data.val.labels), [0, 1, 2])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": ("ant", "bee")}, "1 of 3 classes of the data are unknown to the model: cow"),
        ({"labels": ("x", "y", "z")}, "the labels do not belong to"),
        ({"labels": ("ant", "bee", "cow", "ant")}, 'the labels name "ant" more than once'),
        (
            {"spec": "spec.toml", "labels": ("ant", "bee", "cow", "dog")},
            "--spec has 3 outputs, but there are 4 classes",
        ),
        ({"spec": "spec.toml", "shape": (3, 64, 64)}, "--input 3x64x64 contradicts --spec, which has 3x48x48"),
        ({"shape": (1, 64, 64)}, "--input 1x64x64: images are shown in 3 channels; give a --spec"),
    ],
)
def test_contradictions_are_refused(
    small_pictures: Dataset, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    (tmp_path / "spec.toml").write_text(SPEC)
    if "spec" in changes:
        changes = {**changes, "spec": tmp_path / "spec.toml"}
    with pytest.raises(UsageError, match=message):
        set_up(own(**changes), small_pictures)


def test_a_run_brings_its_own_spec(small_pictures: Dataset, trained_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "spec.toml").write_text(SPEC)
    with pytest.raises(UsageError, match="is a run and brings its own spec; leave --spec out"):
        set_up(own(source=str(trained_folder), spec=tmp_path / "spec.toml"), small_pictures)


def test_a_run_is_trained_on_with_its_own_order_of_the_classes(few_digits: Dataset, trained_folder: Path) -> None:
    """Folders are sorted; the outputs of a run's head need not be, and keep what they stand for."""
    turned = tuple(reversed(few_digits.classes))
    train, val = (replace(one, labels=len(turned) - 1 - one.labels) for one in (few_digits.train, few_digits.val))
    made = set_up(own(source=str(trained_folder)), replace(few_digits, classes=turned, train=train, val=val))
    assert made.data.classes == made.model.spec.labels == few_digits.classes
    assert (made.data.train.labels == few_digits.train.labels).all()
