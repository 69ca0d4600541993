"""Class names: those that a user gives, and a data set's classes onto a model's, by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...errors import UsageError, one_line


@dataclass(frozen=True)
class Matched:
    """`index[i]` is the model's output for class i of the data."""

    index: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Unmatched:
    """None of the data's classes is one of the model's: the labels do not belong to the model."""

    reason: str


def match_labels(model: tuple[str, ...], data: tuple[str, ...]) -> Matched | Unmatched:
    """Find each class of the data among the model's; a subset of the model's classes is fine.

    Raises:
        UsageError: some classes are found and others are not, or a name is ambiguous.
    """
    places: dict[str, list[int]] = {}
    for index, label in enumerate(model):
        places.setdefault(_plain(label), []).append(index)
    found = [places.get(_plain(name), []) for name in data]
    lost = [name for name, where in zip(data, found, strict=True) if not where]
    if len(lost) == len(data):
        return Unmatched(f"no class of the data ({_few(data)}) is one of the model's ({_few(model)})")
    if lost:
        raise UsageError(
            f"{len(lost)} of {len(data)} classes of the data are unknown to the model: {_few(tuple(lost))}",
            fix=f"name them as the model does: {_few(model)}",
        )
    twice = [name for name, where in zip(data, found, strict=True) if len(where) > 1]
    if twice:
        raise UsageError(f"the model has more than one class named {_few(tuple(twice))}", fix="rename it in its spec")
    return Matched(np.asarray([where[0] for where in found], np.int64))


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


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").casefold().split())


def _few(names: tuple[str, ...], most: int = 5) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
