"""A pruned run opens again: that is tried before it is trained, and once more before it is called finished."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from zoo.errors import IntegrityError, UsageError
from zoo.exporter.prune.options import PruneOptions
from zoo.exporter.prune.run import Told, prune
from zoo.models.data.dataset import Dataset
from zoo.models.fresh import new_model
from zoo.models.runs import CHECKPOINT, RUN, is_run
from zoo.models.sources import Model, SourceOptions, logits_of, resolve
from zoo.models.training.epoch import Watcher
from zoo.models.training.recipe import load_recipe

OPTIONS = PruneOptions(0.6, timed=False, beside=False, round_to=4)
RECIPE = load_recipe("prune", ["batch_size=20", "precision=fp32", "shift=1"], epochs=1)
FACTORY = """
from pathlib import Path
from torch import nn

class Net(nn.Module):
    def __init__(self, between):
        super().__init__()
        self.first, self.between = nn.Conv2d(3, 32, 3, 4, 1), between
        self.second, self.last = nn.Conv2d(32, 32, 3, 2, 1), nn.Linear(32, 10)
    def forward(self, images):
        return self.last(self.second(self.between(self.first(images))).relu().mean((2, 3)))

class Times(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor
    def forward(self, images):
        return images * self.factor

def normed(): return Net(nn.Sequential(nn.GroupNorm(8, 32), nn.PReLU(32)))
def transposed(): return Net(nn.Sequential(nn.ConvTranspose2d(32, 32, 2, 2), nn.ReLU()))
def reading(): return Net(Times(float(Path("factor").read_text())))
"""


@pytest.fixture
def few(few_digits: Dataset) -> Dataset:
    train, val = few_digits.train.take(np.arange(40)), few_digits.val.take(np.arange(20))
    return Dataset("few", few_digits.classes, train, val, few_digits.preprocess, mirror=False)


@pytest.fixture
def make(tiny_spec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rebuilt_net.py").write_text(FACTORY)

    def made(name: str) -> Model:
        return new_model(f"rebuilt_net:{name}", tiny_spec, SourceOptions())

    return made


@pytest.mark.parametrize("name", ["normed", "transposed"])
def test_a_run_with_other_layers_than_convolutions_opens_again(name: str, make, few: Dataset) -> None:
    prune(make(name), few, OPTIONS, RECIPE, Path("half"))
    found = resolve("half")
    assert found.module.state_dict()["first.weight"].shape[0] < 32
    again = prune(found, few, PruneOptions(0.7, timed=False, beside=False, round_to=4), RECIPE, Path("quarter"))
    images = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)
    narrower = resolve("quarter").module
    assert logits_of(narrower, images).shape == (2, 10)
    assert sum(one.numel() for one in narrower.parameters()) == again.pruned.parameters


def test_what_could_not_be_opened_is_refused_before_it_is_trained(make, few: Dataset) -> None:
    Path("factor").write_text("1")
    model = make("reading")
    Path("factor").write_text("2")
    words = r"could not be opened again, so it is not trained: between \(Times\) answers otherwise.*the same module"
    with pytest.raises(UsageError, match=words):
        prune(model, few, OPTIONS, RECIPE, Path("run"))
    assert not Path("run").exists()


def test_a_run_that_does_not_open_is_not_finished_and_keeps_its_checkpoint(make, few: Dataset) -> None:
    Path("factor").write_text("1")
    model = make("reading")
    told = Told(training=Watcher(epoch=lambda _epoch: Path("factor").write_text("2")))
    with pytest.raises(IntegrityError, match=r"run: the recovered model cannot be opened again.*--resume"):
        prune(model, few, OPTIONS, RECIPE, Path("run"), told=told)
    assert not is_run(Path("run"))
    assert Path("run", CHECKPOINT).is_file()
    Path("factor").write_text("1")
    prune(make("reading"), few, OPTIONS, RECIPE, Path("run"), resume=True)
    assert Path("run", RUN).is_file()
