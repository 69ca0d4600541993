"""How long a model's layers take on this machine at other widths: measured one by one, kept, and read between.

A table is of one machine, runtime and number of threads. It lies in zoo's cache, and grows by what a model asks for.
"""

from __future__ import annotations

import hashlib
import json
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...atomic import write_file
from ...calibration.pruning.groups import Cost, Form, Structure
from ...config import cache_folder
from ...errors import UnavailableError, UsageError
from ...models.processors import affinity
from ..backends.infos import backend_info, backend_names
from ..backends.registry import get_backend
from .engine import measure_each
from .machine import cpu_name
from .setup import LAYERS, Subject

POINTS = 8  # widths an axis is measured at; between them it is read by straight lines
FEW_POINTS = 4  # of a matrix product: its weights are read once, and its time goes with their number
FORMAT = 1


@dataclass(frozen=True)
class Shape:
    """A layer that is timed, for a batch of one.

    Attributes:
        form: its geometry.
        inputs, outputs: its channels.
        precision: fp32 or int8.
    """

    form: Form
    inputs: int
    outputs: int
    precision: str = "fp32"

    @property
    def key(self) -> str:
        """In the table, readable."""
        form = self.form
        sizes = (form.size, form.kernel, form.stride, form.padding, form.dilation)
        return " ".join([form.op, *("x".join(map(str, size)) for size in sizes), f"g{form.groups}",
                         f"{self.inputs}>{self.outputs}", self.precision])  # fmt: skip

    def as_mapping(self) -> dict[str, Any]:
        """As the worker takes it; of a depthwise layer each channel is a group."""
        return {**asdict(self.form), "groups": self.form.groups or self.outputs, "inputs": self.inputs,
                "outputs": self.outputs, "precision": self.precision}  # fmt: skip


@dataclass(frozen=True)
class Times:
    """Microseconds of the forms that were measured, each on a grid of widths.

    Attributes:
        grids: inputs, outputs, and the time at each pair, by form and the precision.
    """

    grids: Mapping[tuple[Form, int, int, str], tuple[npt.NDArray[np.float64], ...]] = field(default_factory=dict)

    def price(self, cost: Cost, inputs: float, outputs: float, precision: str = "fp32") -> float:
        """A layer's microseconds for an image at a width; fewer channels never take longer, as far as it goes."""
        ins, outs, table = self.grids[cost.form, cost.inputs, cost.outputs, precision]
        by_input = np.array([np.interp(outputs, outs, row) for row in table])
        return cost.calls * float(np.interp(outputs if cost.depthwise else inputs, ins, by_input))

    def whole(self, structure: Structure, precision: str = "fp32") -> float:
        """Of all layers at their own widths."""
        return structure.total({}, lambda cost, inputs, outputs: self.price(cost, inputs, outputs, precision))


def measure_times(
    structure: Structure,
    target: str,
    round_to: int,
    precisions: Iterable[str] = ("fp32",),
    progress: Callable[[int, int], None] | None = None,
) -> Times:
    """The times of a model's layers at the widths that pruning may give them.

    Args:
        structure: of the model.
        target: onnx or torchscript.
        round_to: widths are multiples of it, or whole.
        precisions: fp32, int8.
        progress: is told (done, in all) of the shapes that no earlier model asked for.

    Raises:
        UsageError: a target whose layers are not timed here, or a layer that is not two-dimensional.
        UnavailableError: the target is not here, or its process ended.
    """
    refuse_target(target)
    grids = grids_of(structure, round_to)
    precisions = tuple(precisions)
    wanted = {
        shape.key: shape
        for (form, _, _), (ins, outs) in grids.items()
        for one in ins
        for other in outs
        for precision in precisions
        for shape in [shape_at(form, one, other, precision)]
    }
    known = load_table(target)
    missing = [shape for key, shape in wanted.items() if key not in known]
    if missing:
        known |= dict(zip((shape.key for shape in missing), time_shapes(missing, target, progress), strict=True))
        save_table(target, known)
    found: dict[tuple[Form, int, int, str], tuple[npt.NDArray[np.float64], ...]] = {}
    for (form, inputs, outputs), (ins, outs) in grids.items():
        for precision in precisions:
            rows = [[known[shape_at(form, one, other, precision).key] for other in outs] for one in ins]
            found[form, inputs, outputs, precision] = (np.array(ins, float), np.array(outs, float), rising(rows))
    return Times(found)


def shape_at(form: Form, inputs: int, outputs: int, precision: str) -> Shape:
    """A layer at a width; a depthwise one gives what it takes."""
    return Shape(form, inputs, outputs if form.groups else inputs, precision)


