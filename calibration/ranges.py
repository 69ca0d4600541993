"""RangeTable: what the activations of a model look like, collected in one pass through its torch.export graph.

The graph is the one that the ONNX export was made of, so that an edge has the same name in both, and one table serves
every target. Memory does not grow with the number of images: each edge keeps a histogram and per-channel statistics.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from ..atomic import claim, staged
from ..config import to_json
from ..errors import IntegrityError, UsageError, one_line
from .aten import kind
from .observers import BINS, Range, Seen

if TYPE_CHECKING:
    import torch

Method = Literal["minmax", "moving_average", "percentile", "mse", "entropy", "learned"]
ALL_METHODS: tuple[Method, ...] = get_args(Method)
FORMAT = 2
COUNTED = 1 << 14  # values of a tensor and image that its histogram counts, about
FILES = ("ranges.json", "ranges.safetensors")
_ARRAYS = ("histogram", "channel_low", "channel_high", "channel_mean")


@dataclass(frozen=True)
class RangeTable:
    """Statistics by edge, with what they were collected from.

    Attributes:
        edges: by the name of the tensor in the torch.export graph, which is its name in the ONNX graph.
        images: how many were seen.
        weights: hash of the model's weights.
        data: hash of the images.
        learned: ranges that training with fake quantisation settled on, of the edges that it rounded.
    """

    edges: dict[str, Seen]
    images: int
    weights: str = ""
    data: str = ""
    learned: Mapping[str, Range] = field(default_factory=dict)

    def range(self, edge: str, method: Method = "minmax", *, symmetric: bool = False) -> Range:
        """The range of an edge; raises UsageError for one that was not collected.

        learned: what training found; the extremes, for an edge that it did not round.
        """
        if edge not in self.edges:
            raise UsageError(
                f"no range of {edge} was collected, only of {len(self.edges)} others", fix="calibrate again"
            )
        if method == "learned":
            if edge in self.learned:
                low, high = self.learned[edge]
                largest = max(-low, high)
                return (-largest, largest) if symmetric else (low, high)
            method = "minmax"
        return self.edges[edge].range(method, symmetric=symmetric)

    @property
    def constant(self) -> tuple[str, ...]:
        """Edges that had a single value in all of the images, such as what a norm with zero gamma gives.

        Any scale serves them.
        """
        return tuple(name for name, seen in self.edges.items() if seen.low == seen.high)

    def save(self, folder: Path) -> None:
        """Write ranges.json (readable) and ranges.safetensors (histograms, channels), whole or not at all.

        Raises:
            UsageError: the folder holds anything but an earlier table.
        """
        from safetensors.numpy import save_file

        claim_place(folder)
        head = {
            "format": FORMAT, "sha256": _digest(self.edges),
            "images": self.images, "weights": self.weights, "data": self.data,
            "edges": {
                name: {"low": seen.low, "high": seen.high, "average": list(seen.average), "bound": seen.bound,
                       "batches": seen.batches, "elements": seen.elements}
                for name, seen in self.edges.items()
            },
        }  # fmt: skip
        arrays = {f"{name}/{key}": getattr(seen, key) for name, seen in self.edges.items() for key in _ARRAYS}
        with staged(folder) as place:
            (place / FILES[0]).write_text(to_json(head), encoding="utf-8")
            save_file(arrays, place / FILES[1])

    @classmethod
    def load(cls, folder: Path) -> RangeTable:
        """Read a saved table.

        Raises:
            UsageError: none there.
            IntegrityError: it is corrupt.
        """
        from safetensors.numpy import load_file

        if not (folder / FILES[0]).is_file():
            raise UsageError(f"{folder} holds no ranges", fix="`zoo calibrate` writes them")
        try:
            head = json.loads((folder / FILES[0]).read_text(encoding="utf-8"))
            arrays = load_file(folder / FILES[1])
            edges = {
                name: Seen(
                    low=float(one["low"]), high=float(one["high"]), average=(one["average"][0], one["average"][1]),
                    bound=float(one["bound"]), batches=int(one["batches"]), elements=int(one["elements"]),
                    **{key: arrays[f"{name}/{key}"] for key in _ARRAYS},
                )
                for name, one in head["edges"].items()
            }  # fmt: skip
            if head["sha256"] != _digest(edges):
                raise ValueError("the hash does not fit")
            if head["format"] != FORMAT or any(seen.histogram.shape != (BINS,) for seen in edges.values()):
                raise ValueError(f"format {head['format']}")
            return cls(edges, int(head["images"]), head["weights"], head["data"])
        except Exception as error:  # safetensors has its own error class
            raise IntegrityError(
                f"{folder}: the ranges are corrupt ({one_line(error)})", fix="calibrate again"
            ) from error


def _digest(edges: Mapping[str, Seen]) -> str:
    """SHA-256 over all statistics, by name."""
    total = hashlib.sha256()
    for name, seen in sorted(edges.items()):
        numbers = [float(one) for one in (seen.low, seen.high, *seen.average, seen.bound, seen.batches, seen.elements)]
        total.update(f"{name} {numbers!r}\n".encode())
        for key in _ARRAYS:
            total.update(np.ascontiguousarray(getattr(seen, key)).tobytes())
    return total.hexdigest()


def claim_place(folder: Path) -> None:
    """Raise UsageError for a folder that `RangeTable.save` would not write to: before the minutes of collecting."""
    claim(folder, FILES, '"edges"', "ranges")


@dataclass
class _Collector:
    """Adds a tensor's statistics to its edge; on the tensor's own device, with one copy to the host a batch."""

    edges: dict[str, Seen] = field(default_factory=dict)
    modules: Mapping[str, str] = field(default_factory=dict)
    channels_last: Collection[str] = ()

    def named(self, edge: str) -> str:
        """An edge with the module that makes it, where that is known."""
        module = self.modules.get(edge)
        return f"{edge} (in module {module})" if module else edge

    def see(self, name: str, tensor: torch.Tensor) -> None:
        import torch

        values = tensor.detach().float()
        low_high = torch.stack(torch.aminmax(values))
        low, high = (float(one) for one in low_high.cpu())
        if not (np.isfinite(low) and np.isfinite(high)):
            raise UsageError(
                f"calibration: layer {self.named(name)} gives {'NaN' if np.isnan(low + high) else 'infinity'}",
                fix="look at the weights and the preprocessing",
            )
        seen = self.edges.setdefault(name, Seen())
        seen.widen(max(-low, high, 1e-12))
        counts = torch.histc(_some(values), BINS, -seen.bound, seen.bound).cpu().numpy().astype(np.int64)
        seen.add(low, high, counts)
        last = name in self.channels_last and values.ndim > 1
        if last or values.ndim == 4 or values.ndim == 2:
            axis = values.ndim - 1 if last else 1
            others = [dim for dim in range(values.ndim) if dim != axis]
            channel_low, channel_high = torch.amin(values, others), torch.amax(values, others)
            # over the places of an image in float32, whose sum is pairwise, and only then in float64: 18 times as fast
            inner = [dim for dim in others if dim != 0]
            kept = values.sum(inner, keepdim=True) if inner else values
            total = kept.sum(others, dtype=torch.float64)
            seen.add_channels(
                channel_low.cpu().numpy(), channel_high.cpu().numpy(), total.cpu().numpy(),
                values.numel() // values.shape[axis],
            )  # fmt: skip


def _some(values: torch.Tensor) -> torch.Tensor:
    """The values that a histogram counts: all of them, or of many an even choice.

    Extremes, and what channels sum up to, are of all values. A histogram only says how they are distributed, and takes
    as long as everything else together: some thousands of an image, millions of all, tell that as well. The step is
    odd, so that it meets all columns of a picture whose width is even.
    """
    images = len(values) if values.ndim else 1
    step = values.numel() // max(1, images) // COUNTED
    return values if step < 2 else values.reshape(-1)[:: step | 1]


def _channels_last(program: torch.export.ExportedProgram) -> frozenset[str]:
    """Tensors that linear layers read, whose channels are the last dimension."""
    places = {"linear": 0, "matmul": 0, "mm": 0, "addmm": 1}
    nodes = [(node, places[kind(node)]) for node in program.graph.nodes if kind(node) in places]
    return frozenset(str(node.args[place]) for node, place in nodes)


def collect(
    program: torch.export.ExportedProgram,
    edges: Collection[str],
    batches: Iterable[npt.NDArray[np.float32]],
    *,
    device: str = "cpu",
    progress: Callable[[int], None] | None = None,
    weights: str = "",
    input_name: str = "images",
    output_name: str = "logits",
) -> RangeTable:
    """Run images through a torch.export graph and keep what the named edges look like.

    Args:
        program: with one input, images N x C x H x W, and a dynamic batch.
        edges: names of its nodes; those that it does not have are left out.
        batches: prepared images, float32; the last one may be smaller.
        device: "cpu" or "cuda".
        progress: is told how many images are done.
        weights: hash of the model's weights, kept in the table.
        input_name: what the graph's input is called there.
        output_name: what its output is called there.

    Raises:
        UsageError: no images, a layer that gives NaN or infinity, or logits that are all the same.
    """
    import torch

    collector = _Collector(modules=_modules(program), channels_last=_channels_last(program))
    run = _interpreter(program, frozenset(edges), collector.see, torch.device(device))
    digest, images = hashlib.sha256(), 0
    for batch in batches:
        batch = np.ascontiguousarray(batch)
        digest.update(batch.data)
        on_device = torch.from_numpy(batch).to(device)
        if input_name in edges:
            collector.see(input_name, on_device)
        (made, *_) = run(on_device)
        if output_name in edges:
            collector.see(output_name, made)
        images += len(batch)
        if progress is not None:
            progress(images)
    if not images:
        raise UsageError("calibration needs images, got none", fix="give --data")
    last = collector.edges.get(output_name)
    if last is not None and last.low == last.high:
        raise UsageError(
            f"calibration: the model answers {last.low:g} for every class of every one of {images} images",
            fix="look at the weights (all zero?) and the images",
        )
    return RangeTable(collector.edges, images, weights, digest.hexdigest())


def _modules(program: torch.export.ExportedProgram) -> dict[str, str]:
    """The path of the module that each node of a graph comes from."""
    found: dict[str, str] = {}
    for node in program.graph.nodes:
        stack = [path for path, _ in (node.meta.get("nn_module_stack") or {}).values() if path]
        if stack:
            found[node.name] = str(stack[-1])
    return found


def observe(
    program: torch.export.ExportedProgram,
    batch: npt.NDArray[np.float32],
    see: Callable[[str, torch.Tensor], None],
    input_name: str = "images",
    output_name: str = "logits",
    precision: str | None = None,
) -> None:
    """Run one batch on the CPU and show every float tensor by name, the images and the output too.

    With a half precision (fp16, bf16) numbers are held in it and each operation is rounded once.
    """
    import torch

    from ..models.arithmetic import HELD, RoundingOnce

    images = torch.from_numpy(np.ascontiguousarray(batch))
    see(input_name, images)
    if precision is None:
        (made, *_) = _interpreter(program, None, see, torch.device("cpu"))(images)
    else:
        held = HELD[precision]
        run = _interpreter(program, None, see, torch.device("cpu"), held)
        with RoundingOnce(held):
            (made, *_) = run(images.to(held))
    see(output_name, made)


def _interpreter(
    program: torch.export.ExportedProgram,
    edges: frozenset[str] | None,
    see: Callable[[str, torch.Tensor], None],
    device: torch.device,
    held: torch.dtype | None = None,
) -> Callable[[torch.Tensor], Any]:
    """A function of a batch that runs the graph node by node, frees what is not needed any more, and shows edges."""
    import torch
    from torch.export.graph_signature import InputKind

    state: dict[str, Any] = {**program.state_dict, **program.constants}

    def placed(value: torch.Tensor) -> torch.Tensor:
        return value.to(device, held) if held is not None and value.is_floating_point() else value.to(device)

    fixed = [
        None if one.kind == InputKind.USER_INPUT else placed(state[str(one.target)])
        for one in program.graph_signature.input_specs
    ]
    fed = [node.name for node in program.graph.nodes if node.op == "placeholder"]
    (own,) = [name for name, value in zip(fed, fixed, strict=True) if value is None]

    class Interpreter(torch.fx.Interpreter):
        def run_node(self, n: torch.fx.Node) -> Any:
            made = super().run_node(n)
            if (edges is None or n.name in edges) and isinstance(made, torch.Tensor) and made.is_floating_point():
                see(n.name, made)
            return made

    interpreter = Interpreter(program.graph_module, garbage_collect_values=True)
    interpreter.extra_traceback = False  # it would add lines to a message that is one

    def run(batch: torch.Tensor) -> Any:
        given = [batch if name == own else value for name, value in zip(fed, fixed, strict=True)]
        with torch.no_grad() if held is not None else torch.inference_mode():
            return interpreter.run(*given)

    return run
