"""Which folders of a data set are splits and which are classes; what is nearly a layout is refused, never guessed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...errors import UsageError, quoted

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".gif"}
TRAINING = {"train", "training", "trn", "trainset", "train_set"}
VALIDATION = {"val", "valid", "validation", "valset", "val_set", "dev", "eval"}
TESTING = {"test", "testing", "testset", "test_set"}
SPLITS = TRAINING | VALIDATION | TESTING
EXPECTED = "expected train/CLASS/*.jpg and val/CLASS/*.jpg, or CLASS/*.jpg"


@dataclass(frozen=True)
class Layout:
    """Where the images of a data set lie.

    Attributes:
        train: the folder of class folders to learn from; without splits the root itself; None where only val is there.
        val: the folder of class folders to judge by; None where a part of `train` is to be kept for that.
        notes: folders that are not read.
    """

    train: Path | None
    val: Path | None
    notes: tuple[str, ...] = ()


def find_layout(root: Path) -> Layout:
    """Find the splits of a folder.

    A folder called train or val is a split, unless it holds images and lies beside other folders: then it is a class.

    Raises:
        UsageError: folders that are nearly train/ and val/, or class folders that look like splits.
    """
    folders = subfolders(root)
    named = {path.name: path for path in folders if path.name in ("train", "val") and _is_split(path, folders)}
    train, val = named.get("train"), named.get("val")
    near = [path for path in folders if path.name.lower() in SPLITS and path not in named.values()]
    near = [path for path in near if holds_only_folders(path)]
    if near:
        _refuse_near(root, near, train, val)
    if train is None and val is None:
        _refuse_alike(root, folders)
        return Layout(root, None)
    beside = [path.name for path in folders if path not in named.values()]
    notes = (f"{root}: only train/ and val/ are read, not {', '.join(beside[:5])}",) if beside else ()
    return Layout(train, val, notes)


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder that are not hidden, sorted by name."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def is_image(path: Path) -> bool:
    """Whether a file is read as an image, by its suffix."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def holds_only_folders(folder: Path) -> bool:
    """Whether there are folders in it, and no images beside them."""
    return bool(subfolders(folder)) and not any(map(is_image, folder.iterdir()))


def _is_split(folder: Path, folders: list[Path]) -> bool:
    classes = [path for path in folders if path.name.lower() not in SPLITS]
    return bool(subfolders(folder)) or not classes or not any(map(is_image, folder.iterdir()))


def _refuse_near(root: Path, near: list[Path], train: Path | None, val: Path | None) -> None:
    """Raise UsageError where one of these folders takes a place that train/ or val/ should have."""
    right = {}
    for kind, name, there in ((TRAINING, "train", train), (VALIDATION, "val", val)):
        found = [path.name for path in near if path.name.lower() in kind]
        if found and there is None:
            right[found[0]] = name
    tests = [path.name for path in near if path.name.lower() in TESTING]
    has = ", ".join(f"{path.name}/" for path in near)
    if right:
        rename = " and ".join(f"{wrong}/ to {name}/" for wrong, name in right.items())
        raise UsageError(f"{root} has {has}, but zoo reads train/ and val/", fix=f"rename {rename}")
    if tests and val is None:
        more = ", or move it away, and a fifth of train/ is kept for validation" if train is not None else ""
        raise UsageError(
            f"{root} has {has}, but no val/ to judge by", fix=f"rename {tests[0]}/ to val/ to judge by its images{more}"
        )


def _refuse_alike(root: Path, folders: list[Path]) -> None:
    """Raise UsageError where what would be classes hold only folders of the same names, as splits do."""
    inside = [{path.name for path in subfolders(folder)} for folder in folders]
    if not folders or not all(map(holds_only_folders, folders)) or any(names != inside[0] for names in inside):
        return
    names = ", ".join(sorted(inside[0])[:5])
    if len(folders) == 1:
        raise UsageError(
            f"{root} holds one folder, {folders[0].name}, with folders in it ({names}) and no images",
            fix=f"give --data {quoted(folders[0])}",
        )
    kinds = ", ".join(path.name for path in folders[:5])
    raise UsageError(
        f"{root}: its folders {kinds} hold no images, only folders of the same names ({names}): are they splits?",
        fix=f"name splits train/ and val/; if {kinds} are classes, put them into {root / 'train'}",
    )
