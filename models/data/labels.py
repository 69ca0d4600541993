"""Class names: those that a user gives, and a data set's classes onto a model's, by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...errors import UsageError, one_line
from ..spec import ModelSpec
from .dataset import Dataset


@dataclass(frozen=True)
class Matched:
    """`index[i]` is the model's output for class i of the data."""

    index: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Unmatched:
    """None of the data's classes is one of the model's: the labels do not belong to the model."""

    reason: str


def match_classes(spec: ModelSpec, data: tuple[str, ...]) -> Matched | Unmatched:
    """Find each class of the data among a model's; a model without class names matches nothing.

    Raises:
        UsageError: as `match_labels`.
    """
    if not spec.has_class_names:
        return Unmatched(
            f"{spec.name} brings no class names for its {len(spec.labels)} outputs, so the data's labels say nothing "
            "about them; --labels or --spec names them"
        )
    return match_labels(spec.labels, data)


def match_labels(model: tuple[str, ...], data: tuple[str, ...]) -> Matched | Unmatched:
    """Find each class of the data among the model's; a subset of the model's classes is fine.

    A name that is exactly the same counts first, then one that differs in underscores and spaces, then one that
    differs in upper and lower case: EMNIST has the classes A and a.

    Raises:
        UsageError: some classes are found and others are not, or a name is ambiguous.
    """
    found = [_places(name, model) for name in data]
    lost = [name for name, where in zip(data, found, strict=True) if not where]
    if len(lost) == len(data):
        return Unmatched(f"no class of the data ({_few(data)}) is one of the model's ({_few(model)})")
    if lost:
        raise UsageError(
            f"{len(lost)} of {len(data)} classes of the data are unknown to the model: {_few(tuple(lost))}",
            fix=f"name them as the model does: {_few(model)}",
        )
    ambiguous = {name: where for name, where in zip(data, found, strict=True) if len(where) > 1}
    if ambiguous:
        name, where = next(iter(ambiguous.items()))
        raise UsageError(
            f"the model has more than one class named {_few(tuple(ambiguous))}: outputs {_few(tuple(map(str, where)))} "
            f"are {_few(tuple(model[place] for place in where))}",
            fix=f"name the class {name} exactly as one of them, or give the model other --labels",
        )
    index = [where[0] for where in found]
    for place in index:
        same = tuple(name for name, where in zip(data, index, strict=True) if where == place)
        if len(same) > 1:
            raise UsageError(
                f"classes {_few(same)} of the data are one class of the model, {model[place]}",
                fix="put their images into one folder, or name them as the model does",
            )
    return Matched(np.asarray(index, np.int64))


def named_by_data(spec: ModelSpec, data: Dataset) -> tuple[ModelSpec, tuple[str, ...]]:
    """Return the spec with the data's class names, and a note, where the model brings none and has as many outputs.

    The order is the data's: sorted folder names, by which torchvision's ImageFolder and most trainings number classes.
    """
    if spec.has_class_names or len(spec.labels) != len(data.classes):
        return spec, ()
    note = (
        f"{spec.name} brings no class names: took the {len(data.classes)} of {data.name} in their order "
        f"({_few(data.classes)}); --labels gives others"
    )
    return spec.with_labels(data.classes), (note,)


def read_labels(given: str, option: str = "--labels") -> tuple[str, ...]:
    """Return the class names of a text file with one name on each line, or of a list with commas.

    Args:
        given: the path of the file, or the list.
        option: what messages call it.

    Raises:
        UsageError: neither a file nor a list, a file that is no text, or an empty name.
    """
    if Path(given).is_file():
        try:
            lines = Path(given).read_text(encoding="utf-8-sig").splitlines()  # Windows' Notepad marks UTF-8
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(
                f"{option} {given} cannot be read as text ({one_line(error)})", fix="save it as UTF-8"
            ) from error
        names = tuple(line.strip() for line in "\n".join(lines).rstrip().split("\n"))
    elif "," in given:
        names = tuple(name.strip() for name in given.split(","))
    else:
        raise UsageError(
            f"{option} {given}: neither a file nor a list of class names with commas",
            fix=f"give a text file with one name on each line, or for example {option} cat,dog",
        )
    if not all(names):
        empty = names.index("") + 1
        raise UsageError(f"{option} {given}: name {empty} of {len(names)} is empty", fix="give every output a name")
    return names


def _places(name: str, model: tuple[str, ...]) -> list[int]:
    """The outputs of that name, by the strictest of three ways to compare that finds any."""
    for compared in (str, _spaced, lambda text: _spaced(text).casefold()):
        found = [place for place, label in enumerate(model) if compared(label) == compared(name)]
        if found:
            return found
    return []


def _spaced(name: str) -> str:
    return " ".join(name.replace("_", " ").split())


def _few(names: tuple[str, ...], most: int = 5) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
