"""The machines of a Ray cluster: which of them can make a node, and what Ray is asked for. Nothing here imports ray."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ....errors import UnavailableError
from ...backends.infos import builds
from ..cache_keys import named, of_machine
from ..config import Settings
from ..expand import ALL, Node
from ..kinds import Build, Package, Profile
from ..requirements import Facts, lacking, modules, needed
from ..schedule import Limits, gpus_of, memory_of

GIGABYTE = 10**9


@dataclass(frozen=True)
class Place:
    """A node of the cluster; `place`, since a node is something that a pipeline makes.

    Attributes:
        id: Ray's.
        host: its name.
        cores: as Ray counts them.
        gpus: as Ray counts them.
        memory: gigabytes that Ray hands out.
        accelerators: types of its GPUs, as Ray names them.
        resources: custom ones.
        modules: those of lacks.MODULES that can be imported there.
        machine: what latencies of it are of, by keys.machine.
    """

    id: str
    host: str
    cores: int
    gpus: int = 0
    memory: float = 8.0
    accelerators: frozenset[str] = frozenset()
    resources: Mapping[str, float] = field(default_factory=dict)
    modules: frozenset[str] = frozenset()
    machine: str = ""


@dataclass(frozen=True)
class Ask:
    """What Ray is asked for.

    Attributes:
        places: any of which will do.
        cores: that are reserved; all of the place for what measures, which so is alone on it.
        gpus: that it has to itself.
        memory: bytes.
        accelerator_type: of the GPU; None for any.
        resources: custom ones.
        threads: that the command computes with; None for what the machine has.
    """

    places: tuple[Place, ...]
    cores: int
    gpus: int
    memory: int
    accelerator_type: str | None
    resources: Mapping[str, float]
    threads: int | None = None


@dataclass
class Fleet:
    """The places of a cluster that live, and what is made on this machine in any case.

    Attributes:
        places: those that live.
        here: this machine.
        built: of a check or profile, the machine on which the plan was built that it takes; "" for any.
        machines: by id, where a node is to be measured: its key says so, and it is measured nowhere else.
    """

    places: tuple[Place, ...]
    here: Facts
    built: Callable[[Node], str] = lambda _node: ""
    machines: dict[str, str] = field(default_factory=dict)

    def missing(self, node: Node) -> UnavailableError | None:
        """What no place has for a node; None where one has all."""
        if stays(node):
            return lacking(node, self.here)
        return lacking_in(node, self.places)

    def machine(self, node: Node) -> str:
        """Of the places that a node would run on; "" for this machine, or where there is none."""
        if node.id not in self.machines:
            asked = self.ask([node]) if not stays(node) else None
            if asked is None:
                return ""
            self.machines[node.id] = alike(asked.places)[0].machine
        return self.machines[node.id]

    def parts(self, group: Sequence[Node]) -> list[list[Node]]:
        """A group whole where a place can do all of it, else each of its nodes by itself."""
        return [list(group)] if len(group) == 1 or self.fitting(group) else [[node] for node in group]

    def ask(self, group: Sequence[Node]) -> Ask | None:
        """What Ray is asked for; None where no place that lives will do."""
        found = self.fitting(group)
        return ask(group, found) if found else None

    def pick(self, ready: Sequence[Sequence[Node]], running: Sequence[Sequence[Node]], settings: Settings) -> list[int]:
        """Indices of the groups that begin now: all, for Ray lets them wait for a place, but for the file's limits."""
        most = settings.cores, settings.memory, settings.gpus
        used = [self._use(group) for group in running]
        chosen: list[int] = []
        for index, group in enumerate(ready):
            use = self._use(group)
            sums = [sum(column) for column in zip(*used, use, strict=True)]
            if not used or all(limit is None or total <= limit for total, limit in zip(sums, most, strict=True)):
                chosen.append(index)
                used.append(use)
        return chosen

    def _use(self, group: Sequence[Node]) -> tuple[float, float, float]:
        asked = self.ask(group) if not stays(group[0]) else None
        return (asked.cores, memory_of(group), asked.gpus) if asked else (0, 0, 0)

    def fitting(self, group: Sequence[Node]) -> list[Place]:
        """Places that have all that the nodes of a group need."""
        found = [one for one in self.places if all(_fits(node, one) for node in group)]
        for node in group:
            built = self.built(node)
            found = [one for one in found if one.machine == built] or found
            if of_machine(node) and not named(node) and node.id in self.machines:
                found = [one for one in found if one.machine == self.machines[node.id]]
        return found


