"""What each layer of a model costs in int8 on a target, and what it saves: measured, and kept as table and picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...atomic import claim, staged
from ...calibration.choice import Choice
from ...config import to_json
from ...errors import UsageError
from ...models.data.dataset import Dataset, batches
from ...models.preprocess import normalise
from ..backends.registry import get_backend
from ..timing.machine import cpu_flags
from .calibrate import BATCH, calibrate
from .initial import suitable_bits
from .layer_costs import Costs, measure_costs

if TYPE_CHECKING:
    from ...models.sources import Model

FILES = ("sensitivity.json", "sensitivity.png")
MOST_BARS = 40


def sensitivity(
    model: Model,
    data: Dataset,
    target: str = "onnx",
    *,
    images: int = 512,
    compared: int = 64,
    seed: int = 0,
    device: str = "cpu",
    progress: Callable[[str, int, int], None] | None = None,
) -> tuple[Costs, tuple[str, ...]]:
    """Measure each layer alone in int8 and alone in float, and on ONNX Runtime the time that int8 saves on it.

    Args:
        model: from `sources.resolve`.
        data: training images calibrate, validation images are compared; no labels are needed.
        target: whose rules quantise.
        images: for calibration.
        compared: validation images that go through each of the 2 L + 1 models.
        seed: of both draws.
        device: where the calibration runs.
        progress: is told (what, done, in all).

    Returns:
        The costs, and what a person should know.

    Raises:
        UsageError: a target without int8, no images, or images of one class.
    """
    backend = get_backend(target)
    if "int8" not in backend.precisions:
        raise UsageError(f"{target} has no int8", fix="for example --for onnx")
    if not len(data.val):
        raise UsageError(f"{data.name} has no validation images to compare")
    calibrated = calibrate(model, data, images=images, seed=seed, device=device, progress=progress)
    chosen = np.random.default_rng(seed).permutation(len(data.val))[:compared]
    split = data.val.take(np.sort(chosen))
    made = [normalise(pixels, model.spec.preprocess) for pixels, _ in batches(split, model.spec.preprocess, BATCH)]
    choice = Choice(weight_bits=suitable_bits(target, cpu_flags()))
    costs = measure_costs(backend, model, calibrated, choice, np.concatenate(made), progress)
    notes = calibrated.notes
    if not model.meaningful:
        notes = (*notes, "the weights are random: what a layer costs with trained ones will differ")
    if not costs.timed:
        notes = (*notes, f"layers of {target} are not timed here; --max-drop goes by MACs instead")
    return costs, notes


def as_mapping(costs: Costs, model: str, target: str) -> dict[str, object]:
    """As --json and sensitivity.json show it."""
    return {
        "model": model, "target": target, "images": costs.images, "timed": costs.timed,
        "whole": vars(costs.whole),
        "layers": [{**one.as_mapping(), "module": costs.modules.get(one.name, "")} for one in costs.layers],
    }  # fmt: skip


def claim_place(folder: Path) -> None:
    """Raise UsageError for a folder that `save` would not write to: before the minutes of measuring."""
    claim(folder, FILES, '"brought_kl"', "sensitivity")


def save(costs: Costs, model: str, target: str, folder: Path) -> None:
    """sensitivity.json and sensitivity.png, in a folder that is replaced in one step.

    Raises:
        UsageError: the folder holds anything but an earlier one of these.
    """
    claim_place(folder)
    with staged(folder) as place:
        (place / FILES[0]).write_text(to_json(as_mapping(costs, model, target)), encoding="utf-8")
        plot(costs, f"{model} in int8 for {target}", place / FILES[1])


def plot(costs: Costs, title: str, path: Path) -> None:
    """Bars: what giving a layer back would bring, and what int8 saves on it; the costliest at the top."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    shown = costs.layers[:MOST_BARS][::-1]
    names = [costs.modules.get(one.name, one.name) for one in shown]
    figure, axes = plt.subplots(
        1, 3 if costs.timed else 2, sharey=True, figsize=(13, 2 + 0.22 * len(shown)), layout="constrained"
    )
    axes[0].barh(names, [one.brought for one in shown], color=["C3" if one.brought > 0 else "C7" for one in shown])
    axes[0].set(xlabel="KL that float takes away, nats")
    axes[1].barh(names, [one.alone.sqnr for one in shown], color="C0")
    axes[1].set(xlabel="SQNR of the logits, it alone in int8, dB")
    if costs.timed:
        saved = [one.saved or 0.0 for one in shown]
        axes[2].barh(names, saved, color=["C2" if one > 0 else "C3" for one in saved])
        axes[2].set(xlabel="time that int8 saves, µs")
    for one in axes:
        one.tick_params(axis="y", labelsize=7)
        one.grid(axis="x", alpha=0.3)
    more = f", the first {len(shown)} of {len(costs.layers)} layers" if len(shown) < len(costs.layers) else ""
    figure.suptitle(f"{title}: SQNR {costs.whole.sqnr:.1f} dB, KL {costs.whole.kl:.2g}, {costs.images} images{more}")
    figure.savefig(path, dpi=110)
    plt.close(figure)
