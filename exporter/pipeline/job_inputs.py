"""Which files a command takes along to another machine, and which that machine must see by itself."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import UsageError
from .cache_keys import outside
from .command_line import Command, Made
from .config import Settings
from .expand import Node, models_of
from .imports import closure, factory_of
from .kinds import Check


@dataclass(frozen=True)
class Luggage:
    """What a command needs, by names from the pipeline file's folder.

    Attributes:
        sent: files, and folders with all that is in them.
        seen: names and full paths of what every machine sees: folders of data, and what lies outside of the folder.
    """

    sent: tuple[str, ...]
    seen: Mapping[str, str]


def luggage(
    group: Sequence[Node], command: Command, nodes: Mapping[str, Node], made: Mapping[str, Made],
    paths: Mapping[str, str], settings: Settings, folder: Path,
) -> Luggage:  # fmt: skip
    """Of a group's command.

    Args:
        group: what it makes.
        command: that does it.
        nodes: all, by id.
        made: what can be built on.
        paths: by id, what a node that is done left.
        settings: of the pipeline.
        folder: of its file.

    Raises:
        UsageError: a file lies above the folder and is named from it.
    """
    names: list[str] = []
    for node in group:
        for need in node.needs:
            if need in made:
                names += [made[need].path, made[need].source, *made[need].flags]
                names += [paths[need]] if isinstance(nodes[need].options, Check) else []
        names += [value for name, value in outside(node.options, settings) if name != "data_root"]
        names += [str(value) for value in getattr(node.options, "set", {}).values()]
        for source in models_of(node, nodes):
            names += modules(folder, source)
    names += _after(command.arguments, "--plan")
    if "--resume" in command.arguments:
        names += _after(command.arguments, "--out")
    shared = {str(getattr(node.options, "data", None) or "") for node in group} | {settings.data_root or ""}
    return sort_out([*names, *shared], shared, folder)


def sort_out(names: Iterable[str], shared: Iterable[str], folder: Path) -> Luggage:
    """Names that are files or folders, into those that are sent and those that are to be seen; others are dropped."""
    sent: list[str] = []
    seen: dict[str, str] = {}
    for name in dict.fromkeys(names):
        if not name or not (folder / name).exists():  # resnet18, digits, a flag
            continue
        if ".." in Path(name).parts:
            raise UsageError(f"{name} lies outside of the pipeline's folder, which workers do not see",
                             fix=f"give its full path: {(folder / name).resolve()}")  # fmt: skip
        if Path(name).is_absolute() or (name in shared and (folder / name).is_dir()):
            seen[name] = str((folder / name).resolve()) if not Path(name).is_absolute() else name
        else:
            sent.append(name)
    return Luggage(tuple(sent), seen)


def modules(folder: Path, source: str) -> list[str]:
    """Python files of a user's factory below a folder; none for another source.

    All that it imports, as its key has it, and for names that are only known when it runs the rest of its package, or
    all modules beside it. What lies along PYTHONPATH the workers must have by themselves.
    """
    factory = factory_of(folder, source)
    if not factory:
        return []
    top = factory.partition(":")[0].partition(".")[0]
    beside = (folder / top).rglob("*.py") if (folder / top).is_dir() else folder.glob("*.py")
    found = [one.name for one in closure(folder, factory) if one.root == folder]
    near = [path.relative_to(folder).as_posix() for path in beside] if found else []
    return sorted({*found, *near})


def _after(arguments: Sequence[str], flag: str) -> list[str]:
    return [value for name, value in itertools.pairwise(arguments) if name == flag]
