"""pipeline.toml: read and validated whole, before anything runs."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from ...config import from_mapping, near, read_toml
from ...errors import UsageError
from ..backends.infos import backend_infos, builds
from ..checks.budget import read_budget
from .kinds import KINDS, Check, Export, Kind, Source, Train, several
from .validation import refuse_unknown, refuse_values

NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
COMMON = ("do", "from", "cores", "memory", "gpus", "accelerator_type", "resources", "device")


@dataclass(frozen=True)
class Settings:
    """The table `[pipeline]`.

    Attributes:
        out: the folder that everything is written to, beside the file.
        data: of the steps that say none.
        data_root: where named data sets lie.
        seed: random seed.
        cores: that steps may use together; else all of this machine.
        memory: gigabytes that steps may use together; else this machine's.
        gpus: that steps may use together; else this machine's.
        store: where Ray's workers find and leave results: a folder that all see, or an fsspec URL.
    """

    out: str = "pipeline"
    data: str | None = None
    data_root: str | None = None
    seed: int = 0
    cores: int | None = None
    memory: float | None = None
    gpus: int | None = None
    store: str | None = None

    def __post_init__(self) -> None:
        for name in ("cores", "memory"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} must be positive, got {value}")
        for name in ("out", "data", "data_root", "store"):
            if getattr(self, name) == "":
                raise ValueError(f"{name} is empty: leave it out, or name something")
        if Path(self.out).is_absolute():
            raise ValueError(f"out, {self.out}, is absolute: give a folder from this file's on, such as ../build/out")
        if self.seed >= 2**31:
            raise ValueError(f"seed must be below {2**31}, got {self.seed}")
        if self.seed < 0 or (self.gpus is not None and self.gpus < 0):
            raise ValueError("seed and gpus must not be negative")


@dataclass(frozen=True)
class Needs:
    """What a step takes of a machine.

    Attributes:
        cores: of the CPU; else what suits its kind.
        memory: gigabytes; else what suits its kind.
        gpus: that it has to itself; else one where the machine has some and the step can use it.
        accelerator_type: of the GPU, as Ray names it: A100, T4.
        resources: custom ones of a Ray cluster, such as {board = 1}.
        device: as the commands take it: auto, cpu or cuda.
    """

    cores: int | None = None
    memory: float | None = None
    gpus: int | None = None
    accelerator_type: str | None = None
    resources: dict[str, float] = field(default_factory=dict)
    device: str | None = None

    def __post_init__(self) -> None:
        if self.cores is not None and self.cores < 1:
            raise ValueError(f"cores must be at least 1, got {self.cores}")
        if self.memory is not None and self.memory <= 0:
            raise ValueError(f"memory must be positive, got {self.memory}")
        if self.gpus is not None and self.gpus < 0:
            raise ValueError(f"gpus must not be negative, got {self.gpus}")
        if any(value < 0 for value in self.resources.values()):
            raise ValueError(f"resources must not be negative, got {self.resources}")
        if self.device not in (None, "auto", "cpu", "cuda"):
            raise ValueError(f"device is auto, cpu or cuda, got {self.device}")


@dataclass(frozen=True)
class Step:
    """One table `[steps.NAME]`."""

    name: str
    options: Kind
    sources: tuple[str, ...] = ()
    needs: Needs = field(default_factory=Needs)


@dataclass(frozen=True)
class Pipeline:
    """A file that holds together: every step's input is made by one before it in `steps`."""

    path: Path
    settings: Settings
    steps: tuple[Step, ...]

    @property
    def out(self) -> Path:
        """Where everything goes."""
        return self.path.parent / self.settings.out


def read_pipeline(path: Path) -> Pipeline:
    """Read and validate a file.

    Raises:
        UsageError: it cannot be read; an unknown key, a contradiction, or an input that no step makes, by the
            key's path.
    """
    data, where = read_toml(path), str(path)
    refuse_no_numbers(data, f"{where}: ")
    for name in data:
        if name not in ("pipeline", "steps"):
            raise UsageError(f"{where}: unknown key `{name}`{near(name, ('pipeline', 'steps'))}",
                             fix="known: pipeline, steps")  # fmt: skip
    settings = from_mapping(Settings, data.get("pipeline", {}), f"{where}: [pipeline]")
    tables = data.get("steps")
    if not isinstance(tables, dict) or not tables:
        raise UsageError(f"{where}: no [steps.NAME]", fix='[steps.base] with do = "train"')
    steps = {name: _step(name, table, where, settings, path.parent) for name, table in tables.items()}
    for step in steps.values():
        refuse_wrong_inputs(step, steps, where)
        refuse_own_results(step, settings, where, path.parent)
    return Pipeline(path, settings, ordered(steps, where))


