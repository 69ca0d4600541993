from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from zoo.errors import UsageError
from zoo.models.data.layout import find_layout


def fill(root: Path, *folders: str) -> Path:
    for name in folders:
        (root / name).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(root / name / "1.png")
    return root


@pytest.mark.parametrize(
    ("folders", "words"),
    [
        (["Train/cat", "Train/dog", "Val/cat", "Val/dog"], "rename Train/ to train/ and Val/ to val/"),
        (["training/cat", "validation/cat"], "rename training/ to train/ and validation/ to val/"),
        (["train/cat", "valid/cat", "test/cat"], "rename valid/ to val/"),
        (["train/cat", "Val/cat"], "rename Val/ to val/"),
        (["val/cat", "TRAIN/cat"], "rename TRAIN/ to train/"),
        (["train/cat", "test/cat"], "rename test/ to val/ to judge by its images, or move it away"),
        (["test/cat", "test/dog"], "rename test/ to val/"),
        (["first/cat", "first/dog", "second/cat", "second/dog"], "hold no images, only folders of the same names"),
        (["data/cat", "data/dog"], "give --data .*data$"),
        (["data/train/cat", "data/val/cat"], "give --data .*data$"),
    ],
)
def test_what_is_nearly_a_layout_is_refused_with_what_would_be_right(
    tmp_path: Path, folders: list[str], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        find_layout(fill(tmp_path, *folders))


@pytest.mark.parametrize(
    ("folders", "train", "val", "notes"),
    [
        (["train/cat", "val/cat"], "train", "val", 0),
        (["train/cat", "val/cat", "test/cat"], "train", "val", 1),
        (["val/cat"], None, "val", 0),
        (["cat", "dog"], ".", None, 0),
        (["car", "train", "bus"], ".", None, 0),
        (["test", "train", "passed"], ".", None, 0),
        (["cat/one", "cat/two", "dog/one"], ".", None, 0),
        (["train/cat/one", "train/dog/one"], "train", None, 0),
    ],
)
def test_layouts(tmp_path: Path, folders: list[str], train: str | None, val: str | None, notes: int) -> None:
    found = find_layout(fill(tmp_path, *folders))
    assert found.train == (tmp_path / train if train else None)
    assert found.val == (tmp_path / val if val else None)
    assert len(found.notes) == notes
