"""ImageNet-style folders: `train/CLASS/*.jpg` and `val/CLASS/*.jpg`, or CLASS folders that are split here.

Images are read as they are stored, as torchvision's ImageFolder reads them: an EXIF orientation is not applied.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np

from ...errors import UsageError
from ..spec import imagenet_preprocess, is_printable
from .dataset import Dataset, FileSplit
from .layout import EXPECTED, find_layout, is_image, subfolders

VAL_SHARE = 0.2
RUN, ARTIFACT = "run.json", "artifact.json"  # which a class folder does not hold
LEFT_BY_SYSTEMS = ("thumbs.db", "desktop.ini")


def open_folder(root: Path, seed: int) -> Dataset:
    """Find classes and images; nothing is decoded yet.

    With `train/` and `val/` these are the splits; with neither, or without `val/`, a fifth of each class, drawn with
    the seed, is kept for validation, and a note says so. With `val/` alone the training split is empty. Files that are
    not read as images are counted in a note.

    Raises:
        UsageError: no such folder, no classes, a class without images, classes that differ between the splits, or
            folders that are nearly train/ and val/.
    """
    if not root.is_dir():
        raise UsageError(f"{root}: no such folder", fix="see `zoo list data` for the names that need no folder")
    layout = find_layout(root)
    notes, left_out = layout.notes, Counter[str]()
    if layout.train is not None and layout.val is not None:
        classes, train_split = _scan(layout.train, left_out)
        val_classes, val_split = _scan(layout.val, left_out)
        _same_classes(root, classes, val_classes)
    elif layout.val is not None:
        classes, val_split = _scan(layout.val, left_out)
        train_split = val_split.take(np.arange(0))
    else:
        classes, everything = _scan(layout.train or root, left_out)
        kept, held = split_by_class(everything.labels, VAL_SHARE, seed, classes)
        train_split, val_split = everything.take(kept), everything.take(held)
        notes += (f"{root} has no val/: {len(held)} of {len(everything)} images kept for validation, seed {seed}",)
    if left_out:
        counts = ", ".join(f"{count} {suffix}" for suffix, count in left_out.most_common(5))
        notes += (f"{root}: {left_out.total()} files are not read as images and left out: {counts}",)
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


def _scan(folder: Path, left_out: Counter[str]) -> tuple[tuple[str, ...], FileSplit]:
    """The classes of a folder and their images; files of other suffixes are counted in `left_out`."""
    classes = subfolders(folder)
    if not classes:
        images = sum(map(is_image, folder.iterdir()))
        beside = f", only {images} images beside each other" if images else ""
        raise UsageError(f"{folder}: no class folders in it{beside}", fix=EXPECTED)
    ours = [path for path in classes if (path / RUN).is_file() or (path / ARTIFACT).is_file()]
    if ours:
        raise UsageError(f"{ours[0]} is what zoo wrote, not a class of images", fix="move it out of the data")
    paths: list[Path] = []
    labels: list[int] = []
    for label, path in enumerate(classes):
        _refuse_unprintable(path)
        found: list[Path] = []
        others = Counter[str]()
        for file in sorted(path.rglob("*")):
            if is_image(file):
                found.append(file)
            elif file.is_file() and not file.name.startswith(".") and file.name.lower() not in LEFT_BY_SYSTEMS:
                others[file.suffix.lower() or "without a suffix"] += 1
        if not found:
            counts = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common(3))
            unread = f", only files that zoo does not read as images: {counts}" if others else ""
            raise UsageError(
                f'{path}: class "{path.name}" has no images{unread}', fix="add images or remove the folder"
            )
        left_out.update(others)
        paths += found
        labels += [label] * len(found)
    return tuple(path.name for path in classes), FileSplit(tuple(paths), np.asarray(labels, np.int64))


def _refuse_unprintable(folder: Path) -> None:
    """Raise UsageError for a class folder whose name cannot be a class name: not UTF-8, or with control characters."""
    if not is_printable(folder.name):
        name = os.fsencode(folder.name)
        try:
            name.decode("utf-8")
            why = "holds control characters"
        except UnicodeDecodeError:
            why = "is not UTF-8"
        raise UsageError(
            f"{folder.parent}: the name of the class folder {name!r} {why}", fix="rename it, classes are called by it"
        )


def _same_classes(root: Path, train: tuple[str, ...], val: tuple[str, ...]) -> None:
    if train != val:
        only_train, only_val = sorted(set(train) - set(val)), sorted(set(val) - set(train))
        raise UsageError(
            f"{root}: train/ and val/ have different classes: "
            f"only in train {only_train[:5]}, only in val {only_val[:5]}",
            fix="give both the same class folders",
        )
