"""Data by name: what there is, where it is found, how it is opened."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...config import near
from ...errors import IntegrityError, UnavailableError, UsageError, one_line, quoted
from ..spec import Preprocess
from .dataset import ArraySplit, Dataset
from .folder import open_folder, split_by_class
from .idx import read_idx
from .layout import SUFFIXES

ARCHIVES = {".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar"}
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
FASHION_CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)


@dataclass(frozen=True)
class Entry:
    """One named data set."""

    title: str
    classes: int
    open: Callable[[Path | None], Dataset]


def data_root(given: Path | None = None) -> Path | None:
    """Where downloads and IDX files lie: --data-root, else ZOO_DATA."""
    if given is not None:
        return given
    return Path(os.environ["ZOO_DATA"]) if os.environ.get("ZOO_DATA") else None


def open_data(name: str, root: Path | None = None, seed: int = 0) -> Dataset:
    """Open a named data set or a folder of images.

    Args:
        name: a key of `DATA`, or the path of a folder (`train/CLASS/...`, `val/CLASS/...`).
        root: where named data sets lie; without it the variable ZOO_DATA.
        seed: of the split that is made where a folder has no `val/`.

    Raises:
        UsageError: neither a name nor a folder, or a folder that is not as it should be.
        UnavailableError: a named data set that is not here and cannot be fetched.
        IntegrityError: a file of it is corrupt.
    """
    if name in DATA:
        if root is not None and root.exists() and not root.is_dir():
            raise UsageError(f"--data-root {root} is a file", fix="give a folder")
        return DATA[name].open(root)
    if Path(name).is_file():
        raise _no_folder(Path(name))
    if not Path(name).is_dir():
        raise UsageError(
            f'no data set and no folder "{name}"{near(name, DATA)}', fix=f"give a folder, or one of {', '.join(DATA)}"
        )
    return open_folder(Path(name), seed)


def _no_folder(file: Path) -> UsageError:
    """Return the error for a file where a folder is expected: what to give instead."""
    fix = f"give a folder of class folders, or one of {', '.join(DATA)}"
    if file.suffix.lower() in SUFFIXES:
        fix = f"give the folder above the classes, such as --data {quoted(file.absolute().parent.parent)}"
    elif file.suffix.lower() in ARCHIVES:
        fix = "unpack it, and give the folder that holds train/ and val/, or the class folders"
    return UsageError(f"--data {file} is a file, not a folder of images", fix=fix)


def _grey(mean: float, std: float) -> dict[str, Any]:
    return {"mean": (mean,) * 3, "std": (std,) * 3}


def _digits(root: Path | None) -> Dataset:  # noqa: ARG001 - the same call for all
    """1,797 handwritten digits of 8 x 8 pixels that come with scikit-learn, shown to models at 32 x 32."""
    rows = _digit_rows()
    array = np.rint(rows[:, :-1] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    labels = rows[:, -1].astype(np.int64)
    train, val = split_by_class(labels, 0.2, seed=0)
    everything = ArraySplit(array, labels)
    preprocess = Preprocess(crop=(32, 32), resize=32, **_grey(0.3054, 0.3233))
    names = tuple(str(digit) for digit in range(10))
    return Dataset("digits", names, everything.take(train), everything.take(val), preprocess, mirror=False)


def _digit_rows() -> npt.NDArray[np.float64]:
    """1,797 rows of 64 pixels from 0 to 16 and the digit, as scikit-learn's own file has them."""
    folders = getattr(importlib.util.find_spec("sklearn"), "submodule_search_locations", None) or ()
    for folder in folders:  # importing scikit-learn takes seconds; reading its file does not
        file = Path(folder, "datasets", "data", "digits.csv.gz")
        if file.is_file():
            return np.loadtxt(file, delimiter=",")
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise UnavailableError("digits comes with scikit-learn", fix='pip install "zoo-export[full]"') from error
    images, labels = load_digits(return_X_y=True)
    return np.column_stack([images, labels])


def _fashion_mnist(root: Path | None) -> Dataset:
    """70,000 pictures of clothes of 28 x 28 pixels, padded to 32 x 32."""
    folder = _idx_folder(root)
    train, val = (_idx_split(folder, prefix) for prefix in ("train", "t10k"))
    preprocess = Preprocess(crop=(32, 32), **_grey(0.2860, 0.3530))
    return Dataset("fashion-mnist", FASHION_CLASSES, train, val, preprocess, mirror=True)


