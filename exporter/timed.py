"""An int8 choice by time: which layers stay float and which are read in blocks, as measured on this machine."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..calibration.choice import Calibrated, Choice
from .backends.base import Timing
from .backends.graph.layers import list_layers
from .quantize.calibrate import Progress
from .quantize.partition import ALIKE, fastest, measure

if TYPE_CHECKING:
    from ..models.sources import Model


IN_BLOCKS = "int8 with linear layers read in blocks"
UNPORTABLE = "no other runtime reads the file"


@dataclass(frozen=True)
class ByTime:
    """What timing decided.

    Attributes:
        choice: with the layers that stay float.
        lines: of each division that was timed.
        notes: of the one that was taken.
    """

    choice: Choice
    lines: tuple[str, ...]
    notes: tuple[str, ...]


def never_slower(
    timing: Timing,
    model: Model,
    calibrated: Calibrated,
    base: Choice,
    single: bool,
    tell: Callable[[str], None],
    progress: Progress | None = None,
) -> ByTime:
    """The fastest division between int8 and float, and whether linear layers are faster in blocks.

    Args:
        timing: how the backend's files are made.
        model: the float model.
        calibrated: graph and ranges.
        base: bits and ranges.
        single: the artifact takes one image at a time, for which blocks are.
        tell: is told a line for each that was timed.
        progress: is told (what, rounds done, rounds in all).
    """
    layers = list_layers(calibrated.graph)
    best, timed = fastest(
        calibrated.graph, layers, lambda keep: timing.render(replace(base, keep=dict.fromkeys(keep, ""))),
        model.spec.input, _told(progress, "timing int8"), timing.reference, timing.suffix,
    )  # fmt: skip
    for one in timed:
        tell(f"int8, {one}")
    lines, notes = [str(one) for one in timed], [f"int8: {best}"]
    ratio = best.ratio
    choice = replace(base, keep=dict.fromkeys(best.keep, f"measured: {best}"))
    if timing.blocks - choice.keep.keys() and single and base.method != "learned" and base.weight_bits == 8:
        choice, gain, line = _in_blocks(timing, model, choice, progress)
        tell(line)
        lines.append(line)
        ratio *= gain
        notes += [line] if choice.blocks else []
    if slower := slower_in_words(ratio, best.high * ratio / best.ratio):
        notes.append(slower)
        tell(slower)
    return ByTime(choice, tuple(lines), tuple(notes))


def slower_in_words(ratio: float, high: float) -> str:
    """What to say of the fastest division between int8 and float; "" where it is as fast as float or faster.

    Args:
        ratio: float's time over its own, the median of the rounds.
        high: the largest of a round.
    """
    if ratio >= 1:
        return ""
    if high > 1:
        return f"whether int8 is slower than float here cannot be told ({ratio:.2f} times as fast, up to {high:.2f})"
    return f"int8 is slower than float on this CPU in every division that was tried ({ratio:.2f} times as fast)"


def _in_blocks(timing: Timing, model: Model, base: Choice, progress: Progress | None) -> tuple[Choice, float, str]:
    """The choice with linear layers in blocks where that is faster, how much faster, and in words."""
    blocked = replace(base, blocks=True)
    files = {"blocks": timing.render(blocked)}
    told = _told(progress, "timing linear layers")
    ratios = measure(timing.render(base), files, (1, *model.spec.input), told, timing.suffix)["blocks"]
    gain = statistics.median(ratios)
    told = f"{IN_BLOCKS}, one image at a time: {gain:.2f} times as fast ({min(ratios):.2f} to {max(ratios):.2f})"
    if gain <= 1 / ALIKE:
        return base, 1.0, f"{told}, so they are not"
    return blocked, gain, f"{told}; {UNPORTABLE}"


def time_again(timing: Timing, model: Model, choice: Choice, progress: Progress | None = None) -> str:
    """What a choice that the climb changed takes; how its weights are rounded makes no difference to that."""
    files = {"int8": timing.render(replace(choice, equalised=False, adaround=False))}
    told = _told(progress, "timing int8")
    ratios = measure(timing.reference, files, (1, *model.spec.input), told, timing.suffix)["int8"]
    middle = statistics.median(ratios)
    slower = ", slower than float on this CPU" if middle < 1 else ""
    spread = f"({min(ratios):.2f} to {max(ratios):.2f})"
    return f"int8 with the layers that accuracy wants in float: {middle:.2f} times as fast as float {spread}{slower}"


def _told(progress: Progress | None, what: str) -> Callable[[int, int], None] | None:
    return None if progress is None else lambda done, total: progress(what, done, total)
