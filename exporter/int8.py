"""int8: a calibration in, a choice out. Divides layers by measured time, then climbs to the cheapest way that holds."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..calibration.choice import Calibrated, Choice
from ..calibration.images import DEFAULT_IMAGES
from ..calibration.ranges import ALL_METHODS
from ..config import read_json
from ..errors import GateError, UsageError, one_line
from ..models.data.dataset import Dataset
from .artifact import Batch
from .backends.base import Backend, Timing
from .backends.layers import list_layers
from .backends.onnx import OrtRunner
from .backends.runner import Runner
from .calibrate import Progress, equalised
from .checks.accuracy import judge_accuracy, measure_accuracy
from .climb import JUDGED, Judge, answers, climb, depthwise_layers, make_judge, rungs_for
from .costs import hold_drop, measure_costs
from .faster import ALIKE, Timed, fastest, measure

if TYPE_CHECKING:
    from ..models.runs import Learned
    from ..models.sources import Model

COMPARED = 64  # images that a layer's cost is measured on
JUDGED_CLOSELY = 10_000  # images, when a drop was asked for


@dataclass(frozen=True)
class Int8Options:
    """How an int8 export is made.

    Attributes:
        images: for calibration.
        never_slower: turn layers back to float until the runtime at hand is not slower than with the float graph.
        weight_bits: 8 or 7; None for what suits this CPU.
        plan: artifact.json of an earlier int8 export: the same choices again, without measuring.
        max_drop: the largest drop of top-1 that is accepted, as a share of the images; layers are given back to float
            until it holds. None: the gate's own limit judges, and no layer is given back.
    """

    images: int = DEFAULT_IMAGES
    never_slower: bool = True
    weight_bits: int | None = None
    plan: Path | None = None
    max_drop: float | None = None

    def __post_init__(self) -> None:
        if self.max_drop is not None and not 0 < self.max_drop < 1:
            raise UsageError(
                f"max_drop must be above 0 and below 100 points, got {100 * self.max_drop:g}", fix="for example 0.5"
            )
        if self.max_drop is not None and self.plan is not None:
            raise UsageError("max_drop measures, a plan repeats without measuring", fix="give one of them")
        if self.images < 1 or self.weight_bits not in (None, 7, 8):
            raise UsageError(f"images must be at least 1 and weight_bits 7 or 8, got {self}")


@dataclass(frozen=True)
class Decided:
    """A backend's choice, the calibration it is rendered from, and how it came about."""

    choice: Choice
    calibrated: Calibrated
    record: dict[str, object] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def decide(
    backend: Backend,
    model: Model,
    data: Dataset,
    calibrated: Calibrated,
    options: Int8Options,
    tell: Callable[[str], None] | None = None,
    progress: Progress | None = None,
    batch: Batch | None = None,
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
        batch: sizes that were asked for; where one image comes at a time, linear layers may be read in blocks.

    Raises:
        UsageError: a plan that is none, or not of this model.
    """
    if options.plan is not None:
        choice = read_plan(options.plan, calibrated)
        if choice.method == "learned" and (model.learned is None or model.learned.target != backend.name):
            raise UsageError(
                f"{options.plan} takes ranges that were learned for {backend.name}, and this model has none",
                fix="give the plan of an export without them, or a run of `zoo train --qat`",
            )
        own = equalised(calibrated, model.spec) if choice.equalised else calibrated
        record = {"plan": str(options.plan), **_as_mapping(choice), **measured_before(options.plan)}
        return Decided(choice, own, record, calibrated.notes)
    tell = tell or (lambda _line: None)
    base, extra = starting_choice(backend.name, model.learned, options.weight_bits)
    for note in extra:
        tell(note)
    table = calibrated.table
    record: dict[str, object] = {
        "calibration": {"images": table.images, "data": table.data, "weights": table.weights},
    }
    notes = (*calibrated.notes, *extra)
    timing = backend.timing(model, calibrated) if options.never_slower else None
    times: list[str] = []
    if timing is not None:
        base, timed = _never_slower(timing, model, calibrated, base, tell, progress)
        times += map(str, timed)
        if (
            timing.blocks
            and batch is not None
            and batch.max == 1
            and base.method != "learned"
            and base.weight_bits == 8
        ):
            base, told = _in_blocks(timing, model, base, progress)
            times.append(told)
            tell(told)
        record["timed"] = times
        best = next(one for one in timed if one.keep == frozenset(base.keep))
        notes = (*notes, f"int8: {best}", *(times[-1:] if base.blocks else []))
        if best.ratio < 1:
            slow = f"int8 is slower than float on this CPU ({best.ratio:.2f} times as fast), whatever stays float"
            notes = (*notes, slow)
            tell(slow)
    choosing = judged_by(len(data.val), options.max_drop)

    def judges(after: int) -> Judge | str:
        graph = calibrated.graph.SerializeToString()
        with OrtRunner(model.spec.name, model.spec, Path("model.onnx"), "cpu", graph) as runner:
            return make_judge(model.spec, data, model.meaningful, runner.run, choosing, after)

    judge = judges(0)
    if isinstance(judge, str):
        if options.max_drop is not None:
            raise UsageError(f"max_drop cannot be judged: {judge.partition(':')[0]}", fix="leave it out")
        tell(f"int8: {judge}")
        return Decided(base, calibrated, {**record, **_as_mapping(base), "climb": []}, (*notes, f"int8: {judge}"))
    again = cache(lambda: equalised(calibrated, model.spec))

    def render(one: Choice) -> Runner:
        return backend.candidate(model, again() if one.equalised else calibrated, one)

    rungs = rungs_for(base, list_layers(calibrated.graph), depthwise_layers(calibrated.graph))
    choice, tried = climb(judge, render, rungs, tell, options.max_drop)
    own = again() if choice.equalised else calibrated
    record["climb"] = [one.as_mapping() for one in tried]
    notes = (*notes, f"int8: {choice}, on rung {len(tried)} of {len(rungs)}")
    if base.method == "learned" and choice.method != "learned":
        notes = (*notes, f"int8: without the ranges that training learned: {tried[0].gate.reason}")
    tries = len(tried)
    if options.max_drop is not None and tried[-1].gate.verdict != "pass":
        images = np.concatenate([*islice(judge.images(), 2)])[:COMPARED]
        costs = measure_costs(backend, model, own, choice, images, progress)
        choice, given = hold_drop(judge, render, choice, costs, options.max_drop, tell)
        record["costs"] = [one.as_mapping() for one in costs.layers]
        record["given_back"] = [{"layers": len(one.choice.keep), **one.as_mapping()} for one in given]
        notes = (*notes, f"int8: {len(choice.keep)} layers float, so that {given[-1].gate.reason}")
        tries += len(given)
    if tries > 1:
        told, confirmed = confirm(judges(choosing), render, choice, tries, options.max_drop)
        record["confirmed"] = confirmed
        notes = (*notes, told)
        tell(told)
    if timing is not None and choice.keep.keys() != base.keep.keys():
        times.append(_timed_again(timing, model, choice, progress))
        notes = (*notes, times[-1])
        tell(times[-1])
    return Decided(choice, own, {**record, **_as_mapping(choice)}, notes)


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
        GateError: an asked-for drop does not hold on them.
    """
    if isinstance(others, str):
        return f"int8: one of {tries} ways, chosen by the images that judge it, and there are no others", None
    with render(choice) as runner:
        paired = measure_accuracy(others.reference, answers(others, runner.run), others.labels)
    gate = judge_accuracy(paired, "int8", numerics_passed=True, limit=max_drop)
    seen = f"int8 on {len(others.labels):,} images that did not choose among the {tries} ways"
    told = f"{seen}: {gate.verdict}: {gate.reason}"
    if max_drop is not None and gate.verdict != "pass":
        raise GateError(told, fix="allow more, or give more validation images")
    return told, gate.as_mapping()


def _never_slower(
    timing: Timing,
    model: Model,
    calibrated: Calibrated,
    base: Choice,
    tell: Callable[[str], None] | None,
    progress: Progress | None,
) -> tuple[Choice, list[Timed]]:
    def render(keep: frozenset[str]) -> bytes:
        return timing.render(replace(base, keep=dict.fromkeys(keep, "")))

    told = None if progress is None else lambda done, total: progress("timing int8", done, total)
    layers = list_layers(calibrated.graph)
    best, timed = fastest(calibrated.graph, layers, render, model.spec.input, told, timing.reference, timing.suffix)
    if tell is not None:
        for one in timed:
            tell(f"int8, {one}")
    return replace(base, keep=dict.fromkeys(best.keep, f"measured: {best}")), timed


def _in_blocks(timing: Timing, model: Model, base: Choice, progress: Progress | None) -> tuple[Choice, str]:
    """The choice with linear layers in blocks where that is faster, and how much."""
    told = None if progress is None else lambda done, total: progress("timing linear layers", done, total)
    blocked = replace(base, blocks=True)
    files = {"blocks": timing.render(blocked)}
    ratios = measure(timing.render(base), files, (1, *model.spec.input), told, timing.suffix)["blocks"]
    faster = statistics.median(ratios) > 1 / ALIKE
    spread = f"{statistics.median(ratios):.2f} times as fast ({min(ratios):.2f} to {max(ratios):.2f})"
    kept = "; no other runtime reads the file" if faster else ", so they are not"
    return blocked if faster else base, f"int8 with linear layers read in blocks, one image at a time: {spread}{kept}"


def _timed_again(timing: Timing, model: Model, choice: Choice, progress: Progress | None) -> str:
    """What a choice that the climb changed takes; how its weights are rounded makes no difference to that."""
    files = {"int8": timing.render(replace(choice, equalised=False, adaround=False))}
    told = None if progress is None else lambda done, total: progress("timing int8", done, total)
    ratios = measure(timing.reference, files, (1, *model.spec.input), told, timing.suffix)["int8"]
    middle = statistics.median(ratios)
    slower = ", slower than float on this CPU" if middle < 1 else ""
    spread = f"({min(ratios):.2f} to {max(ratios):.2f})"
    return f"int8 with the layers that accuracy wants in float: {middle:.2f} times as fast as float {spread}{slower}"


def read_plan(path: Path, calibrated: Calibrated) -> Choice:
    """The choice that an earlier export recorded.

    Raises:
        UsageError: no artifact.json of an int8 export there, or one of another model.
    """
    choice, plan = parse_plan(path)
    known = {layer.name for layer in list_layers(calibrated.graph)}
    if plan != known:
        raise UsageError(f"{path} is the plan of another model: {len(plan ^ known)} layers differ")
    return choice


def parse_plan(path: Path) -> tuple[Choice, frozenset[str]]:
    """The choice that an earlier export recorded, and the names of its layers.

    Raises:
        UsageError: no artifact.json of an int8 export there.
    """
    data = read_json(path / "artifact.json" if path.is_dir() else path)
    try:
        made, plan = data["options"]["int8"], {layer["name"]: layer for layer in data["plan"]}
        facts = [made["bias_correction"], *(made.get(one, False) for one in ("equalised", "adaround", "blocks"))]
        if made["method"] not in ALL_METHODS or made["weight_bits"] not in (7, 8):
            raise ValueError(f"method {made['method']!r}, weight_bits {made['weight_bits']!r}")
        if not all(isinstance(one, bool) for one in facts) or len(plan) != len(data["plan"]):
            raise ValueError(f"true or false is expected, got {facts}, and each layer once")
        keep = {name: layer["reason"] or "plan" for name, layer in plan.items() if layer["precision"] != "int8"}
        corrected, equal, rounded, blocks = facts
        return Choice(made["method"], corrected, equal, rounded, made["weight_bits"], blocks, keep), frozenset(plan)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(
            f"{path} holds no int8 plan ({one_line(error)})", fix="give the artifact.json of one"
        ) from error


def measured_before(path: Path) -> dict[str, object]:
    """What the export that made a plan measured: it may be about to be replaced by one that measures nothing."""
    made = read_json(path / "artifact.json" if path.is_dir() else path)["options"]["int8"]
    before = {key: made[key] for key in ("timed", "climb", "confirmed", "costs", "given_back") if key in made}
    return {"measured_before": made.get("measured_before", before)}


def _as_mapping(choice: Choice) -> dict[str, object]:
    return {
        "method": choice.method,
        "bias_correction": choice.bias_correction,
        "equalised": choice.equalised,
        "adaround": choice.adaround,
        "weight_bits": choice.weight_bits,
        "blocks": choice.blocks,
        "kept_float": len(choice.keep),
    }


def starting_choice(backend: str, learned: Learned | None, bits: int | None) -> tuple[Choice, tuple[str, ...]]:
    """The cheapest way: what training with fake quantisation learned for this target, else min-max; and notes."""
    suits = suitable_bits(backend, cpu_flags())
    if learned is None:
        return Choice(weight_bits=bits or suits), ()
    if learned.target != backend:
        note = f"trained with fake quantisation for {learned.target}: ranges for {backend} are calibrated"
        return Choice(weight_bits=bits or suits), (note,)
    bits = bits or learned.bits
    more = () if bits == learned.bits else (f"trained for {learned.bits}-bit weights, exported with {bits}",)
    if bits > suits:
        more = (*more, f"{bits}-bit weights, as trained: on this CPU, which has no VNNI, sums of products may saturate")
    return Choice("learned", weight_bits=bits), more


def suitable_bits(backend: str, flags: frozenset[str]) -> int:
    """7-bit weights where a runtime's kernels would add pairs of products in 16 bits: x86 without VNNI or AMX."""
    vnni = flags & {"avx512_vnni", "avx_vnni", "amx_int8"}
    return 7 if backend in ("onnx", "torchscript") and "sse2" in flags and not vnni else 8


def cpu_flags() -> frozenset[str]:
    """What /proc/cpuinfo says the first processor can; empty where it cannot be read."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return frozenset()
    line = next((one for one in text.splitlines() if one.split(":")[0].strip() in ("flags", "Features")), "")
    return frozenset(line.partition(":")[2].split())
