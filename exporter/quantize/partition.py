"""Never slower: of the ways to divide a network between int8 and float, the fastest one as measured on this machine.

A network of convolutions, ReLUs and additions is fastest all in int8. One with swish, hard-swish or squeeze-and-
excitation may be slower in int8 than in float: every float island costs a pass that dequantises and one that quantises.
Which of its convolutions are worth it depends on the CPU, so candidates race against the float graph, on as many
threads as the gate `latency` judges with. What is surely slower leaves after two rounds; nothing is rendered or timed
twice.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ...calibration.choice import Calibrated, Choice
from ...errors import UnavailableError
from ..artifact.manifest import Layer
from ..backends.base import Backend
from ..backends.graph.layers import list_layers
from ..backends.graph.qdq_sites import FLOAT_ISLANDS
from ..timing.engine import Look, measure
from ..timing.openers import candidate_subject
from ..timing.setup import SELECT, Subject
from ..timing.statistics import Measurement, Ratio, ratio
from .calibrate import Progress

if TYPE_CHECKING:
    import onnx

    from ...models.sources import Model

CLEARLY = 1.3  # times as fast as float, its whole interval: nothing else is tried
ALIKE = 0.97  # of the fastest: of divisions that are as fast as that, the one with the most in int8 is taken
HALF = 0.5  # of the MACs must stay integer
WEIGHTS = (4_000, 8_000, 20_000, 40_000)  # of a dense convolution, from which on it is worth its Q/DQ
FLOAT = "float"  # the name of what the divisions are held against
ALL = "all layers int8"
IN_BLOCKS = "int8 with linear layers read in blocks"
UNPORTABLE = "no other runtime reads the file"


@dataclass(frozen=True)
class Division:
    """A division between int8 and float, with its speed.

    Attributes:
        name: in words.
        keep: layers that stay float.
        speed: float's time over its own.
        share: of the MACs that are int8.
        conditions: batch and threads, in words.
    """

    name: str
    keep: frozenset[str]
    speed: Ratio
    share: float
    conditions: str

    def __str__(self) -> str:
        speed = self.speed
        return (
            f"{self.name}: {speed.value:.2f} times as fast as float ({speed.low:.2f} to {speed.high:.2f}; "
            f"{self.conditions}), {self.share:.0%} of MACs int8"
        )


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


class Race:
    """Candidates of one model on one backend: each is rendered once, and timed against the fastest float.

    Args:
        backend: that renders and opens them.
        model: the float model.
        calibrated: graph and ranges.
        folder: for their files.
        progress: is told (what, rounds done, rounds in all).
    """

    def __init__(
        self, backend: Backend, model: Model, calibrated: Calibrated, folder: Path, progress: Progress | None = None
    ) -> None:
        rules = backend.info.int8
        assert rules is not None
        self._backend, self._model, self._calibrated, self._folder = backend, model, calibrated, folder
        self._progress = progress or (lambda _what, _done, _total: None)
        self._setup = replace(SELECT, device=rules.device)
        self._subjects: dict[str, Subject] = {}

    @property
    def conditions(self) -> str:
        """Batch and threads, in words."""
        where = f"{self._setup.threads_here} threads" if self._setup.device == "cpu" else self._setup.device
        return f"batch 1, {where}"

    def write(self, name: str, choice: Choice | None) -> None:
        """Render a candidate, or with None the fastest float file; a name that is there already is not made again."""
        if name in self._subjects:
            return
        self._progress(f"rendering {name}", 0, 0)
        place = self._folder / str(len(self._subjects))
        place.mkdir()
        self._backend.write_candidate(self._model, self._calibrated, choice, place)
        self._subjects[name] = candidate_subject(name, self._backend.name, place, self._model.spec)

    def run(self, names: Sequence[str], against: str = FLOAT) -> dict[str, Ratio]:
        """Return how many times as fast as `against` each is; those that were surely slower have few rounds."""

        def look(now: Look) -> None:
            self._progress(told(now, against), now.done, now.total)

        subjects = [self._subjects[name] for name in dict.fromkeys((against, *names))]
        try:
            found = measure(subjects, self._setup, look, stay=against)
        except UnavailableError as error:
            raise UnavailableError(error.what, fix="--no-never-slower") from error
        return {name: ratio(found[against], found[name]) for name in names}


def told(now: Look, against: str) -> str:
    """Return what a progress bar says: which candidate, how many are left, and the best ratio so far."""
    seen: Mapping[str, Measurement] = {name: one for name, one in now.found.items() if one.rounds and name != against}
    left = sum(name != against for name in now.left)
    parts = [*([short(now.subject)] if now.subject else []), f"{left} left"]
    base = now.found.get(against)
    if seen and base is not None and base.rounds:
        best = min(seen.values(), key=lambda one: one.median)
        parts.append(f"best {base.median / best.median:.2f}x, {short(best.name)}")
    return f"timing int8\t{', '.join(parts)}"


def short(name: str) -> str:
    """A division's name as a bar has room for it: `dense 4,000+`."""
    return name.removesuffix(" int8").replace("layers of ", "").replace(" weights and more", "+")


