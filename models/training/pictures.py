"""The pictures of a run: how it learned, and what it mistakes for what."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..evaluation.plots import MOST_CLASSES, plot_confusion, plot_training
from ..runs import CONFUSION, CURVES, read_metrics
from ..spec import ModelSpec
from .recipe import Recipe
from .schedules import learning_rate

RATES = 400  # points of the learning rate's curve


def draw_run(folder: Path, counted: npt.NDArray[np.int64], spec: ModelSpec, recipe: Recipe, steps: int) -> None:
    """Write curves.png from metrics.jsonl, and confusion.png.

    Args:
        folder: of the run.
        counted: the confusion matrix of the validation images.
        spec: name and classes.
        recipe: the schedule.
        steps: of an epoch.

    Raises:
        UnavailableError: matplotlib is missing.
    """
    every = np.unique(np.linspace(0, recipe.epochs * steps - 1, RATES).astype(int))
    rates = [(step / steps, learning_rate(recipe, int(step), recipe.epochs * steps)) for step in every]
    plot_training(folder / CURVES, read_metrics(folder), rates, spec.name)
    seen = np.flatnonzero(counted.sum(0) + counted.sum(1))
    if len(seen) <= MOST_CLASSES:
        names = tuple(spec.labels[i] for i in seen)
        plot_confusion(folder / CONFUSION, counted[np.ix_(seen, seen)], names, f"{spec.name}, validation images")
