"""`zoo prune --will-it-pay`: what pruning, int8 and fp16 would bring for a model on this machine, before any training.

From the table of measured layers (timing/layer_table.py) and one timing of the network; nothing is trained or written.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ...calibration.pruning.budget import Budget, choose_widths
from ...calibration.pruning.criteria import score_all
from ...calibration.pruning.groups import Structure
from ...calibration.pruning.removable import structure_of
from ...calibration.pruning.structured import outputs_that_stay
from ...config import cache_folder
from ...errors import UsageError
from ...models.copies import copy_of
from ...models.sources import Model
from ..artifact.manifest import Batch
from ..backends.graph.graph import export_graph
from ..backends.graph.qdq_sites import FLOAT_ISLANDS
from ..backends.registry import get_backend
from ..timing.engine import measure
from ..timing.layer_table import Times, measure_times, refuse_target
from ..timing.machine import BUSY, Watch, cpu_name
from ..timing.openers import candidate_subject
from ..timing.setup import SELECT, default_threads
from .latency_target import timed_shape
from .options import BLOCK

SHARES = (0.75, 0.5, 0.25)  # of the MACs
PAYS, HARDLY = 0.9, 0.98  # of the latency


@dataclass(frozen=True)
class Row:
    """One way to be faster.

    Attributes:
        what: in words.
        left: the share of the fp32 latency that is left; None where it brings nothing by its nature.
        why: what it depends on.
    """

    what: str
    left: float | None
    why: str

    @property
    def verdict(self) -> str:
        """Whether it pays."""
        if self.left is None or self.left > HARDLY:
            return "no"
        return "yes" if self.left <= PAYS else "hardly"


@dataclass(frozen=True)
class Pay:
    """What would be brought.

    Attributes:
        title: model, machine, and the conditions.
        milliseconds: of the network as it is, fp32, batch 1.
        between: the share of that time that no convolution or linear layer takes.
        rows: the ways.
        notes: what stands in the way of more.
    """

    title: str
    milliseconds: float
    between: float
    rows: tuple[Row, ...]
    notes: tuple[str, ...]


def will_it_pay(
    model: Model,
    target: str,
    *,
    round_to: int = BLOCK,
    shape: tuple[int, int, int] | None = None,
    progress: Callable[[str, int, int], None] = lambda _what, _done, _all: None,
) -> Pay:
    """Predict what each way would leave of the latency.

    Args:
        model: of any weights; pruning is predicted at the widths that magnitudes choose, the same share everywhere.
        target: onnx or torchscript.
        round_to: channels that stay are a multiple of it.
        shape: channels, height and width of the image; None for the model's own.
        progress: is told (what, done, in all).

    Raises:
        UsageError: a model that cannot be traced or takes no such images, or a target whose layers are not timed.
        UnavailableError: torch-pruning or the target is missing here.
    """
    refuse_target(target)
    if round_to % BLOCK:
        raise UsageError(f"layers are timed in steps of {BLOCK}, got --round-to {round_to}", fix=f"--round-to {BLOCK}")
    shape = timed_shape(model, shape)
    module = copy_of(model.module)
    structure = structure_of(module, shape, outputs_that_stay(module, ()))
    watch = Watch()
    told = lambda done, total: progress("timing layers", done, total)  # noqa: E731
    times = measure_times(structure, target, round_to, ("fp32", "int8"), told)
    sized = replace(model, spec=model.spec.sized(*shape[1:]))
    graph = export_graph(model.module, sized.spec, "fp32", Batch(1, 8, 1024))
    operators = {node.op_type for node in graph.graph.node}
    progress("timing", 0, 1)
    whole = whole_ms(sized, target)
    progress("timing", 1, 1)
    layers = times.whole(structure) / 1e3
    rest = max(0.0, whole - layers)
    integer = times.whole(structure, "int8") / 1e3
    rows = [_pruned(structure, times, share, round_to, rest, whole) for share in SHARES]
    islands = sorted(operators & set(FLOAT_ISLANDS))
    # what lies between integer layers moves a quarter of the bytes; between float islands it does not
    between = rest if islands else rest / 4
    floats = f"; {', '.join(islands)} stay float, each with Q/DQ around it" if islands else ""
    rest_too = "what is between as much as before" if islands else "what is between a quarter"
    why = f"the layers take {integer / layers:.2f} of their time, {rest_too}{floats}"
    rows.append(Row("int8", (integer + between) / whole, why))
    half = next(row for row in rows if row.what.startswith("0.5 "))
    if half.left is not None:
        kept = widths_at(structure, 0.5, round_to)
        both = structure.total(kept, lambda cost, i, o: times.price(cost, i, o, "int8")) / 1e3
        rows.append(Row("0.5 of the MACs, then int8", (both + between) / whole, "both together"))
    rows.append(Row("fp16", None, "this runtime has no fp16 arithmetic on a CPU and computes in fp32"))
    rows.append(Row("2:4 sparse weights", None, "only NVIDIA GPUs from Ampere on multiply them faster"))
    where = f"{target} on {cpu_name()}, {default_threads()} threads, batch 1, {'x'.join(map(str, shape))}"
    return Pay(
        f"{model.spec.name}, {where}: {whole:.2f} ms in fp32", whole, rest / whole, tuple(rows),
        (*busy_note(watch), *notes_of(structure, rest / whole, round_to)),
    )  # fmt: skip


def whole_ms(model: Model, target: str) -> float:
    """Milliseconds of the whole network as it is, fp32, batch 1."""
    with tempfile.TemporaryDirectory() as folder:
        get_backend(target).write_float(model, Path(folder))
        subject = candidate_subject("model", target, folder, model.spec)
        return measure([subject], replace(SELECT, rounds=2))["model"].median


def busy_note(watch: Watch) -> tuple[str, ...]:
    """Whether others used the machine meanwhile; the table of layers keeps what was measured then."""
    share = watch.seen(default_threads()).foreign_cpu
    if share is None or share <= BUSY:
        return ()
    kept = cache_folder() / "shapes"
    return (f"other processes used {share:.0%} of the CPUs meanwhile: remove {kept} and look again when it is quiet",)


def widths_at(structure: Structure, share: float, round_to: int) -> dict[str, int]:
    """The widths at a share of the MACs, the same share everywhere."""
    scores = score_all(structure.groups, structure.module, "magnitude")
    return choose_widths(structure.groups, scores, structure.macs, Budget(share, "uniform", round_to))


def notes_of(structure: Structure, between: float, round_to: int) -> tuple[str, ...]:
    """What stands in the way."""
    found: list[str] = []
    if between > 0.1:
        found.append(f"{between:.0%} of the time is between the layers: additions, pools, activations, layouts")
    odd = sorted({group.root for group in structure.groups if group.channels % BLOCK})
    if odd:
        found.append(f"channels that are no multiple of {BLOCK}, and slow for it: {', '.join(odd[:5])}")
    few = [group.root for group in structure.groups if group.channels <= round_to]
    if few:
        found.append(f"{len(few)} groups have no more than {round_to} channels, and keep them")
    found.append("predicted from single layers; zoo prune and zoo export --int8 measure the whole network")
    return tuple(found)


def _pruned(structure: Structure, times: Times, share: float, round_to: int, rest: float, whole: float) -> Row:
    what = f"{share:g} of the MACs"
    try:
        kept = widths_at(structure, share, round_to)
    except UsageError as error:
        return Row(what, None, error.what)
    taken = structure.total(kept, times.price) / 1e3
    before = times.whole(structure) / 1e3
    channels = sum(kept.values()) / sum(group.channels for group in structure.groups)
    why = f"the layers take {taken / before:.2f} of their time; {channels:.0%} of the channels left"
    return Row(what, (taken + rest * channels) / whole, why)


def told_rows(found: Pay) -> list[list[str]]:
    """For a table: what, whether it pays, what is left of the latency, why."""
    return [[row.what, row.verdict, "-" if row.left is None else f"{row.left:.2f}", row.why] for row in found.rows]


def as_mapping(found: Pay) -> dict[str, Any]:
    """As --json shows it."""
    return {**asdict(found), "rows": [{**vars(row), "verdict": row.verdict} for row in found.rows]}