def _idx_folder(root: Path | None) -> Path:
    """In --data-root alone when it is given; else in ZOO_DATA, else where Debian's package puts it."""
    inside = ("FashionMNIST/raw", "fashion-mnist", ".")
    given, root = root, data_root(root)
    candidates = [*(root / sub for sub in inside if root), *([] if given else [DEBIAN])] if root else [DEBIAN]
    for folder in candidates:
        if any((folder / f"train-images-idx3-ubyte{suffix}").is_file() for suffix in ("", ".gz")):
            return folder
    if root is not None:
        _by_torchvision("FashionMNIST", root, train=True)
        return root / "FashionMNIST/raw"
    raise UnavailableError(
        "fashion-mnist is not on this machine",
        fix="apt install dataset-fashion-mnist, or give --data-root FOLDER (or ZOO_DATA) to download it into",
    )


def _idx_split(folder: Path, prefix: str) -> ArraySplit:
    def read(kind: str, dimensions: int) -> np.ndarray:
        for suffix in ("", ".gz"):
            path = folder / f"{prefix}-{kind}-idx{dimensions}-ubyte{suffix}"
            if path.is_file():
                return read_idx(path, dimensions)
        raise UsageError(f"{folder}: {prefix}-{kind}-idx{dimensions}-ubyte is not there", fix="fetch the data again")

    images, labels = read("images", 3), read("labels", 1)
    if len(images) != len(labels):
        raise UsageError(
            f"{folder}: {len(images)} {prefix} images but {len(labels)} labels", fix="fetch the data again"
        )
    if len(labels) and labels.max() >= len(FASHION_CLASSES):
        raise IntegrityError(
            f"{folder}: {prefix} has the label {labels.max()}, there are {len(FASHION_CLASSES)} classes"
        )
    return ArraySplit(images[..., None], labels.astype(np.int64))


def _cifar(kind: str, root: Path | None) -> Dataset:
    root = data_root(root)
    if root is None:
        raise UnavailableError(f"{kind} has no place on this machine", fix="give --data-root FOLDER, or set ZOO_DATA")
    mean, std = {
        "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
        "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    }[kind]
    train, val = (_by_torchvision(kind.upper(), root, train=train) for train in (True, False))
    splits = [ArraySplit(one.data, np.asarray(one.targets, np.int64)) for one in (train, val)]
    preprocess = Preprocess(crop=(32, 32), mean=mean, std=std)
    return Dataset(kind, tuple(train.classes), splits[0], splits[1], preprocess, mirror=True)


def _by_torchvision(name: str, root: Path, train: bool) -> Any:
    """The data set as torchvision opens it, downloaded with its hash check where it is not there yet."""
    try:
        from torchvision import datasets
    except ImportError as error:
        raise UnavailableError(f"{name} is fetched by torchvision", fix='pip install "zoo-export[full]"') from error
    try:
        return getattr(datasets, name)(str(root), train=train, download=True)
    except (OSError, RuntimeError) as error:
        raise UnavailableError(
            f"{name} is not in {root} and cannot be downloaded ({one_line(error)[:100]})",
            fix="copy it there in torchvision's layout",
        ) from error


DATA: dict[str, Entry] = {
    "digits": Entry("1,797 grey digits of 8x8, comes with scikit-learn", 10, _digits),
    "fashion-mnist": Entry("70,000 grey clothes of 28x28", 10, _fashion_mnist),
    "cifar10": Entry("60,000 colour photographs of 32x32", 10, lambda root: _cifar("cifar10", root)),
    "cifar100": Entry("60,000 colour photographs of 32x32", 100, lambda root: _cifar("cifar100", root)),
}


def find_local() -> dict[str, str | None]:
    """Where each named data set lies on this machine, or None; nothing is downloaded."""
    root = data_root()
    fashion = [root / sub for sub in ("FashionMNIST/raw", "fashion-mnist", ".")] if root else []
    found = [place for place in (*fashion, DEBIAN) if any(place.glob("train-images-idx3-ubyte*"))]
    cifar = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}
    return {
        "digits": "scikit-learn" if importlib.util.find_spec("sklearn") else None,
        "fashion-mnist": str(found[0]) if found else None,
        **{name: str(root / sub) if root and (root / sub).is_dir() else None for name, sub in cifar.items()},
    }