def stays(node: Node) -> bool:
    """Whether it runs on this machine in any case: a private key does not travel, and devices know this one's keys."""
    options = node.options
    if isinstance(options, Package):
        return options.sign is not None
    asked = node.machine
    return isinstance(options, Profile) and options.on != "local" and not (asked.resources or asked.accelerator_type)


def ask(group: Sequence[Node], places: Sequence[Place]) -> Ask:
    """Of Ray, for a group that each of the places can do."""
    first, same = group[0].machine, alike(places)
    alone, asked = any(node.alone for node in group), [node.machine.cores for node in group]
    gpus = max(min(gpus_of(group, _limits(one)), one.gpus) for one in places)
    having = [one for one in places if one.gpus >= gpus]
    threads = None
    if alone or ALL in asked:
        having = [one for one in same if one.gpus >= gpus] or alike(having)
        cores = having[0].cores
        if not alone and gpus and having[0].gpus:  # its share, so that a machine of 8 GPUs trains 8 models
            cores = max(1, cores * gpus // having[0].gpus)
            threads = cores if cores < having[0].cores else None
    else:
        cores = max(one or 1 for one in asked)
    memory = min(memory_of(group), *(one.memory for one in having))
    return Ask(tuple(having), cores, gpus, int(memory * GIGABYTE), first.accelerator_type, first.resources, threads)


def alike(places: Sequence[Place]) -> list[Place]:
    """The largest places, and of those the ones that are the same machine: a step that takes a whole one goes there."""
    best = max(places, key=lambda one: (one.cores, one.gpus, one.machine))
    return [one for one in places if (one.cores, one.gpus, one.machine) == (best.cores, best.gpus, best.machine)]


def lacking_in(node: Node, places: Sequence[Place]) -> UnavailableError | None:
    """Why no place can make a node, and what to do; None where one can."""
    asked = node.machine
    if asked.accelerator_type and not any(asked.accelerator_type in one.accelerators for one in places):
        there = ", ".join(sorted({kind for one in places for kind in one.accelerators})) or "none with a type"
        return UnavailableError(f"no node of the cluster has a GPU of type {asked.accelerator_type}, but {there}",
                                fix="add such a node, or ask for another")  # fmt: skip
    for name, amount in asked.resources.items():
        most = max((one.resources.get(name, 0) for one in places), default=0)
        if most < amount:
            has = f"has {amount:g} of the resource {name}" if most else f"has the resource {name}"
            start = f"ray start --resources='{{\"{name}\": {amount:g}}}' on the machine that has it"
            return UnavailableError(f"no node of the cluster {has}", fix=start)
    for name in needed(node):
        if not any(name in one.modules for one in places):
            fix = f'pip install "zoo-export[{modules()[name]}]" on one'
            return UnavailableError(f"{name} is installed on no node of the cluster", fix=fix)
    if not any(_fits(node, one) for one in places):
        return UnavailableError(f"no single node of the cluster has all of {wants(node)}", fix="add one")
    return None


def wants(node: Node) -> str:
    """All that a node asks of a place, in words."""
    asked = node.machine
    found = [f"{asked.cores or 1} CPUs" if (asked.cores or 1) > 1 else "1 CPU"]
    if _gpus(node):
        found.append(f"{_gpus(node)} GPUs" if _gpus(node) > 1 else "1 GPU")
    found += [f"type {asked.accelerator_type}"] if asked.accelerator_type else []
    return ", ".join([*found, *(f"{name} {amount:g}" for name, amount in asked.resources.items()), *needed(node)])


def without(places: Sequence[Place], lost: frozenset[str]) -> tuple[Place, ...]:
    """The places but for those on which a step was lost; all, where there is no other."""
    return tuple(one for one in places if one.id not in lost) or tuple(places)


def elsewhere(asked: Ask, lost: frozenset[str]) -> Ask:
    """The same, away from places that lost it."""
    return replace(asked, places=without(asked.places, lost))


def _fits(node: Node, place: Place) -> bool:
    asked = node.machine
    return (
        place.cores >= (asked.cores or 1)
        and place.gpus >= _gpus(node)
        and (asked.accelerator_type is None or asked.accelerator_type in place.accelerators)
        and all(place.resources.get(name, 0) >= amount for name, amount in asked.resources.items())
        and place.modules >= set(needed(node))
    )


def _gpus(node: Node) -> int:
    """GPUs that it cannot do without."""
    least = 1 if node.machine.device == "cuda" or isinstance(node.options, Build) or builds(node.backend) else 0
    least = 0 if node.kind == "export" else least
    return max(node.machine.gpus or 0, least)


def _limits(place: Place) -> Limits:
    return Limits(place.cores, place.memory, place.gpus)
