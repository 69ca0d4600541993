from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from zoo.errors import UsageError
from zoo.models.data.catalog import open_data
from zoo.models.data.dataset import batches
from zoo.models.data.folder import open_folder, split_by_class
from zoo.models.spec import Preprocess


def fill(root: Path, counts: dict[str, int]) -> Path:
    random = np.random.default_rng(0)
    for name, count in counts.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            pixels = random.integers(0, 256, (20 + index, 24, 3), np.uint8)
            Image.fromarray(pixels).save(root / name / f"{index}.png")
    return root


def test_train_and_val(tmp_path: Path) -> None:
    fill(tmp_path, {"train/cat": 3, "train/dog": 2, "val/cat": 1, "val/dog": 2})
    data = open_data(str(tmp_path))
    assert (data.classes, len(data.train), len(data.val)) == (("cat", "dog"), 5, 3)
    sizes = [pixels.shape for pixels, _ in batches(data.val, Preprocess((16, 16), 18), 2)]
    assert sizes == [(2, 3, 16, 16), (1, 3, 16, 16)]


@pytest.mark.parametrize("where", ["train/", ""])
def test_without_val_a_seeded_split_is_made_and_said(tmp_path: Path, where: str) -> None:
    fill(tmp_path, {f"{where}cat": 10, f"{where}dog": 5})
    one, same, other = (open_data(str(tmp_path), seed=seed) for seed in (1, 1, 2))
    assert (len(one.train), len(one.val)) == (12, 3)
    assert "no val/" in one.notes[0]
    assert one.val.paths == same.val.paths != other.val.paths
    assert not set(one.val.paths) & set(one.train.paths)
    assert set(one.val.labels) == {0, 1}


def test_val_alone_is_enough_to_check(tmp_path: Path) -> None:
    fill(tmp_path, {"val/cat": 2})
    data = open_data(str(tmp_path))
    assert (len(data.train), len(data.val)) == (0, 2)


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({"train/cat": 2, "train/dog": 0, "val/cat": 1, "val/dog": 1}, 'train/dog: class "dog" has no images'),
        ({"train/cat": 2, "val/cat": 1, "val/dog": 1}, r"only in val \['dog'\]"),
        ({"train/cat": 2, "train/cow": 2, "val/cat": 1}, r"only in train \['cow'\]"),
        ({"cat": 1}, "one image"),
        ({}, "no class folders"),
    ],
)
def test_bad_folders_are_named(tmp_path: Path, counts: dict[str, int], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        open_data(str(fill(tmp_path, counts)))


def test_an_image_that_cannot_be_decoded_is_named(tmp_path: Path) -> None:
    fill(tmp_path, {"val/cat": 2})
    (tmp_path / "val" / "cat" / "1.png").write_bytes(b"\x89PNG")
    data = open_data(str(tmp_path))
    with pytest.raises(UsageError, match=r"val/cat/1\.png"):
        list(batches(data.val, data.preprocess, 4))


def test_split_keeps_every_class_on_both_sides() -> None:
    labels = np.repeat(np.arange(5), [2, 3, 10, 50, 4])
    train, val = split_by_class(labels, 0.2, 0)
    assert set(labels[train]) == set(labels[val]) == set(range(5))
    assert sorted([*train, *val]) == list(range(len(labels)))


def test_what_zoo_wrote_is_no_class(tmp_path: Path) -> None:
    for name in ("cat", "run"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / name / "a.png")
    (tmp_path / "run" / "run.json").write_text("{}")
    with pytest.raises(UsageError, match="is what zoo wrote, not a class"):
        open_folder(tmp_path, 0)


@pytest.mark.parametrize(
    ("name", "words"), [(b"caf\xe9", r"class folder b'caf\\xe9' is not UTF-8"), (b"a\nb", "holds control characters")]
)
def test_a_class_folder_that_cannot_be_a_class_name(tmp_path: Path, name: bytes, words: str) -> None:
    fill(tmp_path, {"val/cat": 1})
    (tmp_path / "val" / "cat").rename(os.fsdecode(os.fsencode(tmp_path / "val") + b"/" + name))
    with pytest.raises(UsageError, match=words) as caught:
        open_data(str(tmp_path))
    assert str(caught.value).encode(), "it can be printed"


def test_files_that_are_not_read_as_images_are_counted(tmp_path: Path) -> None:
    fill(tmp_path, {"train/cat": 2, "val/cat": 1})
    for name in ("train/cat/a.jp2", "train/cat/b.JP2", "val/cat/c.txt", "val/cat/README", "val/cat/.hidden.x"):
        (tmp_path / name).touch()
    (tmp_path / "train" / "cat" / "Thumbs.db").touch()
    notes = open_data(str(tmp_path)).notes
    assert len(notes) == 1
    assert "4 files are not read as images and left out: 2 .jp2, 1 " in notes[0]
    assert all(kind in notes[0] for kind in ("1 .txt", "1 without a suffix"))
    for image in (tmp_path / "train" / "cat").glob("*.png"):
        image.unlink()
    with pytest.raises(UsageError, match=r'"cat" has no images, only files that are not read as images: 2 \.jp2'):
        open_data(str(tmp_path))


def test_images_beside_each_other_are_said_to_lack_classes(tmp_path: Path) -> None:
    fill(tmp_path, {".": 2})
    with pytest.raises(UsageError, match="no class folders in it, only 2 images beside each other"):
        open_data(str(tmp_path))
