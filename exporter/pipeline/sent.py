"""Which files a command takes along to another machine, and which that machine must see by itself."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import UsageError
from .commands import Command, Made
from .file import Settings
from .graph import Node
from .keys import outside
from .kinds import Check, Source, Train

FACTORY = re.compile(r"([A-Za-z_][\w.]*):[A-Za-z_]\w*")


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
        for one in (node, *ancestors(node, nodes)):
            if isinstance(one.options, Source | Train):
                names += modules(folder, str(one.options.source))
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


def ancestors(node: Node, nodes: Mapping[str, Node]) -> list[Node]:
    """All that a node hangs on."""
    found: dict[str, Node] = {}
    waiting = list(node.needs)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = nodes[name]
            waiting += nodes[name].needs
    return list(found.values())


def modules(folder: Path, source: str) -> list[str]:
    """Python files of a user's factory: its package, or it and all modules beside it; none for another source."""
    matched = FACTORY.fullmatch(source)
    if matched is None:
        return []
    top = matched[1].partition(".")[0]
    if (folder / top).is_dir():
        return sorted(str(path.relative_to(folder)) for path in (folder / top).rglob("*.py"))
    if (folder / f"{top}.py").is_file():
        return sorted(path.name for path in folder.glob("*.py"))
    return []


def _after(arguments: Sequence[str], flag: str) -> list[str]:
    return [value for name, value in itertools.pairwise(arguments) if name == flag]
