"""Pruning by measured time: a table of layers proposes widths, the whole network is timed, and the aim is corrected."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from ...calibration.pruning.budget import Budget
from ...calibration.pruning.groups import Price, Structure, costs_of
from ...errors import InconclusiveError, UsageError
from ...models.sources import Model
from ..backends.registry import get_backend
from ..timing.engine import measure
from ..timing.layer_table import measure_times
from ..timing.openers import candidate_subject
from ..timing.setup import SELECT, Subject
from ..timing.statistics import round_ratios

CLOSE, WITHIN, TRIES = 0.05, 0.1, 6  # of what was asked: good enough, the most, and how often it is tried
NOISY = 1.15  # times as long as before for the same widths: nothing can be told from that
NEXT = 0.03  # shares of the layers' time that are as good as one

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Aimed:
    """What the table has to be asked for, so that the whole network takes what the user asked for.

    Attributes:
        budget: whose share is of the table's time.
        price: the table.
        measured: the share of the network's time that these widths have left.
        tried: (share of the table's time, share of the network's) of all that was tried.
    """

    budget: Budget
    price: Price
    measured: float
    tried: tuple[tuple[float, float], ...]


def aim(
    structure: Structure,
    target: str,
    budget: Budget,
    narrowed: Callable[[Budget, Price], nn.Module],
    time: Callable[[nn.Module], float],
    tell: Callable[[str], None],
    progress: Progress | None = None,
) -> Aimed:
    """Find the share of the layers' time at which the network as a whole takes the share that is asked for.

    The sum of layers leaves out what is between them: additions, pools, changes of layout, and what a CPU's caches
    make of their order.

    Args:
        structure: of the unpruned model, at the size at which latency counts.
        target: whose runtime is timed.
        budget: with the share of the latency that is asked for.
        narrowed: a pruned copy of the model for a budget and prices.
        time: the share of the unpruned time that a module takes, measured.
        tell: is told a line for each try.
        progress: is told (what, done, in all) of measuring layers.

    Raises:
        UsageError: no widths take within a tenth of what is asked for.
        InconclusiveError: the machine is too busy to tell.
        UnavailableError: the target cannot be timed here.
    """
    told = None if progress is None else lambda done, total: progress("timing layers", done, total)
    times = measure_times(structure, target, budget.round_to, progress=told)
    asked = budget.share
    assert asked is not None
    tried: list[tuple[float, float]] = []
    failed = ""
    for _ in range(TRIES):
        own = replace(budget, share=next_share(asked, tried))
        assert own.share is not None
        try:
            module = narrowed(own, times.price)
        except UsageError as error:  # even the narrowest takes longer
            failed = error.what
            break
        tried.append((own.share, time(module)))
        tell(f"widths with {own.share:.3f} of the layers' time: {tried[-1][1]:.3f} of the network's, asked {asked}")
        if abs(tried[-1][1] / asked - 1) <= CLOSE:
            break
    best = min(usual(tried).items(), key=lambda one: abs(one[1] / asked - 1), default=(0.0, 0.0))
    if abs(best[1] / asked - 1) > WITHIN:
        apart = max((max(values) / min(values) for values in measured(tried).values()), default=1.0)
        if apart > NOISY:
            raise InconclusiveError(
                f"{asked:g} of the latency on {target} cannot be told from other widths: the same ones were measured "
                f"{apart:.1f} times apart, the machine is too busy", fix="try again when it is quiet"
            )  # fmt: skip
        nearest = f"the nearest that was found has {best[1]:.2f}" if tried else failed
        raise UsageError(f"{asked:g} of the latency on {target} is not to be had: {nearest}", fix="ask for that")
    tell(f"taken: the widths with {best[0]:.3f} of the layers' time, {best[1]:.3f} of the network's")
    return Aimed(replace(budget, share=best[0]), times.price, best[1], tuple(tried))


def measured(tried: Sequence[tuple[float, float]]) -> dict[float, list[float]]:
    """All that was measured of each share."""
    found: dict[float, list[float]] = {}
    for share, took in tried:
        found.setdefault(share, []).append(took)
    return found


def usual(tried: Sequence[tuple[float, float]]) -> dict[float, float]:
    """The median of each share."""
    return {share: statistics.median(values) for share, values in measured(tried).items()}


def latest(tried: Sequence[tuple[float, float]]) -> dict[float, float]:
    """What was measured last of each share: another process may have disturbed an earlier measurement."""
    return dict(tried)


def next_share(asked: float, tried: Sequence[tuple[float, float]]) -> float:
    """The share of the layers' time to try next: by the line through the two tries that came nearest.

    It stays between the nearest try that was too fast and the nearest that was too slow. Where these are next to each
    other and neither is what was asked for, one of them was disturbed, or the widths jump there: the one that was
    measured less often, or earlier, is measured again.

    Args:
        asked: share of the network's time.
        tried: (layers' share, network's share) so far; (1, 1) is known without trying.
    """
    if not tried:
        return asked
    known = {**latest(tried), 1.0: 1.0}
    low = max((share for share, took in known.items() if took <= asked), default=0.0)
    high = min((share for share, took in known.items() if took > asked and share > low), default=1.0)
    if high - low < NEXT and low in known and high < 1:
        order = [share for share, _ in tried]
        return min((low, high), key=lambda share: (order.count(share), order.index(share)))
    (one, first), (other, second) = sorted(known.items(), key=lambda pair: abs(pair[1] - asked))[:2]
    share = one + (asked - first) * (other - one) / (second - first) if first != second else (low + high) / 2
    if not low < share < high:
        share = (low + high) / 2
    return min(max(share, 0.01), 0.999)


def share_of_time(
    before: Model, after: nn.Module, target: str, shape: tuple[int, int, int], progress: Progress | None = None
) -> tuple[float, ...]:
    """Time before over time after in fp32, batch 1, one ratio a round, in processes of their own.

    Args:
        before: the model as it was.
        after: its narrower module.
        target: the backend whose CPU runtime is timed.
        shape: channels, height and width of the image.
        progress: is told (what, done, in all).

    Raises:
        UsageError: the model cannot be exported, as at a size that it does not take.
    """
    backend = get_backend(target)
    sized = replace(before, spec=before.spec.sized(*shape[1:]))
    told = progress or (lambda _what, _done, _all: None)
    with tempfile.TemporaryDirectory() as folder:
        subjects: list[Subject] = []
        for name, model in (("before", sized), ("after", replace(sized, module=after))):
            place = Path(folder) / name
            place.mkdir()
            backend.write_float(model, place)
            subjects.append(candidate_subject(name, target, place, model.spec))
        found = measure(subjects, replace(SELECT, leave_after=0), lambda now: told("timing", now.done, now.total))
    return round_ratios(found["before"], found["after"])


def timed_shape(model: Model, asked: tuple[int, int, int] | None) -> tuple[int, int, int]:
    """The images that latency is measured with: those that were asked for, else the model's own.

    Raises:
        UsageError: other channels than the model takes, or a size that it does not.
    """
    if asked is None:
        return model.spec.input
    if asked[0] != model.spec.input[0]:
        raise UsageError(
            f"--timed-at has {asked[0]} channels, {model.spec.name} takes {model.spec.input[0]}",
            fix="such as 3x224x224",
        )
    costs_of(model.module, torch.zeros(2, *asked))
    return asked


def left(ratios: Sequence[float]) -> float:
    """The share of the time that is left, from ratios of before over after."""
    return 1 / statistics.median(ratios)
