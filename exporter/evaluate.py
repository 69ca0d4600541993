"""`zoo evaluate`: metrics and pictures of a run or an artifact, on labelled data."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import atomic
from ..config import to_json, to_mapping
from ..errors import GateError, UsageError
from ..models.data.dataset import Dataset, batches
from ..models.data.labels import Unmatched, match_classes, named_by_data
from ..models.evaluation.features import recorded_features
from ..models.evaluation.metrics import Metrics, measure
from ..models.evaluation.plots import plot_confusion, plot_tsne
from .load import Opened

BATCH = 100
FILES = ("metrics.json", "confusion.png", "tsne.png")


@dataclass(frozen=True)
class Evaluated:
    """What was measured, and where it was written."""

    what: str
    data: str
    metrics: Metrics
    folder: Path
    notes: tuple[str, ...] = ()


def evaluate(
    opened: Opened,
    data: Dataset,
    out: Path,
    *,
    seed: int = 0,
    flip: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> Evaluated:
    """Run the validation images, write metrics.json, confusion.png and tsne.png to `out`.

    With `flip` each answer is the mean of the logits of an image and of its mirror image (test-time augmentation): that
    is twice the work of the model alone.

    t-SNE shows the features before the last layer; an artifact gives logits only, so there it shows those.

    A model without class names takes the data's, where it has as many outputs; a note says so.

    Raises:
        UsageError: the data's classes are not the model's, the weights are random, or there are no images.
    """
    progress = progress or (lambda _what, _done, _all: None)
    spec, notes = named_by_data(opened.spec, data)
    split = data.val
    if not opened.meaningful:
        raise UsageError("the weights are random: their accuracy means nothing", fix="give trained --weights")
    atomic.claim(out, FILES, '"tsne_of"', "evaluation")
    matched = match_classes(spec, data.classes)
    if isinstance(matched, Unmatched):
        raise UsageError(f"{data.name} does not fit {spec.name}: {matched.reason}", fix="give data of its classes")
    if len(split) == 0:
        raise UsageError(f"{data.name} has no validation images", fix="add a val/ folder with images of each class")
    if flip and not data.mirror:
        raise UsageError(f"a mirrored image of {data.name} is not of the same class", fix="leave --test-flip out")
    found: list[np.ndarray] = []
    module = opened.model.module if opened.model else None
    with recorded_features(module) if module is not None else nullcontext([]) as features:
        for pixels, _ in batches(split, spec.preprocess, BATCH):
            found.append(opened.runner.run(pixels))
            if flip:
                seen = len(features)
                mirrored = opened.runner.run(pixels[..., ::-1])
                found[-1] = (found[-1] + mirrored) / 2
                del features[seen:]  # t-SNE shows the images as they are
            progress("evaluating", sum(map(len, found)), len(split))
    logits, labels = np.concatenate(found), matched.index[split.labels]
    if not np.isfinite(logits).all():
        raise GateError(
            f"{opened.what} gives NaN or infinity on {data.name}", fix="train it again, or check its weights"
        )
    metrics = measure(logits, labels, spec.labels)
    progress("drawing", 0, 2)
    used = np.unique(np.concatenate([labels, logits.argmax(1)]))
    confusion = np.asarray(metrics.confusion)[np.ix_(used, used)]
    one_each = sum(map(len, features)) == len(labels)  # a layer that runs twice an image, or on its parts, gives more
    kind = "features before the last layer" if one_each else "logits"
    document = {"what": opened.what, "data": data.name, "test_flip": flip, **to_mapping(metrics), "tsne_of": kind}
    with tempfile.TemporaryDirectory() as folder:  # all at once: a folder that was half written would be refused
        place = Path(folder)
        plot_confusion(
            place / FILES[1], confusion, tuple(spec.labels[i] for i in used), f"{opened.what} on {data.name}"
        )
        progress("drawing", 1, 2)
        points = np.concatenate(features) if one_each else logits
        plot_tsne(place / FILES[2], points, labels, spec.labels, f"{opened.what} on {data.name}: t-SNE of {kind}", seed)
        progress("drawing", 2, 2)
        (place / FILES[0]).write_bytes(to_json(document).encode())
        out.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            atomic.write_file(out / name, (place / name).read_bytes())
    return Evaluated(opened.what, data.name, metrics, out, notes)
