"""Images in, ranges out: the calibration that every int8 export shares, kept on this machine for the next one."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ...calibration.adaround import Rounder
from ...calibration.choice import Calibrated
from ...calibration.images import DEFAULT_IMAGES, choose_images
from ...calibration.ranges import FORMAT, RangeTable, collect
from ...config import cache_folder
from ...errors import IntegrityError, ZooError
from ...models.data.dataset import Dataset, batches
from ...models.preprocess import normalise
from ..artifact.manifest import Batch
from ..backends.graph.graph import trace_graph

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram

    from ...models.sources import Model
    from ...models.spec import ModelSpec

Progress = Callable[[str, int, int], None]
Batches = Callable[[], Iterator[npt.NDArray[np.float32]]]
BATCH = 16  # images at once: what bounds the memory of a pass
SAMPLE = 8
COLLECTED = "3"  # what is collected: ranges that were collected otherwise are collected again
KEPT = 50  # calibrations in the cache


def calibrate(
    model: Model,
    data: Dataset,
    *,
    images: int = DEFAULT_IMAGES,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Calibrated:
    """The model's float graph with the ranges of its tensors, from training images that no accuracy is judged by.

    Ranges of the same weights and images are read from the cache (ZOO_CACHE).

    Args:
        model: from `sources.resolve`.
        data: its training images; the validation images where it has no others.
        images: how many, class-balanced.
        seed: of the draw.
        device: "cpu" or "cuda".
        progress: is told (what, images done, images in all).

    Raises:
        UsageError: no images or images of one class; NaN, infinity or a constant in a layer, by name.
    """
    notes: tuple[str, ...] = ()
    split = data.train
    if not len(split):
        split, notes = (
            data.val,
            ("calibrated with validation images, because there are no others: accuracy is judged by the same images",),
        )
    chosen, more = choose_images(split.labels, images, seed)
    own = split.take(chosen)

    def prepared() -> Iterator[npt.NDArray[np.float32]]:
        for pixels, _ in batches(own, model.spec.preprocess, BATCH, len(chosen)):
            yield normalise(pixels, model.spec.preprocess)

    told = None if progress is None else lambda done: progress("calibrating", done, len(chosen))
    if progress is not None:
        progress("tracing", 0, 0)
    made = _calibrated(model.module, model.spec, prepared, device, told, (*notes, *more))
    if model.learned is None:
        return made
    strangers = [name for name in model.learned.ranges if name not in made.table.edges]
    if len(strangers) == len(model.learned.ranges):
        raise IntegrityError(
            f"the ranges that were learned are of other tensors than the model's, such as {strangers[0]}",
            fix="train again with --qat",
        )
    return replace(made, table=replace(made.table, learned=model.learned.ranges))


def equalised(calibrated: Calibrated, spec: ModelSpec, device: str = "cpu") -> Calibrated:
    """The same model with like ranges between its layers (calibration/equalize.py), calibrated with the same images."""
    from ...calibration.equalize import equalise

    if calibrated.rounder is None:
        raise ValueError("nothing to calibrate with again")
    module, _ = equalise(calibrated.module, calibrated.program, calibrated.table)
    return _calibrated(module, spec, calibrated.rounder.images, device, None, calibrated.notes)


def _calibrated(
    module: nn.Module,
    spec: ModelSpec,
    images: Batches,
    device: str,
    told: Callable[[int], None] | None,
    notes: tuple[str, ...],
) -> Calibrated:
    from ...models.weights import digest
    from ..backends.onnx import int8 as target

    graph, program = trace_graph(module, spec, "fp32", Batch(1, 8, 1024))
    edges = target.edges(target.prepare(graph))
    table, more = _collect_once(program, edges, images, device, told, digest(module))
    if table.constant:
        named = ", ".join(table.constant[:3]) + (" and others" if len(table.constant) > 3 else "")
        more = (*more, f"the same in every calibration image, so that any scale serves: {named}")
    sample = next(images())[:SAMPLE].copy()
    return Calibrated(module, graph, program, table, sample, Rounder(graph, program, images), (*notes, *more))


def _collect_once(
    program: ExportedProgram,
    edges: Collection[str],
    images: Batches,
    device: str,
    told: Callable[[int], None] | None,
    weights: str,
) -> tuple[RangeTable, tuple[str, ...]]:
    """Ranges from the cache, else collected and kept; a cache that cannot be read or written stops nothing."""
    import torch

    data = hashlib.sha256()
    for batch in images():
        data.update(np.ascontiguousarray(batch).data)
    parts = (
        str(FORMAT), COLLECTED, str(torch.__version__), weights, graph_digest(program), data.hexdigest(), *sorted(edges)
    )  # fmt: skip
    name = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
    try:
        place = cache_folder() / "ranges" / name
        found = RangeTable.load(place)
        if (found.weights, found.data) == (weights, data.hexdigest()):
            if told is not None:
                told(found.images)
            return found, (f"ranges of these weights and images were read from {place}",)
    except (ZooError, OSError):
        pass
    table = collect(program, edges, images(), device=device, progress=told, weights=weights)
    try:
        place = cache_folder() / "ranges" / name
        shutil.rmtree(place, ignore_errors=True)  # what could not be read
        table.save(place)
        _forget_oldest(place.parent)
    except (ZooError, OSError) as error:
        return table, (f"the ranges could not be kept for the next time ({error}); set ZOO_CACHE",)
    return table, ()


def graph_digest(program: ExportedProgram) -> str:
    """Hash of what a graph computes beside its weights: operators, their arguments, constants, buffers not saved."""
    import torch

    total = hashlib.sha256(str(program.graph).encode())
    for name, value in sorted(program.constants.items()):
        total.update(name.encode())
        if isinstance(value, torch.Tensor):
            tensor = value.detach().cpu().contiguous()
            total.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
            total.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
        else:
            total.update(repr(value).encode())
    return total.hexdigest()


def _forget_oldest(folder: Path) -> None:
    kept = sorted((one for one in folder.iterdir() if len(one.name) == 32), key=lambda one: -one.stat().st_mtime)
    for one in kept[KEPT:]:
        shutil.rmtree(one, ignore_errors=True)