def candidates(graph: onnx.ModelProto, layers: Sequence[Layer]) -> dict[str, frozenset[str]]:
    """Names of layers to keep float, by a name of the division; all in int8 first, then fewer and fewer.

    Divisions that leave less than half of the MACs in int8 are left out, and so are those that equal another.
    """
    found = {ALL: frozenset[str]()}
    if not any(node.op_type in FLOAT_ISLANDS for node in graph.graph.node):
        return found
    sizes = {one.name: (list(one.dims)) for one in graph.graph.initializer}
    nodes = {node.name: node for node in graph.graph.node}

    def elements(layer: Layer) -> int:
        return math.prod(sizes.get(nodes[layer.name].input[1], [0]))

    def weights(layer: Layer) -> int:
        dense = layer.op != "Conv" or _groups(nodes[layer.name]) == 1
        return elements(layer) if dense and layer.name not in gates else 0

    gates = frozenset(  # of squeeze-and-excitation: convolutions of a single position
        layer.name for layer in layers if layer.op == "Conv" and layer.macs and layer.macs == elements(layer)
    )
    if gates:
        found["all but squeeze-and-excitation int8"] = gates
    for least in (1, *WEIGHTS):
        keep = frozenset(layer.name for layer in layers if weights(layer) < least)
        if integer_share(layers, keep) >= HALF and keep not in found.values():
            name = "dense layers int8" if least == 1 else f"dense layers of {least:,} weights and more int8"
            found[name] = keep
    return found


def integer_share(layers: Sequence[Layer], keep: frozenset[str]) -> float:
    """The share of the MACs that are int8 where some layers stay float."""
    total = sum(layer.macs for layer in layers) or 1
    return 1 - sum(layer.macs for layer in layers if layer.name in keep) / total


def fastest(divisions: Sequence[Division]) -> Division:
    """Of those that are as fast as the fastest, the one with the most in int8."""
    best = max(one.speed.value for one in divisions)
    return max((one for one in divisions if one.speed.value >= ALIKE * best), key=lambda one: one.share)


