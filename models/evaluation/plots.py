"""Pictures: the confusion matrix, and t-SNE of what the last layer sees."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import UnavailableError

BLUE, ORANGE, GREY = "tab:blue", "tab:orange", "tab:gray"
MOST_POINTS = 2000  # t-SNE's time grows with n log n; more points say no more
MOST_NAMES = 30  # above, names on axes and in legends cannot be read
LONGEST_NAME = 40  # characters
MOST_CLASSES = 1000  # above, a confusion matrix has more cells than a picture has pixels


@contextmanager
def quietly() -> Iterator[None]:
    """The block in which a character that the font lacks, or a name too long for its place, is no warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def short(name: str) -> str:
    """A class name that leaves room for the picture."""
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


@quietly()
def plot_confusion(path: Path, confusion: npt.NDArray[np.int64], classes: tuple[str, ...], title: str) -> None:
    """Rows are true classes, in share of the row; counts are written in where they fit."""
    plt = _pyplot()
    shares = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    side = min(4 + 0.45 * len(classes), 16)
    figure, axes = plt.subplots(figsize=(side, side), layout="constrained")
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="answer", ylabel="true class")
    figure.suptitle("\n".join(textwrap.wrap(title, max(30, int(side * 8)))), fontsize=10)
    if len(classes) <= MOST_NAMES:
        names = list(map(short, classes))
        axes.set_xticks(range(len(classes)), names, rotation=45, ha="right")
        axes.set_yticks(range(len(classes)), names)
        for row, column in np.argwhere(confusion):
            dark = shares[row, column] > 0.5
            text = str(confusion[row, column])
            axes.text(column, row, text, ha="center", va="center", color="white" if dark else "black", fontsize=8)
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)
    figure.savefig(path, dpi=120)
    plt.close(figure)


@quietly()
def plot_training(
    path: Path, lines: Sequence[Mapping[str, Any]], rates: Sequence[tuple[float, float]], title: str
) -> None:
    """Loss, accuracy and learning rate over the epochs, one below the other.

    Args:
        path: of the PNG.
        lines: of metrics.jsonl: epoch, accuracy, train_accuracy, and the losses of equal parts of it in curve.
        rates: (epochs done, learning rate).
        title: above all.
    """
    plt = _pyplot()
    figure, (loss, accuracy, rate) = plt.subplots(
        3, 1, figsize=(8, 8), sharex=True, layout="constrained", height_ratios=(3, 3, 2)
    )
    places = [line["epoch"] - 1 + (i + 0.5) / len(line["curve"]) for line in lines for i in range(len(line["curve"]))]
    loss.plot(places, [value for line in lines for value in line["curve"]], color=BLUE)
    loss.set(ylabel="loss")
    ends = [line["epoch"] for line in lines]
    marker = "o" if len(ends) <= MOST_NAMES else ""
    for key, name, colour in (("train_accuracy", "training, augmented", BLUE), ("accuracy", "validation", ORANGE)):
        accuracy.plot(ends, [100 * line[key] for line in lines], color=colour, marker=marker, markersize=4, label=name)
    if lines:
        accuracy.annotate(
            f"{100 * lines[-1]['accuracy']:.2f} %", (ends[-1], 100 * lines[-1]["accuracy"]), (-4, 6),
            textcoords="offset points", ha="right",
        )  # fmt: skip
    accuracy.set(ylabel="right answers, %")
    accuracy.legend(loc="lower right")
    rate.plot(*zip(*rates, strict=True), color=GREY)
    rate.set(ylabel="learning rate", xlabel="epochs", ylim=(0, None))
    for axes in (loss, accuracy, rate):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=11)
    figure.savefig(path, dpi=120)
    plt.close(figure)


@quietly()
def plot_tsne(
    path: Path, features: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], classes: tuple[str, ...],
    title: str, seed: int = 0,
) -> None:  # fmt: skip
    """t-SNE (van der Maaten, Hinton 2008; scikit-learn's) of at most 2,000 feature vectors N x D, coloured by class."""
    plt = _pyplot()
    if len(features) > MOST_POINTS:
        chosen = np.random.default_rng(seed).choice(len(features), MOST_POINTS, replace=False)
        features, labels = features[chosen], labels[chosen]
    points = _embedded(features, seed)
    figure, axes = plt.subplots(figsize=(9, 7), layout="constrained")
    present = np.unique(labels)
    colours = plt.get_cmap("tab10" if len(present) <= 10 else "turbo", max(len(present), 1))
    for index, label in enumerate(present):
        mine = labels == label
        axes.scatter(*points[mine].T, s=10, color=colours(index), label=short(classes[label]))
    axes.set(xticks=[], yticks=[])
    figure.suptitle("\n".join(textwrap.wrap(title, 90)), fontsize=10)
    if len(present) <= MOST_NAMES:
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), markerscale=2)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _embedded(features: npt.NDArray[np.float32], seed: int) -> npt.NDArray[np.float32]:
    """N x 2 by t-SNE; equal features, those of a single image among them, are one point: there is nothing to spread."""
    from sklearn.manifold import TSNE

    if np.ptp(features, axis=0).max(initial=0) == 0:
        return np.zeros((len(features), 2), np.float32)
    if features.shape[1] == 1:  # it starts from two principal components
        features = np.column_stack([features, np.zeros_like(features)])
    made: Any = TSNE(perplexity=min(30, (len(features) - 1) / 3), random_state=seed, init="pca")
    return made.fit_transform(features)


def _pyplot() -> Any:
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise UnavailableError("pictures are drawn by matplotlib", fix='pip install "zoo-export[full]"') from error
    mpl.use("Agg")
    from matplotlib import pyplot

    return pyplot
