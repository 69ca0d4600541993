"""Which of the nodes that are ready begin now. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .expand import ALL, Node


@dataclass(frozen=True)
class Limits:
    """What may be used at once."""

    cores: int
    memory: float
    gpus: int


def cores_of(group: Sequence[Node], limits: Limits) -> int:
    """That a group computes on; never more than there are."""
    asked = [node.machine.cores for node in group]
    return limits.cores if ALL in asked else min(limits.cores, max(one or 1 for one in asked))


def memory_of(group: Sequence[Node]) -> float:
    """Gigabytes that a group is taken to need: its nodes run one after the other."""
    return max(node.machine.memory or 0.0 for node in group)


def gpus_of(group: Sequence[Node], limits: Limits) -> int:
    """GPUs that a group has to itself."""
    asked = [node.machine.gpus for node in group]
    if None not in asked:
        return min(limits.gpus, max(one or 0 for one in asked))
    usable = any(node.kind in ("train", "prune", "calibrate", "export", "check", "build") for node in group)
    on_cpu = all(node.machine.device == "cpu" for node in group)
    return min(limits.gpus, 1) if usable and not on_cpu else 0


def choose(ready: Sequence[Sequence[Node]], running: Sequence[Sequence[Node]], limits: Limits) -> list[int]:
    """Indices of the groups that begin now.

    In the order in which they are ready. What measures latency waits until nothing runs, and nothing begins beside it;
    it goes last, so that the others fill the machine until then. A group that needs more than there is runs alone.
    """
    if any(node.alone for group in running for node in group):
        return []
    cores = limits.cores - sum(cores_of(group, limits) for group in running)
    memory = limits.memory - sum(memory_of(group) for group in running)
    gpus = limits.gpus - sum(gpus_of(group, limits) for group in running)
    chosen: list[int] = []
    for index, group in enumerate(ready):
        if any(node.alone for node in group):
            continue
        need = cores_of(group, limits), memory_of(group), gpus_of(group, limits)
        fits = need[0] <= cores and need[1] <= memory and need[2] <= gpus
        if fits or not (running or chosen):
            chosen.append(index)
            cores, memory, gpus = cores - need[0], memory - need[1], gpus - need[2]
    if chosen or running:
        return chosen
    return [0] if ready else []


def free_gpus(there: int, taken: Sequence[Sequence[int]], count: int) -> tuple[int, ...]:
    """Indices of as many GPUs as a group has to itself, of those that no other has."""
    used = {one for each in taken for one in each}
    return tuple([one for one in range(there) if one not in used][:count])
