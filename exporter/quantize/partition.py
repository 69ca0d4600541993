"""Never slower: of the ways to divide a network between int8 and float, the fastest one as measured on this machine.

A network of convolutions, ReLUs and additions is fastest all in int8. One with swish, hard-swish or squeeze-and-
excitation may be slower in int8 than in float: every float island costs a pass that dequantises and one that quantises.
Which of its convolutions are worth it depends on the CPU, so candidates are timed against the float graph, each in
processes of its own, in an order drawn anew for each round.
"""

from __future__ import annotations

import json
import math
import random
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import UnavailableError
from ..artifact.manifest import Layer

if TYPE_CHECKING:
    import onnx

ROUNDS, RUNS, THREADS = 5, 40, 2
CLEARLY = 1.3  # times as fast as float in every round: nothing else is tried
NEAR = 0.9  # of the fastest: timed once more, and judged by all of their rounds
HOPELESS, LOOKS = 0.5, 2  # of the fastest, in each of the first rounds: not timed again
ALIKE = 0.97  # of the fastest: of divisions that are as fast as that, the one with the most in int8 is taken
HALF = 0.5  # of the MACs must stay integer
FLOAT_ISLANDS = ("Sigmoid", "HardSigmoid", "HardSwish", "Mul", "Gelu", "Mish", "Softplus", "Tanh", "Erf")
WEIGHTS = (4_000, 8_000, 20_000, 40_000)  # of a dense convolution, from which on it is worth its Q/DQ


@dataclass(frozen=True)
class Timed:
    """A candidate with its speed.

    Attributes:
        name: in words.
        keep: layers that stay float.
        ratio: float time over its time, the median over the rounds.
        low, high: the smallest and the largest ratio of a round.
        share: of the MACs that are int8.
    """

    name: str
    keep: frozenset[str]
    ratio: float
    low: float
    high: float
    share: float

    def __str__(self) -> str:
        return (
            f"{self.name}: {self.ratio:.2f} times as fast as float ({self.low:.2f} to {self.high:.2f}; batch 1, "
            f"{THREADS} threads), {self.share:.0%} of MACs int8"
        )


def candidates(graph: onnx.ModelProto, layers: Sequence[Layer]) -> dict[str, frozenset[str]]:
    """Names of layers to keep float, by a name of the division; all in int8 first, then fewer and fewer.

    Divisions that leave less than half of the MACs in int8 are left out, and so are those that equal another.
    """
    found = {"all layers int8": frozenset[str]()}
    if not any(node.op_type in FLOAT_ISLANDS for node in graph.graph.node):
        return found
    sizes = {one.name: (list(one.dims)) for one in graph.graph.initializer}
    nodes = {node.name: node for node in graph.graph.node}
    total = sum(layer.macs for layer in layers) or 1

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
        share = 1 - sum(layer.macs for layer in layers if layer.name in keep) / total
        if share >= HALF and keep not in found.values():
            name = "dense layers int8" if least == 1 else f"dense layers of {least:,} weights and more int8"
            found[name] = keep
    return found


def measure(
    reference: bytes,
    graphs: Mapping[str, bytes],
    shape: Sequence[int],
    progress: Callable[[int, int], None] | None = None,
    suffix: str = ".onnx",
) -> dict[str, list[float]]:
    """Float time over each graph's time, one ratio a round; medians of a round's runs, batch of one.

    A graph that each of the first two rounds finds less than half as fast as the fastest one has those two ratios.

    Raises:
        UnavailableError: a process could not time a graph.
    """
    with tempfile.TemporaryDirectory() as folder:
        paths: dict[str, Path] = {}
        for index, (name, content) in enumerate((("", reference), *graphs.items())):
            paths[name] = Path(folder) / f"{index}{suffix}"
            paths[name].write_bytes(content)
        ratios: dict[str, list[float]] = {name: [] for name in graphs}
        order = list(paths)
        draw = random.Random(0)  # noqa: S311 - an order, no secret
        for one in range(ROUNDS):
            draw.shuffle(order)
            medians = {name: statistics.median(time_graph(paths[name], shape)) for name in order}
            for name in order:
                if name:
                    ratios[name].append(medians[""] / medians[name])
            if one + 1 == LOOKS:
                least = HOPELESS * max(min(seen) for seen in ratios.values())
                order = [name for name in order if not name or max(ratios[name]) >= least]
            if progress is not None:
                progress(one + 1, ROUNDS)
    return ratios


def fastest(
    graph: onnx.ModelProto,
    layers: Sequence[Layer],
    render: Callable[[frozenset[str]], bytes],
    shape: Sequence[int],
    progress: Callable[[int, int], None] | None = None,
    reference: bytes | None = None,
    suffix: str = ".onnx",
) -> tuple[Timed, list[Timed]]:
    """The fastest division (of those that are alike, the one with the most in int8), and all that were timed.

    All in int8 is taken at once where it is clearly faster, in its slowest round too. Else those that come near the
    fastest are timed in as many rounds again.

    Args:
        graph: the float graph, which tells the divisions there are.
        layers: its compute layers.
        render: a file with these layers float.
        shape: of one image.
        progress: is told rounds done, rounds in all.
        reference: the float file, where it is not the graph.
        suffix: of the files: .onnx or .pt.
    """
    found = candidates(graph, layers)
    if reference is None:
        reference = graph.SerializeToString()
    first = next(iter(found))
    total = sum(layer.macs for layer in layers) or 1
    seen: dict[str, list[float]] = defaultdict(list)

    def timed(names: Sequence[str]) -> list[Timed]:
        ratios = measure(reference, {name: render(found[name]) for name in names}, (1, *shape), progress, suffix)
        for name in names:
            seen[name] += ratios[name]
        return [
            Timed(
                name, found[name], statistics.median(seen[name]), min(seen[name]), max(seen[name]),
                1 - sum(layer.macs for layer in layers if layer.name in found[name]) / total,
            )
            for name in names
        ]  # fmt: skip

    tried = timed([first])
    if tried[0].low < CLEARLY and len(found) > 1:
        seen.clear()  # of the first alone: only ratios of the same rounds compare
        tried = timed(list(found))
        least = NEAR * max(one.ratio for one in tried)
        again = {one.name: one for one in timed([one.name for one in tried if one.ratio >= least])}
        return _most_integer([*again.values()]), [again.get(one.name, one) for one in tried]
    return tried[0], tried


def _most_integer(timed: Sequence[Timed]) -> Timed:
    """Of those that are as fast as the fastest, the one with the most in int8."""
    fast = [one for one in timed if one.ratio >= ALIKE * max(other.ratio for other in timed)]
    return max(fast, key=lambda one: one.share)


def time_graph(path: Path, shape: Sequence[int], *more: str) -> Any:
    """What timing_worker prints of a graph.

    Raises:
        UnavailableError: the process could not time it.
    """
    # -P: a folder `zoo` where the user is would be taken for ours
    command = [sys.executable, "-P", "-m", "zoo.exporter.timing_worker", str(path), str(RUNS), str(THREADS)]
    done = subprocess.run(
        [*command, "x".join(map(str, shape)), *more], capture_output=True, text=True, check=False, timeout=600
    )
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise UnavailableError(f"timing {path.name} ended with {done.returncode}: {last[0]}", fix="--no-never-slower")
    return json.loads(done.stdout)


def _groups(node: onnx.NodeProto) -> int:
    return next((one.i for one in node.attribute if one.name == "group"), 1)
