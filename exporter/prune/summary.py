"""What came of pruning, in numbers and in two sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...calibration.pruning.sparsity import Sparsity
from ...calibration.pruning.stages import stage_of
from ...calibration.pruning.structured import Pruned
from ...models.runs import Run
from ..backends.infos import backend_info
from ..checks.gate import Gate
from ..timing.setup import default_threads
from .latency_target import left
from .options import BLOCK, PruneOptions
from .width_baseline import Beside

BUSY = 1.25  # times as long in one round as in another: something else ran


@dataclass(frozen=True)
class Report:
    """What came of it.

    Attributes:
        run: as written.
        pruned: which channels went.
        before: top-1 of the model as it was.
        without: top-1 after pruning, before the recovery.
        ratios: time before over time after, one a round; empty where it was not measured.
        beside: the smaller width, or why there is none.
        sparsity: zeros of each layer, where a pattern was asked for.
        gate: whether the drop holds, where that was asked for.
    """

    run: Run
    pruned: Pruned
    before: float
    without: float
    ratios: tuple[float, ...] = ()
    beside: Beside | str = ""
    sparsity: tuple[Sparsity, ...] = field(default=())
    gate: Gate | None = None

    @property
    def latency(self) -> float | None:
        """The share of the time that is left."""
        return left(self.ratios) if self.ratios else None

    @property
    def zeros(self) -> float:
        """The share of all weights that are zero."""
        total = sum(one.weights for one in self.sparsity)
        return sum(one.zeros for one in self.sparsity) / total if total else 0.0

    def as_mapping(self) -> dict[str, Any]:
        """As --json shows it."""
        pruned = self.pruned
        return {
            "accuracy": self.run.reached.accuracy,
            "accuracy_before": self.before,
            "accuracy_without_recovery": self.without,
            "images": self.run.reached.images,
            "macs": pruned.macs / pruned.macs_before,
            "parameters": pruned.parameters / pruned.parameters_before,
            "latency": self.latency,
            "latency_ratios": list(self.ratios),
            "groups": [vars(group) for group in pruned.groups],
            "stays": dict(pruned.stays),
            "beside": self.beside if isinstance(self.beside, str) else vars(self.beside),
            "zeros": self.zeros,
            "sparsity": [vars(one) for one in self.sparsity],
            "gate": None if self.gate is None else self.gate.as_mapping(),
        }


def told_of(report: Report, options: PruneOptions) -> str:
    """The first line: what it brought, and first of all if it is slower."""
    accuracy = report.run.reached.accuracy
    drop = 100 * (report.before - accuracy)
    gained = f"top-1 {accuracy:.2%} in fp32, {abs(drop):.2f} points {'less' if drop > 0 else 'more'} than before"
    if not options.structured:
        return f"{told_zeros(report, options)}; {gained}"
    share = f"{report.pruned.macs / report.pruned.macs_before:.1%} of the MACs left"
    if report.latency is None:
        return f"{share}; {gained}; latency was not measured"
    slower = "slower than before: " if report.latency > 1 else ""
    rounding = f" (channels that are no multiple of {BLOCK} are slow: --round-to {BLOCK})"
    hint = rounding if slower and options.round_to % BLOCK else ""
    return f"{slower}{speed_of(report.ratios, options.target)} and {share}{hint}; {gained}"


def told_zeros(report: Report, options: PruneOptions) -> str:
    """What zeros there are, and what they are good for."""
    sparse = [one for one in report.sparsity if not one.dense]
    if options.pattern == "2:4":
        return (
            f"2:4 sparse in {len(sparse)} of {len(report.sparsity)} layers, {report.zeros:.0%} of all weights are "
            "zero: faster only on NVIDIA GPUs from Ampere on, by TensorRT, and no faster on a CPU (not measured)"
        )
    return f"{report.zeros:.0%} of all weights are zero: that makes no runtime faster by itself, so none was timed"


def told_beside(report: Report, options: PruneOptions) -> str:
    """The second line: the smaller width, and which of the two is better."""
    other = report.beside
    if isinstance(other, str):
        return other
    speed = f", {speed_of(other.ratios, options.target)}" if other.ratios else ""
    share = other.macs / report.pruned.macs_before
    own = report.run.reached.accuracy
    better = "the smaller width is better" if other.top1 > own else "the pruned one is better"
    if other.top1 == own:
        better = "both are alike"
    made = f"beside it, width {other.width:g} from scratch: top-1 {other.top1:.2%}"
    return f"{made}{speed}, {share:.1%} of the MACs; {better}"


def speed_of(ratios: tuple[float, ...], target: str) -> str:
    """The share of the latency that is left, with its conditions."""
    low, middle, high = 1 / max(ratios), left(ratios), 1 / min(ratios)
    runtime = backend_info(target).runtime
    busy = "; the rounds differ: measure on a quiet machine" if high > BUSY * low else ""
    conditions = f"{runtime} fp32, batch 1, {default_threads()} threads{busy}"
    return f"{middle:.2f} of the latency ({low:.2f} to {high:.2f}; {conditions})"


def told_stays(stays: Mapping[str, str], most: int = 4) -> list[str]:
    """Return lines that say which layers keep all their channels, and why; the first few of them in full."""
    by_reason: dict[str, list[str]] = {}
    for root, why in stays.items():
        by_reason.setdefault(why, []).append(root)
    lines = [f"{_some(roots)} keep all channels: {why}" for why, roots in by_reason.items()]
    return lines if len(lines) <= most else [*lines[:most], "more layers keep all channels: run.json names them"]


def _some(names: Sequence[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def told_channels(report: Report) -> str:
    """How many channels each stage has left."""
    stages: dict[str, list[int]] = {}
    for group in report.pruned.groups:
        both = stages.setdefault(stage_of(group.root), [0, 0])
        both[0], both[1] = both[0] + group.kept, both[1] + group.channels
    return "channels left: " + ", ".join(f"{name} {kept} of {all_}" for name, (kept, all_) in stages.items())