def rising(rows: list[list[float]]) -> npt.NDArray[np.float64]:
    """Times that do not fall where channels are added: what is faster with more is taken with more."""
    table = np.array(rows, float)
    # from the widest down: a narrow layer that is slower than a wide one could always be the wide one
    for axis in (0, 1):
        table = np.flip(np.minimum.accumulate(np.flip(table, axis), axis), axis)
    return table


def grids_of(structure: Structure, round_to: int) -> dict[tuple[Form, int, int], tuple[list[int], list[int]]]:
    """The inputs and the outputs at which each layer is measured, by form and its own widths."""
    prunable: dict[str, set[bool]] = {name: set() for name in structure.costs}
    for group in structure.groups:
        for member in group.members:
            prunable.setdefault(member.layer, set()).add(member.output)
    found: dict[tuple[Form, int, int], tuple[list[int], list[int]]] = {}
    for name, cost in structure.costs.items():
        if len(cost.form.size) != 2:
            raise UsageError(f"{name} is no two-dimensional layer, and only those are timed", fix="give --macs instead")
        sides = prunable[name]
        step = round_to if cost.form.groups <= 1 else math.lcm(round_to, cost.form.groups)
        flattened = cost.form.op == "Gemm" and False in sides  # inputs are channels times places
        ins = axis(cost.inputs, step) if (False in sides or cost.depthwise) else [cost.inputs]
        if flattened:
            ins = [max(1, round(cost.inputs * part / FEW_POINTS)) for part in range(1, FEW_POINTS + 1)]
        points = FEW_POINTS if cost.form.op == "Gemm" else POINTS
        outs = axis(cost.outputs, step, points) if True in sides and not cost.depthwise else [cost.outputs]
        key = (cost.form, cost.inputs, cost.outputs)
        before = found.get(key, ([], []))
        found[key] = (sorted({*before[0], *ins}), sorted({*before[1], *outs}))
    return found


def axis(channels: int, step: int, points: int = POINTS) -> list[int]:
    """At most so many multiples of the step, evenly, the first one of them, and all channels."""
    apart = step * max(1, math.ceil(channels / (step * points)))
    return sorted({min(step, channels), *range(apart, channels, apart), channels})


def time_shapes(shapes: list[Shape], target: str, progress: Callable[[int, int], None] | None = None) -> list[float]:
    """Microseconds of each shape, from a process of its own.

    Raises:
        UnavailableError: the process ended without them.
    """
    opener = get_backend(target).info.layer_timer
    subjects = [Subject(name=shape.key, opener=opener, given=shape.as_mapping()) for shape in shapes]
    found: list[float] = []
    try:
        for measured in measure_each(subjects, LAYERS, progress or (lambda _done, _total: None)):
            found.append(1e3 * usual(measured.times))  # noqa: PERF401 - how far it came is said when it fails
    except UnavailableError as error:
        at = shapes[len(found)].key
        raise UnavailableError(
            f"{target} could not time the layer {at}: {error.what}", fix="give --macs instead"
        ) from error
    return found


def usual(times: Sequence[float]) -> float:
    """The mean of the faster half: what disturbs a run makes it slower."""
    kept = sorted(times)[: max(1, (len(times) + 1) // 2)]
    return statistics.fmean(kept)


def refuse_target(target: str) -> None:
    """Raise for a target whose layers cannot be timed here."""
    backend = get_backend(target)
    backend.require_available()
    if not backend.info.layer_timer:
        able = [name for name in backend_names() if backend_info(name).layer_timer]
        raise UsageError(f"layers of {target} are not timed one by one", fix=f"--for {' or '.join(able)}")


def table_path(target: str) -> Path:
    """The file of this machine's table."""
    version = get_backend(target).require_available().version
    here = "\n".join([cpu_name(), str(LAYERS.threads_here), str(affinity()), version])
    return cache_folder() / "shapes" / f"{target}-{hashlib.sha256(here.encode()).hexdigest()[:16]}.json"


def load_table(target: str) -> dict[str, float]:
    """What was measured before; nothing where the file is not there or not whole."""
    try:
        data = json.loads(table_path(target).read_text(encoding="utf-8"))
        if data["format"] != FORMAT:
            return {}
        times = {str(key): float(value) for key, value in data["microseconds"].items()}
        return {key: value for key, value in times.items() if 0 < value < math.inf}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def save_table(target: str, times: Mapping[str, float]) -> None:
    """Keep what was measured; where that cannot be, the next model measures again."""
    data = {"format": FORMAT, "cpu": cpu_name(), "threads": LAYERS.threads_here,
            "runtime": f"{target} {get_backend(target).require_available().version}",
            "microseconds": {**load_table(target), **times}}  # fmt: skip
    try:
        path = table_path(target)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, json.dumps(data, indent=1).encode())
    except OSError:
        return
