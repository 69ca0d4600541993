"""Giving layers back to float, the best bargain first, until the drop of top-1 is within a limit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from ...calibration.choice import Choice
from ...calibration.sensitivity import Cost, give_back_order
from ...errors import GateError, InconclusiveError
from ..backends.runner import Runner
from ..checks.accuracy import judge_accuracy, measure_accuracy
from ..checks.gate import Gate
from .candidates import Judge, Tried, answers
from .layer_costs import Costs
from .partition import HALF


def hold_drop(
    judge: Judge,
    render: Callable[[Choice], Runner],
    choice: Choice,
    costs: Costs,
    max_drop: float,
    tell: Callable[[str], None],
) -> tuple[Choice, tuple[Tried, ...]]:
    """Give layers back to float, the best bargain first, until the drop of top-1 is within a limit.

    Twice as many each time, then halving between the last that failed and the first that held; at least half of the
    MACs stay integer.

    Args:
        judge: images that no calibration saw.
        render: a choice as a runner.
        choice: where to start; it did not hold.
        costs: of the layers.
        max_drop: share of the images, one-sided with 95 % certainty.
        tell: is told a line for each number of layers that was tried.

    Raises:
        GateError: nothing held, certainly; the best drop is named.
        InconclusiveError: nothing was shown to hold.
    """
    order = tuple(_affordable(give_back_order(costs.layers), costs.layers))
    by_name = {one.name: one for one in costs.layers}
    tried: list[Tried] = []

    def attempt(count: int) -> Gate:
        own = replace(choice, keep={**choice.keep, **{name: _reason(by_name[name]) for name in order[:count]}})
        with render(own) as runner:
            got = answers(judge, runner.run)
        paired = measure_accuracy(judge.reference, got, judge.labels)
        gate = judge_accuracy(paired, "int8", numerics_passed=True, limit=max_drop)
        tried.append(Tried(own, gate))
        layers = f"{count} layer{'' if count == 1 else 's'}"
        tell(f"int8 with {layers} kept in float: {gate.verdict}: {gate.reason}")
        return gate

    failed, held = 0, None  # nothing given back was tried by the climb
    for count in _doubling(len(order)):
        if attempt(count).verdict == "pass":
            held = count
            break
        failed = count
    if held is None:
        best = min(tried, key=lambda one: one.gate.numbers["drop_high"], default=None)
        certain = best is None or best.gate.verdict == "fail"
        raise (GateError if certain else InconclusiveError)(
            f"a drop of at most {100 * max_drop:g} points was not shown with half of the MACs in int8; "
            f"{f'the best was: {best.gate.reason}' if best else 'no layer is better in float'}",
            fix="allow more with --max-drop, or give more validation images",
        )
    winner = tried[-1]
    while held - failed > 1:
        middle = (held + failed) // 2
        if attempt(middle).verdict == "pass":
            held, winner = middle, tried[-1]
        else:
            failed = middle
    return winner.choice, tuple(tried)


def _affordable(order: Sequence[str], costs: Sequence[Cost]) -> Iterator[str]:
    """The names in order, as long as half of the MACs stay integer."""
    macs = {one.name: one.macs for one in costs}
    left = total = sum(macs.values()) or 1
    for name in order:
        if left - macs[name] >= HALF * total:
            left -= macs[name]
            yield name


def _doubling(largest: int) -> Iterator[int]:
    count = 1
    while count < largest:
        yield count
        count *= 2
    if largest:
        yield largest


def _reason(cost: Cost) -> str:
    price = "" if cost.saved is None else f", int8 saves {cost.saved:.0f} us"
    return f"given back: float saves {cost.brought:.2g} nats of KL{price}"
