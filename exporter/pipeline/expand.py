"""A pipeline's matrix, expanded: every single thing that is to be made, and what each needs. Pure."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ...errors import UsageError
from ..backends.infos import builds
from .config import Needs, Pipeline, Step
from .kinds import Build, Calibrate, Check, Export, Kind, Package, Profile, Prune, Source, Train, several

ALL = None  # cores: all that the pipeline may use
GIGABYTES = {"train": 4.0, "prune": 4.0, "calibrate": 3.0, "export": 2.0, "build": 4.0, "check": 2.0}


@dataclass(frozen=True)
class Node:
    """One thing to make.

    Attributes:
        id: unique, and where its record and log lie: exports/resnet18/onnx-int8.
        step: the table that asks for it.
        options: of its kind, each key one value.
        variant: the model, through all that was done to it: resnet18, resnet18-small.
        needs: ids of what it is made of.
        form: of an artifact: onnx-int8.
        sibling: the id of the same backend's fp32 artifact, which its latency is held against; "" for none.
        partial: goes on with those of `needs` that could be had.
        machine: what it takes of a machine, with the kind's own where the step says nothing.
    """

    id: str
    step: str
    options: Kind
    variant: str
    needs: tuple[str, ...] = ()
    form: str = ""
    sibling: str = ""
    partial: bool = False
    machine: Needs = field(default_factory=Needs)

    @property
    def kind(self) -> str:
        """The command, or source."""
        return self.options.command or "source"

    @property
    def alone(self) -> bool:
        """Whether nothing else may run meanwhile."""
        return self.options.measures

    @property
    def backend(self) -> str:
        """Of an artifact."""
        return self.form.partition("-")[0]


@dataclass(frozen=True)
class Product:
    """What a step hands on."""

    node: str
    variant: str
    form: str = ""
    built: Needs | None = None  # of an artifact that only such a machine can run: what its build took


def expand(pipeline: Pipeline) -> tuple[Node, ...]:
    """All nodes, each behind those it needs.

    Raises:
        UsageError: two steps that would write to one place.
    """
    nodes: dict[str, Node] = {}
    made: dict[str, list[Product]] = {}
    by: dict[str, str] = {}
    for step in pipeline.steps:
        given = [product for source in step.sources for product in made[source]]
        found, made[step.name] = _nodes(step, given)
        for node in found:
            if node.id in nodes:
                other = f"steps {by[node.id]} and {step.name}"
                both = f"step {step.name}, twice," if by[node.id] == step.name else other
                raise UsageError(f"{pipeline.path}: {both} would make {node.id}", fix="take one of them out, or rename")
            nodes[node.id], by[node.id] = node, step.name
    return tuple(_with_siblings(nodes.values()))


def _nodes(step: Step, given: Sequence[Product]) -> tuple[list[Node], list[Product]]:
    """What one step makes, and hands on."""
    options = step.options
    if isinstance(options, Source | Train | Prune | Calibrate):
        return _models(step, options, given)
    if isinstance(options, Export):
        return _exports(step, options, given)
    if isinstance(options, Check):
        nodes = [
            Node(f"checks/{one.variant}/{one.form}", step.name, options, one.variant, (one.node,), one.form,
                 machine=_where_built(machine_of(step, options), one))
            for one in given
        ]  # fmt: skip
        return nodes, [Product(node.id, node.variant, node.form, one.built)
                       for node, one in zip(nodes, given, strict=True)]  # fmt: skip
    if isinstance(options, Package):
        grouped: dict[str, list[str]] = {}
        for one in given:
            grouped.setdefault(one.variant, []).append(one.node)
        nodes = [
            Node(f"packages/{variant}{'' if options.layout == 'zoo' else f'-{options.layout}'}", step.name, options,
                 variant, tuple(needs), partial=True, machine=machine_of(step, options))
            for variant, needs in grouped.items()
        ]  # fmt: skip
        return nodes, [Product(node.id, node.variant) for node in nodes]
    assert isinstance(options, Profile)
    nodes = [
        Node("/".join(filter(None, ("profiles", one.variant, one.form))), step.name, options, one.variant, (one.node,),
             one.form, machine=_where_built(machine_of(step, options), one))
        for one in given
    ]  # fmt: skip
    return nodes, [Product(node.id, node.variant, node.form) for node in nodes]


def _models(step: Step, options: Kind, given: Sequence[Product]) -> tuple[list[Node], list[Product]]:
    machine = machine_of(step, options)
    if not step.sources:
        sources = several(options.source) if isinstance(options, Source | Train) else ()
        names = distinct([name_of(source) for source in sources])
        folder = "sources" if isinstance(options, Source) else "runs"
        nodes = [
            Node(f"{folder}/{name}", step.name, _set(options, source=source), name, machine=machine)
            for source, name in zip(sources, names, strict=True)
        ]
        return nodes, [Product(node.id, node.variant) for node in nodes]
    if isinstance(options, Calibrate):
        nodes = [Node(f"ranges/{one.variant}", step.name, options, one.variant, (one.node,), machine=machine)
                 for one in given]  # fmt: skip
        return nodes, [Product(node.id, node.variant) for node in nodes]
    nodes = [
        Node(f"runs/{one.variant}-{step.name}", step.name, options, f"{one.variant}-{step.name}", (one.node,),
             machine=machine)
        for one in given
    ]  # fmt: skip
    return nodes, [Product(node.id, node.variant) for node in nodes]


def _exports(step: Step, options: Export, given: Sequence[Product]) -> tuple[list[Node], list[Product]]:
    nodes: list[Node] = []
    products: list[Product] = []
    pixels = "-pixels" if options.with_preprocess else ""
    for one, precision, backend in itertools.product(given, several(options.precision), several(options.to)):
        chosen = {name: value for name, value in options.set.items() if name.partition(".")[0] == backend}
        single = _set(options, to=backend, precision=precision, accelerator=(), set=chosen)
        form = f"{backend}-{precision}{pixels}"
        later = builds(backend)
        folder = "graphs" if later else "exports"
        machine = machine_of(step, single)
        if later:  # the graph is written anywhere; what the step asks for is for the plan
            machine = replace(machine, gpus=None, accelerator_type=None, resources={})
        node = Node(f"{folder}/{one.variant}/{form}", step.name, single, one.variant, (one.node,), form,
                    machine=machine)  # fmt: skip
        nodes.append(node)
        if not later:
            products.append(Product(node.id, one.variant, form))
            continue
        for accelerator in several(options.accelerator) or ("",):
            own = f"{form}-{_slug(accelerator)}" if accelerator else form
            needs = replace(machine_of(step, Build()), gpus=step.needs.gpus or 1)
            needs = replace(needs, accelerator_type=accelerator or needs.accelerator_type)
            built = Node(
                f"exports/{one.variant}/{own}", step.name, Build(), one.variant, (node.id,), own, machine=needs
            )
            nodes.append(built)
            products.append(Product(built.id, one.variant, own, needs))
    return nodes, products


def machine_of(step: Step, options: Kind) -> Needs:
    """What a node takes of a machine: what its step says, else what suits its kind."""
    heavy = isinstance(options, Train | Prune | Calibrate) or options.measures
    needs = step.needs
    cores = needs.cores if needs.cores is not None else ALL if heavy else 1
    memory = needs.memory if needs.memory is not None else GIGABYTES.get(options.command, 1.0)
    return replace(needs, cores=cores, memory=memory)


def _where_built(machine: Needs, product: Product) -> Needs:
    """What judges or measures a plan needs a machine like the one that built it."""
    if product.built is None:
        return machine
    kind = machine.accelerator_type or product.built.accelerator_type
    resources = machine.resources or product.built.resources
    return replace(machine, gpus=machine.gpus or product.built.gpus, accelerator_type=kind, resources=resources)


def _with_siblings(nodes: Iterable[Node]) -> list[Node]:
    """Each check of latency with the fp32 artifact beside it, which it needs too."""
    found = list(nodes)
    artifacts = {node.id: node for node in found if isinstance(node.options, Export | Build)}
    by_check = {node.id: node for node in found if isinstance(node.options, Check)}
    result: list[Node] = []
    for node in found:
        if isinstance(node.options, Check) and node.alone:
            mine = artifact_of(node, by_check)
            other = next(
                (one.id for one in artifacts.values() if one.variant == node.variant and one.backend == node.backend
                 and one.id.startswith("exports/") and one.form == f"{node.backend}-fp32{_rest(node.form)}"
                 and one.id != mine),
                "",
            )  # fmt: skip
            node = replace(node, sibling=other, needs=(*node.needs, other) if other else node.needs)
        result.append(node)
    return result


def artifact_of(node: Node, checks: Mapping[str, Node]) -> str:
    """The id of the artifact behind a node's first need, through the checks that hand it on."""
    first = node.needs[0]
    while first in checks:
        first = checks[first].needs[0]
    return first


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


