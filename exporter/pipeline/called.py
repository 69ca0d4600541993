"""The name that a model brings, by which its exports are filed, as far as it is known before anything runs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from ...config import from_toml
from ...errors import ZooError
from ...models.runs import is_run, pruned_name, read_run
from ...models.spec import ModelSpec, name_for
from .command_line import Made
from .expand import Node
from .kinds import Kind, Prune, Source, Train


def names_of(nodes: Sequence[Node], made: Mapping[str, Made], done: Collection[str], folder: Path) -> dict[str, str]:
    """Return what each node's model is called; nodes of which only their command will know are left out.

    Args:
        nodes: all, each behind those it needs.
        made: what each left, or will leave.
        done: ids of those that are made: a run says what it is called.
        folder: of the pipeline file.
    """
    found: dict[str, str] = {}
    for node in nodes:
        parent = node.needs[0] if node.needs else ""
        there = run_name(folder / made[node.id].path) if node.id in done and made[node.id].path else ""
        name = there or name_of(node.options, found.get(parent, ""), made.get(parent), folder)
        if name:
            found[node.id] = name
    return found


def name_of(options: Kind, parent: str, given: Made | None, folder: Path) -> str:
    """Return what a step calls its model; "" where only its command will know.

    Args:
        options: of the step.
        parent: the name of the model that it takes; "" where there is none, or it is not known.
        given: what the step that it is from hands on.
        folder: of the pipeline file.
    """
    if isinstance(options, Source):
        return source_name(str(options.source), options, folder)
    if isinstance(options, Train):
        return trained_name(options, parent, given, folder)
    if isinstance(options, Prune):
        return pruned_name(parent) if parent else ""
    return parent


def trained_name(options: Train, parent: str, given: Made | None, folder: Path) -> str:
    """Return the name that a training gives: that of its spec, of the run that it goes on with, or its source's."""
    if options.spec is not None:
        return spec_name(folder / options.spec)
    if given is not None and given.path:
        return parent if given.path == given.source else ""  # ranges lie elsewhere than the model that they are of
    source, flags = (given.source, given.flags) if given is not None else (str(options.source), ())
    if options.weights is not None or "--weights" in flags:
        return ""  # a run's weights bring its name
    if is_run(folder / source) or "--spec" in flags:
        return parent or run_name(folder / source)
    return name_for(source)


def source_name(source: str, options: Source, folder: Path) -> str:
    """Return the name of a model that is there."""
    if is_run(folder / source):
        return run_name(folder / source)
    if options.spec is not None:
        return spec_name(folder / options.spec)
    weights = options.weights or ""
    if ":" not in source and (is_run(folder / weights) if weights else (folder / "runs").is_dir()):
        return ""  # it may be a run, which has a name of its own
    return source.replace(":", "-") if source.startswith(("torchvision:", "timm:")) else name_for(source)


def run_name(folder: Path) -> str:
    """Return the name of a run's model; "" for what is no whole run."""
    try:
        return read_run(folder).spec.name
    except ZooError:
        return ""


def spec_name(path: Path) -> str:
    """Return the name in a spec.toml; "" where it cannot be read."""
    try:
        return from_toml(ModelSpec, path).name
    except ZooError:
        return ""
