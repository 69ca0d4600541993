from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from conftest import need
from zoo.errors import IntegrityError, UnavailableError, UsageError
from zoo.models.data import catalog
from zoo.models.data.catalog import open_data
from zoo.models.data.idx import read_idx


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def test_digits(digits) -> None:
    assert (len(digits.train), len(digits.val), len(digits.classes)) == (1438, 359, 10)
    assert not digits.mirror
    pixels = digits.val.pixels(np.arange(3), digits.preprocess)
    assert pixels.shape == (3, 3, 32, 32)
    assert pixels.max() > 200


def test_fashion_mnist_as_debian_packages_it() -> None:
    need(catalog.DEBIAN.is_dir(), "apt install dataset-fashion-mnist")
    data = open_data("fashion-mnist")
    assert (len(data.train), len(data.val)) == (60_000, 10_000)
    assert np.bincount(data.val.labels).tolist() == [1000] * 10
    assert data.val.pixels(np.arange(2), data.preprocess).shape == (2, 3, 32, 32)


@pytest.fixture
def small_fashion(tmp_path: Path) -> Path:
    folder = tmp_path / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    for prefix, count in (("train", 6), ("t10k", 4)):
        images, labels = np.arange(count * 784).reshape(count, 28, 28), np.arange(count) % 10
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(idx(images))
        (folder / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
    return tmp_path


def test_fashion_mnist_as_torchvision_lays_it(small_fashion: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(open_data("fashion-mnist", small_fashion).train) == 6
    monkeypatch.setenv("ZOO_DATA", str(small_fashion))
    assert len(open_data("fashion-mnist").val) == 4


@pytest.mark.parametrize("cut", [5, -1, -100])
def test_a_truncated_idx_file_is_named(small_fashion: Path, cut: int) -> None:
    for name in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte.gz"):
        path = small_fashion / "FashionMNIST" / "raw" / name
        whole = path.read_bytes()
        path.write_bytes(whole[:cut])
        with pytest.raises(IntegrityError, match=name):
            open_data("fashion-mnist", small_fashion)
        path.write_bytes(whole)


def test_counts_that_differ_are_an_error(small_fashion: Path) -> None:
    (small_fashion / "FashionMNIST/raw/train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.zeros(5))))
    with pytest.raises(UsageError, match="6 train images but 5 labels"):
        open_data("fashion-mnist", small_fashion)


def test_not_idx(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"hello world, this is text")
    with pytest.raises(IntegrityError, match="not an IDX file"):
        read_idx(tmp_path / "x", 3)


def test_cifar_as_torchvision_opens_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Fake:
        classes = ["cat", "dog"]

        def __init__(self, root: str, train: bool, download: bool) -> None:
            self.data = np.zeros((5 if train else 3, 32, 32, 3), np.uint8)
            self.targets = [0, 1, 0, 1, 0][: len(self.data)]

    from torchvision import datasets

    monkeypatch.setattr(datasets, "CIFAR10", Fake)
    data = open_data("cifar10", tmp_path)
    assert (data.classes, len(data.train), len(data.val)) == (("cat", "dog"), 5, 3)


@pytest.mark.filterwarnings("ignore")
def test_what_cannot_be_had_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ZOO_DATA", raising=False)
    monkeypatch.setattr(catalog, "DEBIAN", tmp_path / "none")
    with pytest.raises(UnavailableError, match="apt install dataset-fashion-mnist"):
        open_data("fashion-mnist")
    with pytest.raises(UnavailableError, match="--data-root"):
        open_data("cifar100")
    with pytest.raises(UnavailableError, match="cannot be downloaded"):
        open_data("cifar10", tmp_path)
    with pytest.raises(UsageError, match='did you mean "digits"'):
        open_data("digit")


def test_a_file_for_data_is_said_to_be_one(tmp_path: Path) -> None:
    for name, words in (("cat/1.JPG", f"--data {tmp_path}"), ("cat/data.zip", "unpack it"), ("cat/x.csv", "digits")):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
        with pytest.raises(UsageError, match="is a file, not a folder of images") as caught:
            open_data(str(path))
        assert words in caught.value.fix