def inputs_of(node: Node, nodes: Mapping[str, Node]) -> list[str]:
    """Ids of those whose files a node's command reads: its needs, and of a check the artifact that it hands on."""
    found: list[str] = []
    for name in node.needs:
        found.append(name)
        while isinstance(nodes[name].options, Check):
            name = nodes[name].needs[0]
            found.append(name)
    return list(dict.fromkeys(found))


def models_of(node: Node, nodes: Mapping[str, Node]) -> list[str]:
    """Sources of all models that a node is made of, its own too."""
    hangs_on = [node, *ancestors(node, nodes)]
    given = [one.options.source for one in hangs_on if isinstance(one.options, Source | Train)]
    return sorted({str(one) for one in given if one})


def _rest(form: str) -> str:
    """What follows backend and precision: -pixels, and the GPU."""
    return "".join(f"-{part}" for part in form.split("-")[2:])


def name_of(source: str) -> str:
    """What a source is called in folders: the last part of its name or path."""
    return _slug(re.split(r"[:/]", source.rstrip("/"))[-1])


def distinct(names: Sequence[str]) -> list[str]:
    """The same names, numbered where they repeat."""
    return [name if names.index(name) == index else f"{name}-{names[:index].count(name) + 1}"
            for index, name in enumerate(names)]  # fmt: skip


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.+-]+", "-", text).strip("-.") or "model"


def _set(options: Any, **values: Any) -> Any:
    return replace(options, **values)
