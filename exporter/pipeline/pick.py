"""Which artifact to take on a device, and why none of the others. Pure.

The fastest that passed its gates. Of several that none is measurably faster than, the most accurate is taken, as long
as no other one beats it in both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..report.figures import pareto_front

UNCHECKED = "not checked"  # begins what is against a candidate that no gate judged


@dataclass(frozen=True)
class Candidate:
    """An artifact on one device.

    Attributes:
        name: resnet18/onnx-int8.
        out: why it cannot be taken, whatever its time: it failed a gate, was not checked, could not be made; "" if not.
        cost: milliseconds of a run, or bytes; None where it was not measured.
        low, high: the interval of the cost; None where it is not known.
        top1: share of right answers; None where it was not judged.
        missing: why there is no cost.
    """

    name: str
    out: str = ""
    cost: float | None = None
    low: float | None = None
    high: float | None = None
    top1: float | None = None
    missing: str = ""

    @property
    def span(self) -> tuple[float, float]:
        """The interval of the cost, which holds the cost; without one the cost alone."""
        cost = self.cost if self.cost is not None else 0.0
        return (min(cost, cost if self.low is None else self.low), max(cost, cost if self.high is None else self.high))

    @property
    def worth(self) -> float:
        """Its accuracy; one that is not known is worth less than any that is."""
        return -1.0 if self.top1 is None else self.top1


@dataclass(frozen=True)
class Pick:
    """What to take on a device.

    Attributes:
        device: where.
        artifact: which one; "" where there is none to take.
        sentence: says so in short.
        others: every other one with the reason why not, the nearest first.
    """

    device: str
    artifact: str
    sentence: str
    others: tuple[tuple[str, str], ...]


def eligible(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Those that may be taken: measured, and nothing against them; the cheapest first, then the most accurate."""
    found = [one for one in candidates if not one.out and one.cost is not None]
    return sorted(found, key=lambda one: (one.cost, -one.worth, one.name))


def front_of(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Those of the eligible that no other eligible one beats, the cheapest first.

    >>> [one.name for one in front_of([Candidate("a", cost=2, top1=0.9), Candidate("b", cost=2, top1=0.8)])]
    ['a']
    """
    able = eligible(candidates)
    return [able[index] for index in pareto_front([(one.cost or 0.0, one.worth) for one in able])]


def beaten_by(one: Candidate, candidates: Sequence[Candidate]) -> Candidate | None:
    """The cheapest of the front that costs no more and is worth no less than `one`; None where nothing beats it."""
    for other in front_of(candidates):
        no_worse = (other.cost or 0.0) <= (one.cost or 0.0) and other.worth >= one.worth
        if no_worse and (other.cost, other.worth) != (one.cost, one.worth):
            return other
    return None


def tied(one: Candidate, other: Candidate) -> bool:
    """Whether the intervals of their costs overlap."""
    return one.span[0] <= other.span[1] and other.span[0] <= one.span[1]


def surest(able: Sequence[Candidate]) -> Candidate:
    """The one whose interval ends first: whatever begins behind that is measurably slower."""
    return min(able, key=lambda one: (one.span[1], one.name))


def pick(device: str, candidates: Sequence[Candidate]) -> Pick:
    """What to take on a device, of its candidates in whatever order."""
    able = eligible(candidates)
    if not able:
        rest = sorted(candidates, key=lambda one: one.name)
        measured = sum(one.cost is not None for one in rest)
        missing = next((f": {one.missing}" for one in rest if one.missing), "")
        failed = f"none of {measured} that were measured passed its gates"
        if measured and all(one.out.startswith(UNCHECKED) for one in rest):
            failed = f"none of {measured} that were measured was checked"
        why = failed if measured else f"nothing was measured{missing}"
        return Pick(device, "", f"{device}: no artifact to take, {why}", tuple((one.name, lost(one)) for one in rest))
    alike = [one for one in front_of(able) if one.span[0] <= surest(able).span[1]]
    best = min(alike, key=lambda one: (-one.worth, one.cost, one.name))
    near = [one for one in able if one is not best and tied(one, best)]
    told = f"{device}: {best.name}, {milliseconds(best)}{accuracy(best, ', top-1 ')}"
    if near:
        more = f" and {len(near) - 1} more" if len(near) > 1 else ""
        choice = f"; {best.name} is the more accurate" if best.worth > max(one.worth for one in near) else ""
        told += f"; cannot be told apart from {near[0].name}{more} at 95 %{choice}"
    others = sorted((one for one in candidates if one is not best), key=_distance)
    return Pick(device, best.name, told, tuple((one.name, why_not(one, best, able)) for one in others))


def why_not(one: Candidate, best: Candidate, able: Sequence[Candidate]) -> str:
    """Why another was taken."""
    if one.out or one.cost is None:
        return lost(one)
    beater, first = beaten_by(one, able), surest(able)
    times = f"{milliseconds(one)} against {_number(best)}"
    if tied(one, best) and one.worth <= best.worth:
        alike = f"cannot be told apart from {best.name} at 95 %"
        if one.worth == best.worth:
            return f"{alike}, and as accurate: {times}" if one.top1 is not None else f"{alike}: {times}"
        return f"{alike}; {best.name} is the more accurate: {percent(best)} against {percent(one)}"
    if beater is not None:
        shares = f", top-1 {percent(one)} against {percent(beater)}" if one.worth < beater.worth else ""
        return f"dominated by {beater.name}: {milliseconds(one)} against {_number(beater)}{shares}"
    gain = f"; more accurate: {percent(one)} against {percent(best)}" if one.worth > best.worth else ""
    if tied(one, best):  # alike, and yet measurably slower than a third
        return f"slower than {first.name}: {milliseconds(one)} against {_number(first)}{gain}"
    return f"slower: {times}{gain}"


def lost(one: Candidate) -> str:
    """Why one that is not eligible is not."""
    return one.out or f"not measured here{f': {one.missing}' if one.missing else ''}"


def milliseconds(one: Candidate) -> str:
    """`1.30 ms (1.28 to 1.33)`, as far as it is known."""
    low, high = one.span
    interval = f" ({_digits(low)} to {_digits(high)})" if low < high else ""
    return f"{_number(one)} ms{interval}"


def accuracy(one: Candidate, before: str) -> str:
    """The share of right answers behind some words; "" where it is not known."""
    return "" if one.top1 is None else f"{before}{percent(one)}"


def percent(one: Candidate) -> str:
    """Its accuracy as people read it."""
    return "not known" if one.top1 is None else f"{one.top1:.2%}"


def _number(one: Candidate) -> str:
    return _digits(one.cost if one.cost is not None else 0.0)


def _digits(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"


def _distance(one: Candidate) -> tuple[bool, bool, float, str]:
    """Eligible ones by their cost, then those that were measured, then the rest."""
    return bool(one.out), one.cost is None, one.cost or 0.0, one.name
