"""int8: a calibration in, a choice out. Divides layers by measured time, then climbs to the cheapest way that holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...calibration.choice import Calibrated, Choice
from ...errors import GateError, InconclusiveError, UsageError
from ...models.data.dataset import Dataset
from ..artifact.folder import Golden
from ..artifact.manifest import Batch
from ..backends.base import Backend
from ..backends.graph.layers import list_layers
from ..backends.onnx.runner import OrtRunner
from ..backends.options import Available, ExportOptions
from ..backends.runner import Runner
from ..checks.accuracy import images_for_none, judge_accuracy, measure_accuracy
from ..checks.faithful import judge_faithful
from ..checks.yardstick import with_yardstick
from .calibrate import Progress, equalised
from .candidates import JUDGED, Judge, answers, climb, depthwise_layers, make_judge, rungs_for
from .fallback import hold_drop
from .initial import starting_choice
from .layer_costs import measure_costs
from .options import Int8Options
from .partition import IN_BLOCKS, UNPORTABLE, never_slower, time_again
from .plan import as_mapping, engine_of, measured_before, read_plan

if TYPE_CHECKING:
    from ...models.sources import Model

COMPARED = 64  # images that a layer's cost is measured on
JUDGED_CLOSELY = 10_000  # images, when a drop was asked for


@dataclass(frozen=True)
class Decided:
    """A backend's choice, the calibration it is rendered from, and how it came about.

    Attributes:
        choice, calibrated: what an export is made from.
        record, notes: how it came about.
        judged: golden images with the choice's yardstick, where it was computed for deciding.
    """

    choice: Choice
    calibrated: Calibrated
    record: dict[str, object] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    judged: Golden | None = None


@dataclass
class _Story:
    """What is known so far, as it is kept: the record, the notes, and whom to tell."""

    tell: Callable[[str], None]
    record: dict[str, object]
    notes: list[str]

    def say(self, line: str) -> None:
        self.notes.append(line)
        self.tell(line)

    def end(self, choice: Choice, calibrated: Calibrated, judged: Golden | None = None) -> Decided:
        return Decided(choice, calibrated, {**self.record, **as_mapping(choice)}, tuple(self.notes), judged)


def decide(
    backend: Backend,
    model: Model,
    data: Dataset,
    calibrated: Calibrated,
    options: Int8Options,
    tell: Callable[[str], None] | None = None,
    progress: Progress | None = None,
    asked: ExportOptions | None = None,
    golden: Golden | None = None,
) -> Decided:
    """What an int8 export to a backend is made with: weight bits and layers that suit the CPU, then the climb.

    Args:
        backend: whose target it is.
        model: the float model.
        data: its validation images judge; calibration took others.
        calibrated: graph and ranges.
        options: what was asked for.
        tell: is told a line for each rung, and for each division that was timed.
        progress: is told (what, rounds done, rounds in all) of the timing.
        asked: the export's other options; where one image comes at a time, linear layers may be read in blocks.
        golden: images and the truth; where the runtime computes something else than the plan, nothing is timed.

    Raises:
        UsageError: a plan that is none, or not of this model.
    """
    asked, tell = asked or ExportOptions("int8"), tell or (lambda _line: None)
    if options.plan is not None:
        decided = _by_plan(options.plan, backend, model, calibrated, asked)
        for note in decided.notes[len(calibrated.notes) :]:
            tell(note)
        return decided
    single = takes_one(asked.batch)
    table = calibrated.table
    record = {"calibration": {"images": table.images, "data": table.data, "weights": table.weights}}
    story = _Story(tell, dict(record), list(calibrated.notes))
    base, extra = starting_choice(backend.name, model.learned, options.weight_bits)
    base = backend.start(base, asked)
    for note in extra:
        story.say(note)
    if progress is not None:
        progress(f"{backend.name}: the yardstick of int8", 0, 0)
    first, judged = base, None if golden is None else int8_yardstick(golden, backend, model, calibrated, base)
    wrong = None if judged is None else unfaithful(backend, model, calibrated, base, judged)
    if wrong is not None:  # the export refuses it, and keeps what was made: no minute of timing before that
        story.say(f"int8 is neither timed nor searched for: {wrong}")
        return story.end(base, calibrated, judged)
    timed = options.never_slower and times_here(backend)
    times: list[str] = []
    if timed:
        by_time = never_slower(backend, model, calibrated, base, single, story.tell, progress)
        base = by_time.choice
        times += by_time.lines
        story.record["timed"] = times
        story.notes += by_time.notes
    judge = _judge(model, data, calibrated, options.max_drop)
    if isinstance(judge, str):
        if options.max_drop is not None:
            raise UsageError(f"max_drop cannot be judged: {judge.partition(':')[0]}", fix="leave it out")
        story.say(f"int8: {judge}")
        story.record["climb"] = []
        return story.end(base, calibrated, judged if base == first else None)
    choice, own = _by_accuracy(backend, model, data, calibrated, base, judge, options.max_drop, story, progress)
    if timed and choice.keep.keys() != base.keep.keys():
        times.append(time_again(backend, model, calibrated, choice, progress))
        story.say(times[-1])
    return story.end(choice, own, judged if choice == first and own is calibrated else None)


def times_here(backend: Backend) -> bool:
    """Whether this machine can run what the backend writes, on the device that its int8 is for."""
    rules, here = backend.info.int8, backend.available()
    return rules is not None and isinstance(here, Available) and rules.device in here.devices


def _by_plan(path: Path, backend: Backend, model: Model, calibrated: Calibrated, asked: ExportOptions) -> Decided:
    """The choices of an earlier export; linear layers are read in blocks only where one image comes at a time."""
    choice, single = read_plan(path, calibrated), takes_one(asked.batch)
    if choice.method == "learned" and (model.learned is None or model.learned.target != backend.name):
        raise UsageError(
            f"{path} takes ranges that were learned for {backend.name}, and this model has none",
            fix="give the plan of an export without them, or a run of `zoo train --qat`",
        )
    own = equalised(calibrated, model.spec) if choice.equalised else calibrated
    notes = calibrated.notes
    rules = backend.info.int8
    blocks = choice.blocks and rules is not None and rules.reads_blocks
    if blocks:
        instead = f"{IN_BLOCKS}: {UNPORTABLE}"
        notes = (*notes, instead if single else "the plan reads linear layers in blocks: left out without --batch 1")
    choice = backend.start(replace(choice, blocks=blocks and single), asked)
    if rules is not None and rules.engine and engine_of(path) and not choice.fused:
        notes = (*notes, f"the plan is of a file for torch's engine {engine_of(path)}: left out without --set")
    record = {"plan": str(path), **as_mapping(choice), **measured_before(path)}
    return Decided(choice, own, record, notes)


def _judge(
    model: Model, data: Dataset, calibrated: Calibrated, max_drop: float | None, others: bool = False
) -> Judge | str:
    """Images that choose, or with `others` those that judge what was chosen, with the float graph's answers."""
    choosing = judged_by(len(data.val), max_drop)
    graph = calibrated.graph.SerializeToString()
    with OrtRunner(model.spec.name, model.spec, Path("model.onnx"), "cpu", graph) as runner:
        return make_judge(model.spec, data, model.meaningful, runner.run, choosing, choosing if others else 0)


