"""What a node runs: the zoo command that a person would type in the pipeline's folder. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..backends.infos import builds
from .config import Settings
from .expand import ALL, Node
from .kinds import Build, Calibrate, Check, Export, Package, Profile, Prune, Source, Train, flags

HTML = "report.html"
MODEL = "MODEL"  # in a path that is not there yet: the name that a model brings, where it is not known either


@dataclass(frozen=True)
class Made:
    """What a node left.

    Attributes:
        path: from the pipeline file's folder; "" where nothing is written.
        source: of a model: what a command is given.
        flags: of a model: with which options.
    """

    path: str = ""
    source: str = ""
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Command:
    """What a process does.

    Attributes:
        arguments: of zoo.
        copy: a folder that is copied first, and where to: a plan is built in a copy of its graph's artifact.
        threads: OMP_NUM_THREADS; None for what the machine gives.
    """

    arguments: tuple[str, ...]
    copy: tuple[str, str] | None = None
    threads: int | None = None

    def line(self) -> str:
        """As a person types it."""
        copied = f"cp -r {shlex.join(self.copy)} && " if self.copy else ""
        threads = f"OMP_NUM_THREADS={self.threads} " if self.threads is not None else ""
        return f"{copied}{threads}{shlex.join(['zoo', *self.arguments])}"


def command_of(
    nodes: Sequence[Node], made: Mapping[str, Made], settings: Settings, begun: str = "", plan: str = ""
) -> Command:
    """The command of a node, or of several that one command does: exports, or checks, of one model.

    Args:
        nodes: that `together` puts into one.
        made: what each of their needs left; one that is missing could not be had.
        settings: of the pipeline.
        begun: --resume or --overwrite, where a run of this node's is there already.
        plan: of an int8 export: the choices that were made before.
    """
    node, options = nodes[0], nodes[0].options
    out = settings.out
    more = ["--seed", str(settings.seed)] if settings.seed and not isinstance(options, Package | Profile) else []
    if settings.data_root and getattr(options, "data", None):
        more += ["--data-root", settings.data_root]
    if node.machine.device and not isinstance(options, Package | Profile):
        more += ["--device", node.machine.device]
    own = [*flags(options), *more]
    threads = node.machine.cores if node.machine.cores != ALL else None
    if isinstance(options, Train):
        rest = without(own, "--source")
        if options.qat:
            rest += ["--qat", "--for", options.qat]
        if node.needs:
            parent = made[node.needs[0]]
            source, rest = parent.source, [*(parent.flags or ("--weights", parent.source)), *without(rest, "--weights")]
        else:
            source = str(options.source)
        again = [begun] if begun else []
        return Command(("train", source, *rest, "--out", f"{out}/{node.id}", *again), threads=threads)
    if isinstance(options, Prune | Calibrate):
        parent = made[node.needs[0]]
        again = [begun] if begun and isinstance(options, Prune) else []
        arguments = (options.command, parent.source, *parent.flags, *own, "--out", f"{out}/{node.id}", *again)
        return Command(arguments, threads=threads)
    if isinstance(options, Export):
        parent, backends = made[node.needs[0]], ",".join(one.backend for one in nodes)
        precision = [] if options.precision == "fp32" else [f"--{options.precision}"]
        rest = without(own, "--to")
        if options.precision != "int8":
            for flag in ("--images", "--max-drop"):
                rest = without(rest, flag)
            rest = [one for one in rest if one != "--no-never-slower"]
        later = ["--build-later"] if any(builds(one.backend) for one in nodes) else []
        given = ["--plan", plan] if plan else []
        place = f"{out}/{node.id.partition('/')[0]}/{node.variant}"
        arguments = ("export", parent.source, *parent.flags, "--to", backends, *precision, *rest, *later, *given,
                     "--out", place)  # fmt: skip
        return Command(arguments, threads=threads)
    if isinstance(options, Build):
        source = made[node.needs[0]].path
        target = f"{out}/exports/{node.variant}/{node.form}"
        return Command(("build", target, *more), copy=(source, target), threads=threads)
    if isinstance(options, Check):
        folders = [made[one.needs[0]].path for one in nodes]
        against = ["--against", made[node.sibling].path] if node.sibling in made and options.latency else []
        return Command(("check", *folders, *own, *against), threads=threads)
    if isinstance(options, Package):
        folders = [made[one].path for one in node.needs if one in made]
        place = f"{out}/{node.id}{'.zoo' if options.layout == 'zoo' else ''}"
        again = ["--overwrite"] if options.layout == "zoo" else []
        return Command(("package", *folders, *own, "--out", place, *again), threads=threads)
    assert isinstance(options, Profile)
    parent = made[node.needs[0]]
    trusted = ["--allow-code"] if parent.path.endswith(".zoo") else []  # this pipeline made it
    return Command(("profile", parent.path, *own, *trusted, "--out", f"{out}/{node.id}"), threads=threads)


def model_of(node: Node, path: str, parent: Made | None) -> Made:
    """What a node that gives a model hands on."""
    options = node.options
    if isinstance(options, Source):
        given = [("--weights", options.weights), ("--input", options.input), ("--spec", options.spec),
                 ("--labels", options.labels)]  # fmt: skip
        return Made("", str(options.source), tuple(part for flag, value in given if value for part in (flag, value)))
    if isinstance(options, Calibrate) and parent is not None:
        return Made(path, parent.source, parent.flags)
    return Made(path, path)


def expected(
    nodes: Sequence[Node], made: Mapping[str, Made], out: str, names: Mapping[str, str] | None = None
) -> dict[str, Made]:
    """Return what each node left, or what it will leave where `command_of` writes it.

    Args:
        nodes: all, each behind those it needs.
        made: what is there already.
        out: the pipeline's folder for results.
        names: of the nodes' models, as far as they are known; exports are filed by them.
    """
    found: dict[str, Made] = {}
    for node in nodes:
        parent = found.get(node.needs[0]) if node.needs else None
        found[node.id] = made.get(node.id) or _expected(node, parent, out, (names or {}).get(node.id, MODEL))
    return found


def _expected(node: Node, parent: Made | None, out: str, name: str) -> Made:
    options = node.options
    if options.gives == "model":
        return model_of(node, f"{out}/{node.id}", parent)
    if isinstance(options, Check) and parent is not None:  # hands on the artifact
        return parent
    if isinstance(options, Export):
        return Made(f"{out}/{node.id.partition('/')[0]}/{node.variant}/{name}/{node.form}")
    if isinstance(options, Build):
        return Made(f"{out}/exports/{node.variant}/{node.form}")
    suffix = ".zoo" if isinstance(options, Package) and options.layout == "zoo" else ""
    return Made(f"{out}/{node.id}{suffix}")


def together(nodes: Sequence[Node]) -> list[list[Node]]:
    """Nodes that are ready, in the groups that one command does: it imports torch, and calibrates, only once."""
    found: dict[tuple[object, ...], list[Node]] = {}
    for node in nodes:
        options = node.options
        shared: tuple[object, ...] = (node.id,)
        if isinstance(options, Export):
            shared = ("export", node.variant, node.step, options.precision, node.id.partition("/")[0])
        elif isinstance(options, Check) and not node.alone:
            where = node.machine
            shared = ("check", node.variant, node.step, where.gpus, where.accelerator_type, str(where.resources))
        found.setdefault(shared, []).append(node)
    return list(found.values())


def without(arguments: Sequence[str], flag: str) -> list[str]:
    """Arguments but for a flag and its value."""
    found = list(arguments)
    while flag in found:
        place = found.index(flag)
        del found[place : place + 2]
    return found
