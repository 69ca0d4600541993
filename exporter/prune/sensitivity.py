"""How much of each stage a model can do without: accuracy against the share of its channels that is gone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from ...atomic import claim, staged
from ...calibration.images import choose_images
from ...calibration.pruning.budget import Budget
from ...calibration.pruning.criteria import Criterion
from ...calibration.pruning.removable import structure_of
from ...calibration.pruning.stages import Curve, measure_curves
from ...calibration.pruning.structured import outputs_that_stay, prune_channels
from ...config import to_json
from ...models.copies import copy_of
from ...models.data.dataset import Dataset, Split
from ...models.sources import Model, named_by
from .accuracy import measured_accuracy, prepared, settle, suitable_data

FILES = ("pruning.json", "pruning.png")
SETTLED, JUDGED = 512, 2000  # images that norms are settled with, and that accuracy is read from


def stage_curves(
    model: Model,
    data: Dataset,
    *,
    criterion: Criterion = "magnitude",
    round_to: int = 1,
    keep: Sequence[str] = (),
    seed: int = 0,
    device: str = "cpu",
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> tuple[Curve, ...]:
    """The accuracy of a model when one stage after the other loses a quarter, a half, three quarters of its channels.

    Judged by training images, so that validation images have chosen nothing; norms' statistics are taken anew each
    time, and nothing is trained. Source: Li et al. 2017, arXiv 1608.08710, section 3.2.

    Args:
        model: with weights; it is not changed.
        data: of its classes.
        criterion: which channels go.
        round_to: channels that stay are a multiple of it.
        keep: modules whose outputs stay.
        seed: of the draw of images.
        device: where accuracy is measured.
        progress: is told (done, in all).

    Raises:
        UsageError: random weights, data of other classes, or a model that cannot be traced.
    """
    model = named_by(model, data)
    data = suitable_data(model, data)
    settled, judged = two_parts(data.train, seed)
    shape, where = model.spec.input, torch.device(device)
    whole = copy_of(model.module)
    groups = structure_of(whole, shape, outputs_that_stay(whole, keep)).groups

    def accuracy(stages: Mapping[str, float]) -> float:
        module = copy_of(model.module)
        if stages:
            budget = Budget(None, round_to=round_to, stages=stages)
            prune_channels(
                module, shape, budget, criterion, keep=keep, seed=seed, batches=lambda: prepared(settled, model)
            )
            settle(module, settled, model)
        return measured_accuracy(model, module, judged, where)

    return measure_curves(groups, accuracy, progress)


def judged_images(data: Dataset, seed: int = 0) -> int:
    """How many images the curves are read from."""
    return len(two_parts(data.train, seed)[1])


def two_parts(split: Split, seed: int) -> tuple[Split, Split]:
    """Training images to settle norms with, and others to judge by; the same ones where there are few."""
    count = min(len(split), SETTLED + JUDGED)
    drawn = choose_images(split.labels, count, seed)[0]
    few = len(drawn) < 2 * SETTLED
    first, second = (drawn, drawn) if few else (drawn[:SETTLED], drawn[SETTLED:])
    return split.take(np.sort(first)), split.take(np.sort(second))


def as_mapping(curves: Sequence[Curve], model: str, criterion: str, images: int = 0) -> dict[str, object]:
    """As --json and pruning.json show it."""
    return {"model": model, "criterion": criterion, "images": images, "stages": [vars(one) for one in curves]}


def claim_place(folder: Path) -> None:
    """Raise UsageError for a folder that `save` would not write to."""
    claim(folder, FILES, '"criterion"', "pruning sensitivity")


def save(curves: Sequence[Curve], model: str, criterion: str, folder: Path, images: int = 0) -> None:
    """pruning.json and pruning.png, in a folder that is replaced in one step.

    Raises:
        UsageError: the folder holds anything but an earlier one of these.
    """
    claim_place(folder)
    with staged(folder) as place:
        (place / FILES[0]).write_text(to_json(as_mapping(curves, model, criterion, images)), encoding="utf-8")
        title = f"{model}: channels removed by {criterion}, one stage at a time, not trained; {images:,} images"
        plot(curves, title, place / FILES[1])


def plot(curves: Sequence[Curve], title: str, path: Path) -> None:
    """A line for each stage; the legend names the ones that lose most first."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 5), layout="constrained")
    ordered = sorted(curves, key=lambda one: one.accuracy[-1])
    colours = plt.get_cmap("viridis")(np.linspace(0, 0.95, len(ordered)))
    for curve, colour in zip(ordered, colours, strict=True):
        axes.plot(
            [100 * one for one in curve.removed], [100 * one for one in curve.accuracy], marker="o", markersize=3.5,
            color=colour, label=curve.stage,
        )  # fmt: skip
    axes.set(xlabel="channels removed, %", ylabel="top-1, %", title=title)
    axes.grid(alpha=0.3)
    axes.legend(title="most sensitive first", fontsize=7, ncols=1 + len(ordered) // 18, loc="center left",
                bbox_to_anchor=(1, 0.5))  # fmt: skip
    figure.savefig(path, dpi=110)
    plt.close(figure)
