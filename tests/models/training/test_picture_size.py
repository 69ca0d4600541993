"""The input that suits a folder's pictures, from their headers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from zoo.models.data.catalog import open_data
from zoo.models.data.dataset import Dataset
from zoo.models.training.picture_size import MOST, read_sizes, small_input, suited

Size = tuple[int, int]


@pytest.mark.parametrize(
    ("sizes", "native", "expected"),
    [
        ([(64, 64)] * 3, 224, (64, 64)),
        ([(28, 28)] * 3, 224, (32, 32)),
        ([(8, 8)], 224, (32, 32)),
        ([(100, 100)], 224, (96, 96)),
        ([(60, 130)] * 3, 224, (64, 128)),
        ([(64, 2000)] * 3, 224, (64, 64)),
        ([(90, 300), (110, 100), (400, 96)], 224, (96, 96)),
        ([(224, 224)], 224, None),
        ([(215, 215)], 224, None),
        ([(500, 375), (333, 500)], 224, None),
        ([(225, 225)], 240, (224, 224)),
    ],
)
def test_what_suits(sizes: list[Size], native: int, expected: Size | None) -> None:
    assert suited(sizes, native) == expected


def pictures(root: Path, sizes: list[Size], suffix: str = "png") -> Path:
    """A folder of two classes, all in one colour, so that a header is nearly all there is."""
    for number, (height, width) in enumerate(sizes):
        folder = root / ("cats" if number % 2 else "dogs")
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (width, height), (number % 255, 99, 7)).save(folder / f"{number:04}.{suffix}")
    return root


def folder(root: Path, sizes: list[Size]) -> Dataset:
    return open_data(str(pictures(root, sizes)))


def test_small_pictures_of_one_size(tmp_path: Path) -> None:
    found = small_input("resnet18", folder(tmp_path, [(64, 64)] * 8))
    assert found is not None
    assert found.shape == (3, 64, 64)
    assert found.note == ("the pictures are 64x64: trains at 3x64x64 (--input 3x224x224 for the network's own size)")
    taller = small_input("efficientnet_b1", folder(tmp_path / "tall", [(60, 30)] * 8))
    assert taller is not None
    assert (taller.shape, "are 60x30" in taller.note, "3x240x240" in taller.note) == ((3, 64, 32), True, True)


def test_small_pictures_of_many_sizes(tmp_path: Path) -> None:
    found = small_input("mine:net", folder(tmp_path, [(60, 90), (100, 70), (300, 64), (66, 66)] * 3))
    assert found is not None
    assert found.shape == (3, 64, 64)
    assert "(shorter side 65 pixels, the median of " in found.note


def test_photographs_and_named_data_keep_theirs(tmp_path: Path, few_digits: Dataset) -> None:
    assert small_input("resnet18", folder(tmp_path, [(300, 400)] * 8)) is None
    assert small_input("resnet18", few_digits) is None
    other = replace(folder(tmp_path / "small", [(64, 64)] * 8), preprocess=few_digits.preprocess)
    assert small_input("resnet18", other) is None, "the data set says what suits it"


def test_a_few_hundred_headers_are_read_and_no_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = pictures(tmp_path, [(40, 50)]) / "dogs" / "0000.png"
    path.write_bytes(path.read_bytes()[:45])  # a header, and no picture
    (tmp_path / "none.png").write_text("no picture at all")
    opened: list[object] = []
    real = Image.open
    monkeypatch.setattr(Image, "open", lambda *given: opened.append(given) or real(*given))
    assert read_sizes([path, tmp_path / "none.png", tmp_path / "gone.png"]) == [(40, 50)]
    opened.clear()
    assert read_sizes([path] * 100_000) == [(40, 50)] * len(opened)
    assert MOST / 2 < len(opened) <= MOST
    assert read_sizes([]) == []
    assert np.all(np.asarray(read_sizes([path] * 3)) == (40, 50))