def _step(name: str, table: object, where: str, settings: Settings, folder: Path) -> Step:
    here = f"{where}: steps.{name}"
    if not NAME.fullmatch(name):
        raise UsageError(f"{here}: a name is of small letters, digits, - and _", fix=f"such as {_plain(name)}")
    if not isinstance(table, dict):
        raise UsageError(f"{here} is no table", fix=f'[steps.{name}] with do = "export"')
    do = table.get("do")
    if not isinstance(do, str) or do not in KINDS:
        said = "is missing" if do is None else f"is {do!r}{near(str(do), KINDS)}"
        raise UsageError(f"{here}.do {said}", fix=f"one of {', '.join(KINDS)}")
    kind = KINDS[do]
    given = table.get("from", [])
    sources = (given,) if isinstance(given, str) else tuple(given) if isinstance(given, list) else None
    if sources is None or not all(isinstance(one, str) for one in sources):
        raise UsageError(f"{here}.from is the name of a step, or a list of names", fix='from = "base"')
    own = {field_.name for field_ in fields(kind)}
    for key in table:
        if key not in own and key not in COMMON:
            known = [*COMMON, *sorted(own)]
            raise UsageError(f"{here}: unknown key `{key}`{near(key, known)}", fix=f"known: {', '.join(known)}")
    needs = from_mapping(Needs, {key: table[key] for key in COMMON[2:] if key in table}, here)
    options = from_mapping(kind, {key: value for key, value in table.items() if key in own}, here)
    if "data" in own and getattr(options, "data", None) is None and settings.data is not None:
        options = replace(options, data=settings.data)
    refuse_contradictions(here, options, sources)
    refuse_values(here, options)
    refuse_unknown(here, options, folder)
    if isinstance(options, Check) and options.budget is not None:
        options = replace(options, latency=options.latency or read_budget(folder / options.budget).latency)
    refuse_chance(here, options, folder)
    return Step(name, options, sources, needs)


def refuse_no_numbers(value: object, here: str) -> None:
    """Raise UsageError for nan and inf, which TOML has and no key can be."""
    if isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"{here} is {value}", fix="give a number")
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, one in inner:
        refuse_no_numbers(one, f"{here}{'' if here.endswith(' ') else '.'}{name}")


def refuse_contradictions(here: str, options: Kind, sources: tuple[str, ...]) -> None:
    """Raise UsageError for keys that do not go together."""
    if isinstance(options, Source | Train):
        if not options.source and not sources:
            raise UsageError(f"{here}.source is missing", fix='source = "resnet18"')
        if options.source and sources:
            raise UsageError(f"{here}: source and from contradict each other", fix="leave one out")
        if isinstance(options, Source) and sources:
            raise UsageError(f"{here}: a source takes no from", fix="leave it out")
    elif not sources:
        raise UsageError(f"{here}.from is missing", fix="name the step that makes its input")
    if isinstance(options, Train) and options.qat and not sources and not options.weights:
        raise UsageError(f"{here}: qat goes on with a trained model", fix='from = "base", or weights')
    if options.command in ("train", "prune", "calibrate") and getattr(options, "data", None) is None:
        raise UsageError(f"{here}.data is missing", fix='data = "digits", here or in [pipeline]')
    if isinstance(options, Export):
        if not options.to:
            raise UsageError(f"{here}.to is missing", fix='to = ["onnx", "torchscript"]')
        if "int8" in several(options.precision) and options.data is None:
            raise UsageError(f"{here}: int8 needs data to calibrate with", fix='data = "digits", here or in [pipeline]')
        if options.accelerator and not any(builds(name) for name in several(options.to)):
            able = ", ".join(info.name for info in backend_infos() if info.builds)
            raise UsageError(f"{here}.accelerator is of {able}, which is not in `to`", fix="leave it out")


def refuse_chance(here: str, options: Kind, folder: Path) -> None:
    """Raise UsageError for a source whose weights would be whatever run is the newest when it is exported."""
    if not isinstance(options, Source) or options.weights is not None:
        return
    for source in several(options.source):
        if ":" not in source and not (folder / source).exists():
            raise UsageError(
                f"{here}.weights is missing: of {source} alone they would be the newest run's",
                fix='weights = "imagenet", "random", or a run',
            )


def refuse_wrong_inputs(step: Step, steps: Mapping[str, Step], where: str) -> None:
    """Raise UsageError where `from` names no step, or one that gives something else."""
    for name in step.sources:
        here = f"{where}: steps.{step.name}.from"
        if name not in steps:
            raise UsageError(f'{here}: no step "{name}"{near(name, steps)}', fix=f"one of {', '.join(steps)}")
        gives, takes = steps[name].options.gives, step.options.takes
        if gives not in takes:
            raise UsageError(f"{here}: {name} gives {gives}s, and this takes {' or '.join(takes)}s",
                             fix="name another step")  # fmt: skip


def refuse_own_results(step: Step, settings: Settings, where: str, folder: Path) -> None:
    """Raise UsageError where results would lie among the data: each run would find other data than the last."""
    data = getattr(step.options, "data", None)
    if not isinstance(data, str) or not (folder / data).is_dir():
        return
    out, images = (folder / settings.out).resolve(), (folder / data).resolve()
    if out == images or images in out.parents:
        raise UsageError(f"{where}: out, {settings.out}, lies in the data of steps.{step.name}, {data}",
                         fix="give another out in [pipeline]")  # fmt: skip


def ordered(steps: Mapping[str, Step], where: str) -> tuple[Step, ...]:
    """The steps, each behind those that it takes from. Raises UsageError for a circle."""
    done: dict[str, Step] = {}
    left = dict(steps)
    while left:
        ready = [name for name, step in left.items() if all(source in done for source in step.sources)]
        if not ready:
            raise UsageError(f"{where}: {', '.join(left)} wait for each other", fix="look at their `from`")
        for name in ready:
            done[name] = left.pop(name)
    return tuple(done.values())


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-") or "base"


def relative(path: Path) -> str:
    """As people read it: from where they are, if that is shorter."""
    other = os.path.relpath(path)
    return other if len(other) < len(str(path)) else str(path)
