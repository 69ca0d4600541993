"""Runs a pipeline: decides for each node what is to be done, starts what can run, remembers what is done.

A node is cached (its record has its key, and what it left is whole: by size and times of its files, and by their
hashes where these differ, or before anything is judged or packaged), lacking (this machine cannot),
blocked (what it needs could not be had), failed, or done. Nothing is kept in memory that the folder does not hold: a
run that is killed loses what it was running, and the next one goes on.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ...errors import DONE, UNAVAILABLE, UnavailableError
from .again import why
from .cache_keys import plan_key
from .cluster.fleet import Fleet
from .command_line import Command, Made, command_of, model_of, together
from .config import Pipeline
from .expand import Node, expand
from .kinds import Check, Export, Prune, Source, Train
from .known import Known
from .local_process import Ended, Job, Process
from .requirements import Facts, lacking, look
from .results import CACHED, LACKING, RUNNING, WAITING, Outcome, blocked, judge, reason_of
from .schedule import Limits, choose, free_gpus, gpus_of
from .state import Look, Record, State
from .whole import inputs_are_whole

OVERTAKEN = "overtaken"  # the key of no node
PAUSE, LOOK = 0.05, 0.25  # seconds between two looks, the second where an end wakes us


@dataclass
class Run:
    """A pipeline as it runs.

    Attributes:
        pipeline: read.
        nodes: expanded, in order.
        state: its folder.
        facts: this machine.
        start: what starts a command.
        fleet: the cluster that commands run on; None for this machine.
        told: is called after every change.
        by_id: the nodes by their names.
        known: their keys.
    """

    pipeline: Pipeline
    nodes: tuple[Node, ...]
    state: State
    facts: Facts
    start: Callable[[Sequence[Node], Command, Path, tuple[int, ...] | None], Job]
    fleet: Fleet | None = None
    told: Callable[[Run], None] = lambda _run: None
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    running: dict[str, tuple[tuple[Node, ...], Job, tuple[int, ...], Command]] = field(default_factory=dict)
    again: dict[str, str] = field(default_factory=dict)  # why a node is made again
    spoilt: set[str] = field(default_factory=set)  # nodes that are to be made again, whatever their records say
    overtaken: set[str] = field(default_factory=set)  # that run, and whose needs were changed meanwhile
    fresh: dict[str, Record] = field(default_factory=dict)  # the same files with other times, to be remembered

    def __post_init__(self) -> None:
        self.by_id = {node.id: node for node in self.nodes}
        self.known = Known(self.pipeline.settings, self.state.folder, self.by_id)

    @property
    def limits(self) -> Limits:
        """What may be used at once."""
        asked = self.pipeline.settings
        gpus = self.facts.gpus if asked.gpus is None else min(asked.gpus, self.facts.gpus)
        return Limits(asked.cores or self.facts.cores, asked.memory or self.facts.memory, gpus)

    def outcome(self, node: str) -> Outcome:
        """Where a node stands."""
        return self.outcomes.get(node, Outcome())

    def settle(self) -> list[Node]:
        """Decide all that can be decided without running anything; the nodes that are ready to run.

        A node is decided when its needs are: cached, lacking, blocked, or ready.
        """
        ready: list[Node] = []
        for node in self.nodes:
            if self.outcome(node.id).state != WAITING:
                continue
            needs = [self.outcome(one) for one in node.needs]
            if any(one.state in (WAITING, RUNNING) for one in needs):
                continue
            found = self._decide(node, needs)
            if found is None:
                ready.append(node)
            else:
                self.outcomes[node.id] = found
        return ready

    def settle_all(self) -> None:
        """Decide what can be decided, and mark as waiting what hangs on a node that has to run; nothing runs."""
        while True:
            before = len(self.outcomes)
            self.settle()
            if len(self.outcomes) == before:
                return

    def _decide(self, node: Node, needs: Sequence[Outcome]) -> Outcome | None:
        lost = blocked(node, dict(zip(node.needs, needs, strict=True)))
        if lost is not None:
            return lost
        key = self.key(node)
        if isinstance(node.options, Source):
            path = self._made(node, "")
            return Outcome(CACHED, record=Record(key, key, "", facts={"source": path.source}), passed=True)
        record = self.state.read(node.id)
        if record is not None and node.id not in self.spoilt:
            same = record.key == key
            found = self.state.look(record) if same else Look(record, why(record.parts, self.known.parts[node.id]))
            if not found.changed:
                outcome = Outcome(CACHED, record.exit_code, reason_of(node, record.facts), record=record,
                                  passed=record.exit_code == DONE, log=record.log, command=record.command)  # fmt: skip
                return self.take(node.id, outcome, found.record)
            self.again[node.id] = found.changed
        missing = self.missing(node)
        if missing is not None:
            return Outcome(LACKING, UNAVAILABLE, missing.what, missing.fix)
        return None

    def take(self, name: str, outcome: Outcome, record: Record) -> Outcome:
        """A node is as it was, though its files may have other times; the outcome with the record that has these."""
        assert outcome.record is not None
        if record.files != outcome.record.files:
            self.fresh[name] = record
        self.outcomes[name] = replace(outcome, record=record)
        return self.outcomes[name]

    def remember(self) -> None:
        """Write the times of files that were read and found to be the same, so that the next look is a cheap one."""
        for name, record in self.fresh.items():
            self.state.write(name, record)
        self.fresh.clear()

    def missing(self, node: Node) -> UnavailableError | None:
        """What this machine, or the cluster, lacks for a node."""
        return self.fleet.missing(node) if self.fleet is not None else lacking(node, self.facts)

    def where(self, node: Node) -> str:
        """The machine that would measure a node, in the words of its key; "" for this one."""
        return self.fleet.machine(node) if self.fleet is not None else ""

    def key(self, node: Node) -> str:
        """Of a node whose needs are decided."""
        parents = [one.record.digest if one.passed and one.record else "" for one in map(self.outcome, node.needs)]
        return self.known.key(node, parents, self.where(node))

    def made(self) -> dict[str, Made]:
        """What can be built on."""
        return {
            node.id: self._made(node, outcome.record.path)
            for node in self.nodes
            if (outcome := self.outcome(node.id)).passed and outcome.record is not None
        }

    def _made(self, node: Node, path: str) -> Made:
        if isinstance(node.options, Check):  # hands on the artifact
            artifact = path.removesuffix(".check.json")
            return Made(artifact)
        parent = self.outcome(node.needs[0]) if node.needs else None
        given = self._made(self._node(node.needs[0]), parent.record.path) if parent and parent.record else None
        if node.options.gives == "model":
            return model_of(node, path, given)
        return Made(path)

    def _node(self, name: str) -> Node:
        return self.by_id[name]

    def groups(self, ready: Sequence[Node]) -> list[list[Node]]:
        """Nodes that are ready, as commands: exports with choices that were made before go by themselves."""
        planned = [node for node in ready if self._plan(node)]
        found = [*together([node for node in ready if node not in planned]), *([node] for node in planned)]
        return found if self.fleet is None else [part for group in found for part in self.fleet.parts(group)]

    def pick(self, groups: Sequence[Sequence[Node]]) -> list[int]:
        """Indices of the groups that begin now."""
        running = [group for group, _, _, _ in self.running.values()]
        if self.fleet is not None:
            return self.fleet.pick(groups, running, self.pipeline.settings)
        return choose(groups, running, self.limits)

    def _plan(self, node: Node) -> str:
        """The file of an int8 export's earlier choices, from the pipeline file's folder; "" for none."""
        if not is_int8(node):
            return ""
        place = self.state.plan(self._plan_key(node))
        return os.path.relpath(place, self.state.folder) if place.is_file() else ""

    def _plan_key(self, node: Node) -> str:
        parent = self.outcome(node.needs[0]).record
        digest_of_it = parent.digest if parent else ""
        data = self.known.fingerprint(str(getattr(node.options, "data", "")))
        return plan_key(node, digest_of_it, self.pipeline.settings, data, self.where(node))

    def begin(self, group: Sequence[Node]) -> None:
        """Start the command of a group; nothing, where what it would read is no longer what was made."""
        if not inputs_are_whole(self, group):
            return
        first, again, adopted = group[0], "", False
        if isinstance(first.options, Train | Prune):
            again, adopted = self.state.taken_up(first.id, self.key(first))
        if adopted:  # finished, and killed before that was remembered
            self._finish(group, Ended(DONE))
            return
        made, plan = self.made(), self._plan(first)
        command = command_of(group, made, self.pipeline.settings, again, plan)
        log = os.path.relpath(self.state.log(first.id), self.state.folder)
        for node in group:
            self.state.begin(node.id, self.key(node))
            if node.kind in ("package", "profile"):  # the others make the folders above theirs
                (self.state.out / node.id).parent.mkdir(parents=True, exist_ok=True)
            own = command_of([node], made, self.pipeline.settings, again, plan)
            self.outcomes[node.id] = Outcome(RUNNING, log=log, command=own.line(), again=self.again.get(node.id, ""))
        here = self.facts.gpus and self.fleet is None
        taken = [gpus for _, _, gpus, _ in self.running.values()]
        gpus = free_gpus(self.facts.gpus, taken, gpus_of(group, self.limits)) if here else None
        job = self.start(group, command, self.state.log(first.id), gpus)
        self.running[first.id] = tuple(group), job, gpus or (), command

    def collect(self) -> bool:
        """Take in what has ended; whether anything has."""
        ended = [(name, found) for name, (_, job, _, _) in self.running.items() if (found := job.poll()) is not None]
        for name, found in ended:
            group, _, _, _ = self.running.pop(name)
            self._finish(group, found)
        return bool(ended)

    def _finish(self, group: Sequence[Node], ended: Ended) -> None:
        log = os.path.relpath(self.state.log(group[0].id), self.state.folder)
        for node in group:
            if node.id in self.overtaken:  # it may have read what was changed
                self.overtaken.remove(node.id)
                self.outcomes.pop(node.id)
                self.state.begin(node.id, OVERTAKEN)  # nor is a run that looks finished taken for one
                continue
            before = self.outcome(node.id)
            one = Ended(ended.exit_code, ended.payload, ended.seconds / len(group), ended.host)
            found = judge(node, one, self.key(node), before, self.state.folder, self.pipeline.settings.out, log)
            if found.record is not None:
                if is_int8(node) and found.outcome.passed:  # first: a kill between the two must not lose the choices
                    self.state.keep_plan(self._plan_key(node), self.state.folder / found.record.path)
                self.state.write(node.id, replace(found.record, parts=self.known.parts[node.id]))
                self.spoilt.discard(node.id)
            self.outcomes[node.id] = replace(found.outcome, again=before.again)

    def stop(self) -> None:
        """End what runs."""
        for _, job, _, _ in self.running.values():
            job.stop()
        self.running.clear()


def is_int8(node: Node) -> bool:
    """Whether choices by measured time were made for it."""
    return isinstance(node.options, Export) and node.options.precision == "int8"


def run(engine: Run) -> dict[str, Outcome]:
    """Run all that is to be run; where each node stands in the end."""
    try:
        changed, groups, started = True, [], []
        while True:
            if changed or engine.fleet is not None:  # nothing else changes what this machine can begin
                groups = engine.groups(engine.settle())
                engine.remember()
                started = engine.pick(groups)
                for index in started:
                    engine.begin(groups[index])
            engine.told(engine)
            if not engine.running and not started and not groups:
                return engine.outcomes
            rest([job for _, job, _, _ in engine.running.values()])
            changed = engine.collect() or bool(started)
            started = []
    except BaseException:
        engine.stop()
        raise


def rest(jobs: Sequence[Job]) -> None:
    """Until one of these ends, where that can be waited for; else for a moment, in which they have the machine."""
    ends = [end for job in jobs if (end := job.end) is not None]
    if ends and len(ends) == len(jobs):
        select.select(ends, [], [], LOOK)
    else:
        time.sleep(PAUSE)


def prepare(pipeline: Pipeline, start: Callable[..., Job] | None = None, facts: Facts | None = None) -> Run:
    """A pipeline, expanded, with its folder and this machine.

    Raises:
        UsageError: two steps would write to one place.
    """
    nodes = expand(pipeline)
    folder = pipeline.path.absolute().parent
    state = State(folder, pipeline.settings.out, pipeline.path.name)

    def here(_group: Sequence[Node], command: Command, log: Path, gpus: tuple[int, ...] | None) -> Job:
        return Process(command, folder, log, gpus)

    return Run(pipeline, nodes, state, facts or look(), start or here)
