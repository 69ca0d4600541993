"""ImageNet-style folders: `train/CLASS/*.jpg` and `val/CLASS/*.jpg`, or CLASS folders that are split here."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...errors import UsageError
from ..spec import imagenet_preprocess
from .dataset import Dataset, FileSplit

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".gif"}
VAL_SHARE = 0.2
RUN, ARTIFACT = "run.json", "artifact.json"  # which a class folder does not hold


def open_folder(root: Path, seed: int) -> Dataset:
    """Find classes and images; nothing is decoded yet.

    With `train/` and `val/` these are the splits; with neither, or without `val/`, a fifth of each class, drawn with
    the seed, is kept for validation, and a note says so. With `val/` alone the training split is empty.

    Raises:
        UsageError: no such folder, no classes, a class without images, or classes that differ between the splits.
    """
    if not root.is_dir():
        raise UsageError(f"{root}: no such folder", fix="see `zoo list data` for the names that need no folder")
    train, val = root / "train", root / "val"
    notes: tuple[str, ...] = ()
    if val.is_dir() and train.is_dir():
        classes, train_split = _scan(train)
        val_classes, val_split = _scan(val)
        _same_classes(root, classes, val_classes)
    elif val.is_dir():
        classes, val_split = _scan(val)
        train_split = val_split.take(np.arange(0))
    else:
        classes, everything = _scan(train if train.is_dir() else root)
        kept, held = split_by_class(everything.labels, VAL_SHARE, seed, classes)
        train_split, val_split = everything.take(kept), everything.take(held)
        notes = (f"{root} has no val/: {len(held)} of {len(everything)} images kept for validation, seed {seed}",)
    return Dataset(str(root), classes, train_split, val_split, imagenet_preprocess(), mirror=True, notes=notes)


def split_by_class(
    labels: np.ndarray, share: float, seed: int, names: tuple[str, ...] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """Indices to train on and indices to validate on: `share` of every class, at least one of each on both sides.

    Raises:
        UsageError: a class has a single image, which cannot be on both sides.
    """
    random = np.random.default_rng(seed)
    held: list[np.ndarray] = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(members) < 2:
            name = names[int(label)] if names else label
            raise UsageError(f"class {name} has one image, a split needs two", fix="add images, or a val/ folder")
        count = min(max(1, round(len(members) * share)), len(members) - 1)
        held.append(random.choice(members, count, replace=False))
    val = np.sort(np.concatenate(held))
    return np.setdiff1d(np.arange(len(labels)), val), val


def _scan(folder: Path) -> tuple[tuple[str, ...], FileSplit]:
    classes = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not classes:
        raise UsageError(f"{folder}: no class folders in it", fix="expected train/CLASS/*.jpg and val/CLASS/*.jpg")
    ours = [name for name in classes if (folder / name / RUN).is_file() or (folder / name / ARTIFACT).is_file()]
    if ours:
        raise UsageError(f"{folder / ours[0]} is what zoo wrote, not a class of images", fix="move it out of the data")
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = sorted(
            path
            for path in (folder / name).rglob("*")
            if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
        )
        if not found:
            raise UsageError(f'{folder / name}: class "{name}" has no images', fix="add images or remove the folder")
        paths += found
        labels += [label] * len(found)
    return tuple(classes), FileSplit(tuple(paths), np.asarray(labels, np.int64))


def _same_classes(root: Path, train: tuple[str, ...], val: tuple[str, ...]) -> None:
    if train != val:
        only_train, only_val = sorted(set(train) - set(val)), sorted(set(val) - set(train))
        raise UsageError(
            f"{root}: train/ and val/ have different classes: "
            f"only in train {only_train[:5]}, only in val {only_val[:5]}",
            fix="give both the same class folders",
        )