def _by_accuracy(
    backend: Backend,
    model: Model,
    data: Dataset,
    calibrated: Calibrated,
    base: Choice,
    judge: Judge,
    max_drop: float | None,
    story: _Story,
    progress: Progress | None,
) -> tuple[Choice, Calibrated]:
    """Climb until accuracy holds, give layers back where a drop was asked for, and judge that on other images."""
    again = cache(lambda: equalised(calibrated, model.spec))

    def render(one: Choice) -> Runner:
        return backend.candidate(model, again() if one.equalised else calibrated, one)

    rungs = rungs_for(base, list_layers(calibrated.graph), depthwise_layers(calibrated.graph))
    choice, tried = climb(judge, render, rungs, story.tell, max_drop)
    own = again() if choice.equalised else calibrated
    story.record["climb"] = [one.as_mapping() for one in tried]
    story.notes.append(f"int8: {choice}, on rung {len(tried)} of {len(rungs)}")
    if base.method == "learned" and choice.method != "learned":
        story.notes.append(f"int8: without the ranges that training learned: {tried[0].gate.reason}")
    tries = len(tried)
    if max_drop is not None and tried[-1].gate.verdict != "pass":
        images = np.concatenate([*islice(judge.images(), 2)])[:COMPARED]
        costs = measure_costs(backend, model, own, choice, images, progress)
        choice, given = hold_drop(judge, render, choice, costs, max_drop, story.tell)
        story.record["costs"] = [one.as_mapping() for one in costs.layers]
        story.record["given_back"] = [{"layers": len(one.choice.keep), **one.as_mapping()} for one in given]
        story.notes.append(f"int8: {len(choice.keep)} layers float, so that {given[-1].gate.reason}")
        tries += len(given)
    if tries > 1:
        others = _judge(model, data, calibrated, max_drop, others=True)
        told, story.record["confirmed"] = confirm(others, render, choice, tries, max_drop)
        story.say(told)
    return choice, own


