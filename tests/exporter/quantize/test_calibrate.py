"""Calibration from images, and its cache."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import tiny_model
from zoo.calibration.observers import Seen
from zoo.calibration.ranges import RangeTable
from zoo.exporter.quantize import calibrate as calibrating
from zoo.exporter.quantize.calibrate import calibrate, equalised
from zoo.models.data.dataset import Dataset


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "ranges"


def test_ranges_are_collected_once(cache: Path, few_digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    first = calibrate(model, few_digits, images=100)
    (kept,) = cache.iterdir()
    monkeypatch.setattr(calibrating, "collect", lambda *_a, **_k: pytest.fail("collected again"))
    again = calibrate(model, few_digits, images=100)
    assert any(str(kept) in note for note in again.notes)
    assert again.table.edges.keys() == first.table.edges.keys()
    for name, seen in first.table.edges.items():
        assert (seen.low, seen.high) == (again.table.edges[name].low, again.table.edges[name].high)
        np.testing.assert_array_equal(seen.histogram, again.table.edges[name].histogram)


def test_other_images_weights_and_a_spoiled_cache_are_collected_anew(cache: Path, few_digits: Dataset) -> None:
    calibrate(tiny_model(), few_digits, images=20)
    calibrate(tiny_model(), few_digits, images=20, seed=1)
    other = tiny_model()
    other.module.fc.bias.data.add_(1)
    calibrate(other, few_digits, images=20)
    assert len(list(cache.iterdir())) == 3
    for folder in cache.iterdir():
        (folder / "ranges.safetensors").write_bytes(b"spoiled")
    made = calibrate(other, few_digits, images=20)
    assert not any("read from" in note for note in made.notes)
    assert any("read from" in note for note in calibrate(other, few_digits, images=20).notes)


def test_the_cache_does_not_grow_for_ever(cache: Path, few_digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrating, "KEPT", 2)
    for seed in range(3):
        calibrate(tiny_model(), few_digits, images=20, seed=seed)
    assert len(list(cache.iterdir())) == 2


def test_a_cache_that_cannot_be_written_is_a_note(
    tmp_path: Path, few_digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "file"))
    made = calibrate(tiny_model(), few_digits, images=100)
    assert any("could not be kept" in note for note in made.notes)


def test_equalised_is_the_same_network_with_other_ranges(few_digits: Dataset) -> None:
    model = tiny_model()
    before = calibrate(model, few_digits, images=100)
    after = equalised(before, model.spec)
    assert after.table.edges.keys() == before.table.edges.keys()
    assert after.table.data == before.table.data
    assert after.table.weights != before.table.weights
    logits = [one.table.edges["logits"] for one in (before, after)]
    assert logits[0].high == pytest.approx(logits[1].high, rel=1e-3)


def test_what_a_range_clips() -> None:
    seen = Seen()
    seen.widen(4.0)
    seen.add(-4.0, 4.0, np.histogram(np.linspace(-4, 4, 8001), 4096, (-4, 4))[0])
    assert seen.clipped((-4.0, 4.0)) == 0
    assert seen.clipped((-2.0, 4.0)) == pytest.approx(0.25, abs=1e-3)


class TestCommand:
    def run(self, *arguments: str) -> tuple[int, dict]:
        done = subprocess.run(
            [sys.executable, "-m", "zoo", "calibrate", *arguments, "--json"], capture_output=True, text=True
        )
        return done.returncode, json.loads(done.stdout)

    def test_it_writes_a_table_that_can_be_read(self, trained: Path, tmp_path: Path) -> None:
        out = tmp_path / "ranges"
        code, told = self.run(
            str(trained), "--data", "digits", "--images", "100", "--method", "percentile", "--out", str(out)
        )
        assert code == 0
        table = RangeTable.load(out)
        assert [one["name"] for one in told["edges"]] == list(table.edges)
        assert told["images"] == table.images == 100

    def test_an_unknown_method_and_a_folder_of_others_are_refused(self, trained: Path, tmp_path: Path) -> None:
        code, told = self.run(str(trained), "--data", "digits", "--method", "entropie")
        assert (code, "entropy" in str(told["error"])) == (2, True)
        (tmp_path / "mine").write_text("")
        code, told = self.run(str(trained), "--data", "digits", "--out", str(tmp_path))
        assert code == 2
        assert (tmp_path / "mine").exists()
