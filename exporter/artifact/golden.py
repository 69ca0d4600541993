"""Golden images: a few raw images and the source's own answers, which every later check starts from.

The answers come through the source's own transforms, not through ours, so that a mistake in the translation of the
preprocessing shows; in float32, as the source is used, and in float64, which is the truth that rounding is measured by.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from ...errors import UsageError
from ...models.arithmetic import logits_in
from ...models.data.dataset import Dataset
from ...models.preprocess import in_mode
from ...models.sources import Model, logits_of
from .folder import Golden
from .probes import Probes, made_probes

COUNT = 8
ALIKE = 1e-3  # how far two answers to the same images may be apart: threads that add in other orders move the last bits


def make_golden(model: Model, data: Dataset | None, seed: int = 0) -> Golden:
    """Images from the data's validation split, of as many classes as possible, else made ones; and their answers.

    Raises:
        UsageError: the model gives NaN or infinity, or answers the same images otherwise when it runs again.
    """
    images = _from_data(data, seed) if data is not None and len(data.val) else made_images(model.spec.input, seed)
    batch = model.prepared(images)
    logits = logits_of(model.module, batch)
    if wrong := int((~np.isfinite(logits)).any(1).sum()):
        raise UsageError(
            f"{model.spec.name} itself gives NaN or infinity for {wrong} of {len(logits)} golden images",
            fix="look at its weights, and at what its preprocessing gives it",
        )
    again = logits_of(model.module, batch)
    if np.linalg.norm(again - logits) > ALIKE * np.linalg.norm(logits):
        raise UsageError(
            f"{model.spec.name} does not answer the same images alike when it runs again: nothing can be compared",
            fix="take out what is random or counts its calls, such as dropout that is on in eval mode",
        )
    try:
        truth, computed = logits_in(model.module, batch, "fp64"), ""
    except UsageError as error:
        truth, computed = None, f"no truth in float64: {error.what}"
    if truth is not None and not np.isfinite(truth).all():
        truth, computed = None, "no truth in float64: the source gives NaN or infinity"
    return Golden(tuple(images), logits, truth, computed=computed, probes=make_probes(model, seed))


def make_probes(model: Model, seed: int = 0) -> Probes | None:
    """Probes with the source's answers, in float64 where it can; None where it cannot answer pictures of any size."""
    images = made_probes(model.spec.preprocess, seed)
    try:
        batch = model.prepared(images)
        try:
            truth = logits_in(model.module, batch, "fp64")
        except UsageError:
            truth = logits_of(model.module, batch).astype(np.float64)
    except Exception:  # noqa: BLE001 - of a user's own transform, which may be written for its own pictures alone
        return None
    return Probes(tuple(images), truth) if np.isfinite(truth).all() else None


def made_images(shape: tuple[int, int, int], seed: int, count: int = COUNT) -> list[Image.Image]:
    """Coloured blobs with hard edges, a little larger than the input and not square.

    Colours, edges and the odd size make swapped channels, another resize filter and a missing crop visible.
    """
    random = np.random.default_rng(seed)
    height, width = round(shape[1] * 1.3) + 15, round(shape[2] * 1.5) + 18
    images: list[Image.Image] = []
    for _ in range(count):
        coarse = random.integers(0, 256, (random.integers(4, 9), random.integers(4, 9), 3), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)).copy()
        for _ in range(6):
            top, left = random.integers(0, height // 2), random.integers(0, width // 2)
            bottom, right = top + random.integers(4, height // 2), left + random.integers(4, width // 2)
            smooth[top:bottom, left:right] = random.integers(0, 256, 3, dtype=np.uint8)
        images.append(Image.fromarray(smooth))
    return images


def _from_data(data: Dataset, seed: int) -> list[Image.Image]:
    labels = data.val.labels
    order = np.random.default_rng(seed).permutation(len(labels))
    seen: set[int] = set()
    chosen: list[int] = []
    for index in order:  # one of each class first
        if int(labels[index]) not in seen:
            seen.add(int(labels[index]))
            chosen.append(int(index))
    rest = [int(index) for index in order if int(index) not in set(chosen)]
    return [in_mode(data.val.image(index), "RGB") for index in [*chosen, *rest][:COUNT]]