def int8_yardstick(golden: Golden, backend: Backend, model: Model, calibrated: Calibrated, choice: Choice) -> Golden:
    """The golden answers with the yardstick of a choice; layers that the backend has no integer kernel for stay float.

    Args:
        golden: images and the truth.
        backend: whose rules round.
        model: the float model.
        calibrated: graph and ranges.
        choice: the plan.
    """
    if golden.truth is None:
        return golden
    also = dict.fromkeys(backend.float_layers(calibrated, choice), "no integer kernel")
    planned = replace(choice, keep={**also, **choice.keep})
    return with_yardstick(golden, model, "int8", target=backend.name, calibrated=calibrated, choice=planned)


def unfaithful(backend: Backend, model: Model, calibrated: Calibrated, choice: Choice, judged: Golden) -> str | None:
    """Why this machine's runtime does not compute what a choice plans; None where it does, or nobody can tell."""
    if judged.truth is None or judged.yardstick is None:
        return None
    with backend.candidate(model, calibrated, choice) as runner:
        got = runner.run(model.prepared(judged.images))
    gate = judge_faithful(judged.truth, judged.yardstick, got, "int8", jitter=judged.jitter)
    return gate.reason if gate.verdict == "fail" else None


def require_enough(model: Model, data: Dataset, max_drop: float) -> None:
    """Raise before anything is searched where the validation images could never show an asked-for drop.

    Raises:
        InconclusiveError: fewer images than would show it even if int8 changed no answer.
    """
    judging, needed = judged_by(len(data.val), max_drop), images_for_none(max_drop)
    if model.meaningful and judging < needed:
        total = needed if len(data.val) < 2 * JUDGED else 2 * needed
        raise InconclusiveError(
            f"--max-drop {100 * max_drop:g}: it takes at least {needed} images to show a drop that small, even if no "
            f"answer changes, and {judging} of the {len(data.val)} validation images judge it",
            fix=f"give {total} validation images or more, or allow more with --max-drop",
        )


def takes_one(batch: Batch | None) -> bool:
    """Whether an artifact with these sizes takes one image at a time."""
    return batch is not None and batch.max == 1


def judged_by(images: int, max_drop: float | None) -> int:
    """How many validation images choose; as many others, where there are, judge what was chosen."""
    if max_drop is None:
        return min(JUDGED, images)
    return min(JUDGED_CLOSELY, images // 2 if images >= 2 * JUDGED else images)


def confirm(
    others: Judge | str, render: Callable[[Choice], Runner], choice: Choice, tries: int, max_drop: float | None
) -> tuple[str, dict[str, object] | None]:
    """What was chosen among several ways, judged on images that chose nothing: in words, and as a mapping.

    Args:
        others: such images, or why there are none.
        render: a choice as a runner.
        choice: what was chosen.
        tries: ways that the first images judged.
        max_drop: what was asked for, as a share.

    Raises:
        GateError: an asked-for drop certainly does not hold on them.
        InconclusiveError: they cannot tell.
    """
    if isinstance(others, str):
        return f"int8: {tries} methods were tried; no separate images are left to confirm the choice", None
    with render(choice) as runner:
        paired = measure_accuracy(others.reference, answers(others, runner.run), others.labels)
    gate = judge_accuracy(paired, "int8", numerics_passed=True, limit=max_drop)
    seen = f"int8 on {len(others.labels):,} images that did not choose among the {tries} ways"
    told = f"{seen}: {gate.verdict}: {gate.reason}"
    if max_drop is not None and gate.verdict != "pass":
        refusal = GateError if gate.verdict == "fail" else InconclusiveError
        raise refusal(f"{told}; nothing was written", fix="allow more with --max-drop, or give more validation images")
    return told, gate.as_mapping()