def next_divisions(names: Sequence[str], timed: Sequence[Division], doubtful: bool = False) -> list[str]:
    """Return which divisions to time next; none where those beside the fastest are known.

    All in int8 alone, which is taken where it is clearly faster than float. Else the middle one and the last, and then
    the neighbours of the fastest so far: speed rises towards the division that suits the CPU and falls behind it.

    Args:
        names: of all divisions, the one with the most in int8 first.
        timed: so far.
        doubtful: the runtime leaves islands of float in the network, so that all in int8 is hardly clearly faster: the
            three are timed at once.
    """
    spread = [names[index] for index in sorted({0, len(names) // 2, len(names) - 1})]
    if not timed:
        return spread if doubtful else [names[0]]
    if len(timed) == 1 and len(names) > 1:
        return [] if timed[0].speed.low >= CLEARLY else spread[1:]
    place = names.index(fastest(timed).name)
    known = {one.name for one in timed}
    return [name for name in names[max(0, place - 1) : place + 2] if name not in known]


def never_slower(
    backend: Backend,
    model: Model,
    calibrated: Calibrated,
    base: Choice,
    single: bool,
    tell: Callable[[str], None],
    progress: Progress | None = None,
) -> ByTime:
    """Return the choice with the fastest division between int8 and float, and with linear layers in blocks if faster.

    Args:
        backend: whose files are timed.
        model: the float model.
        calibrated: graph and ranges.
        base: bits and ranges.
        single: the artifact takes one image at a time, for which blocks are.
        tell: is told a line for each that was timed.
        progress: is told (what, rounds done, rounds in all).
    """
    layers = list_layers(calibrated.graph)
    kept = candidates(calibrated.graph, layers)
    rules = backend.info.int8
    doubtful = rules is None or not rules.rules.more  # operators beside layers that it computes on integers
    with tempfile.TemporaryDirectory() as folder:
        race = Race(backend, model, calibrated, Path(folder), progress)
        race.write(FLOAT, None)
        timed: list[Division] = []
        while untried := next_divisions(list(kept), timed, doubtful):
            for name in untried:
                race.write(name, replace(base, keep=dict.fromkeys(kept[name], "")))
            speeds = race.run(untried)
            for name in untried:
                share = integer_share(layers, kept[name])
                timed.append(Division(name, kept[name], speeds[name], share, race.conditions))
                tell(f"int8, {timed[-1]}")
        best = fastest(timed)
        lines, notes = [str(one) for one in timed], [f"int8: {best}"]
        speed = best.speed
        choice = replace(base, keep=dict.fromkeys(best.keep, f"measured: {best}"))
        wide = backend.block_layers(calibrated) - choice.keep.keys()
        if wide and single and base.method != "learned" and base.weight_bits == 8:
            choice, gain, line = _in_blocks(race, best.name, choice)
            tell(line)
            lines.append(line)
            speed = Ratio(speed.value * gain, speed.low * gain, speed.high * gain)
            notes += [line] if choice.blocks else []
    if slower := slower_in_words(speed):
        notes.append(slower)
        tell(slower)
    return ByTime(choice, tuple(lines), tuple(notes))


def slower_in_words(speed: Ratio) -> str:
    """What to say of the fastest division between int8 and float; "" where it is as fast as float or faster."""
    if speed.value >= 1:
        return ""
    if speed.high > 1:
        told_so = f"{speed.value:.2f} times as fast, up to {speed.high:.2f}"
        return f"whether int8 is slower than float here cannot be told ({told_so})"
    return f"int8 is slower than float on this CPU in every division that was tried ({speed.value:.2f} times as fast)"


def _in_blocks(race: Race, name: str, base: Choice) -> tuple[Choice, float, str]:
    """The choice with linear layers in blocks where that is faster, how much faster, and in words."""
    blocked = replace(base, blocks=True)
    race.write(IN_BLOCKS, blocked)
    gain = race.run([IN_BLOCKS], against=name)[IN_BLOCKS]
    line = f"{IN_BLOCKS}, one image at a time: {gain.value:.2f} times as fast ({gain.low:.2f} to {gain.high:.2f})"
    if gain.value <= 1 / ALIKE:
        return base, 1.0, f"{line}, so they are not"
    return blocked, gain.value, f"{line}; {UNPORTABLE}"


def time_again(
    backend: Backend, model: Model, calibrated: Calibrated, choice: Choice, progress: Progress | None = None
) -> str:
    """What a choice that the climb changed takes; how its weights are rounded makes no difference to that."""
    with tempfile.TemporaryDirectory() as folder:
        race = Race(backend, model, calibrated, Path(folder), progress)
        race.write(FLOAT, None)
        race.write("int8", replace(choice, equalised=False, adaround=False))
        speed = race.run(["int8"])["int8"]
    slower = ", slower than float on this CPU" if speed.value < 1 else ""
    spread = f"({speed.low:.2f} to {speed.high:.2f})"
    return (
        f"int8 with the layers that accuracy wants in float: {speed.value:.2f} times as fast as float {spread}{slower}"
    )


def _groups(node: onnx.NodeProto) -> int:
    return next((one.i for one in node.attribute if one.name == "group"), 1)
