"""The usual mistakes in preprocessing: what integrators, converters and ports of a model do otherwise than its source.

Packages show what each of them gives (exporter/runtime/verify.py), the gate `preprocessing` asks which of them an
artifact's answers look like. numpy and Pillow alone: it travels in packages.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from ...models.preprocess import Images, batch_to_pixels, in_mode, prepare, to_pixels
from ...models.spec import LARGEST, Interpolation, Preprocess

SHIFTED = "crop shifted by a pixel"


def mistakes(images: list[Any], preprocess: Preprocess, pixels: bool = False) -> dict[str, Images]:
    """The batches that integrators' mistakes make of the images; uint8 for a model that normalises by itself."""
    found: dict[str, Images] = {}
    if preprocess.channels != "L":
        other = "BGR" if preprocess.channels == "RGB" else "RGB"
        swapped = dataclasses.replace(preprocess, channels=other)
        taken = "RGB" if pixels else preprocess.channels
        found[f"{'BGR' if taken == 'RGB' else 'RGB'} in place of {taken}"] = prepared(images, swapped, pixels)
        if not pixels:
            found["channels swapped after normalising"] = prepare(images, preprocess)[:, ::-1].copy()
    filters: tuple[Interpolation, ...] = ("nearest", "bilinear", "bicubic")
    for one in filters:
        if one != preprocess.interpolation and preprocess.resize is not None:
            changed = dataclasses.replace(preprocess, interpolation=one)
            found[f"resized by {one} in place of {preprocess.interpolation}"] = prepared(images, changed, pixels)
    if preprocess.resize is not None:
        found["resized without antialiasing"] = _not_antialiased(images, preprocess, pixels)
    found[SHIFTED] = _shifted(images, preprocess, pixels)
    found["resized to the input's size, not cropped"] = prepared(
        images, dataclasses.replace(preprocess, resize=preprocess.crop), pixels
    )
    if pixels:
        return found
    none = dataclasses.replace(preprocess, mean=(0.0,) * preprocess.depth, std=(1.0,) * preprocess.depth)
    found["not normalised: 0 to 1"] = prepare(images, none)
    if min(preprocess.mean) > 0:
        other = dataclasses.replace(preprocess, mean=preprocess.std, std=preprocess.mean)
        found["mean and std exchanged"] = prepare(images, other)
    found["not scaled: 0 to 255"] = np.stack([to_pixels(image, preprocess) for image in images]).astype(np.float32)
    found["normalised before scaling to 0..1"] = prepare(images, dataclasses.replace(preprocess, scale=1.0))
    return found


def prepared(images: list[Any], preprocess: Preprocess, pixels: bool) -> Images:
    """Images as the model takes them: uint8 pixels for one that normalises by itself, else normalised."""
    return batch_to_pixels(images, preprocess) if pixels else prepare(images, preprocess)


def _shifted(images: list[Any], preprocess: Preprocess, pixels: bool) -> Images:
    """The crop one pixel lower and farther to the right, as another rounding of its corner gives."""
    height, width = preprocess.crop
    if max(height, width) + 2 > LARGEST:
        return prepared(images, preprocess, pixels)
    larger = dataclasses.replace(preprocess, crop=(height + 2, width + 2))
    return prepared(images, larger, pixels)[..., 2:, 2:].copy()


def _not_antialiased(images: list[Any], preprocess: Preprocess, pixels: bool) -> Images:
    """As cv2.resize and torch's interpolate do it by default: two pixels each way, however much it shrinks."""
    from PIL import Image

    from ...models.preprocess import resized_size

    made = []
    for image in images:
        image = in_mode(image, "L" if preprocess.channels == "L" else "RGB")
        height, width = resized_size(image.height, image.width, preprocess.resize)
        made.append(Image.fromarray(_bilinear(np.asarray(image), height, width)))
    return prepared(made, dataclasses.replace(preprocess, resize=None), pixels)


def _bilinear(pixels: npt.NDArray[np.uint8], height: int, width: int) -> npt.NDArray[np.uint8]:
    """Half-pixel centres, rounded: H x W (x C)."""
    flat = pixels[..., None] if pixels.ndim == 2 else pixels
    top, bottom, down = _places(flat.shape[0], height)
    left, right, across = _places(flat.shape[1], width)
    values = flat.astype(np.float32)
    rows = values[top] + (values[bottom] - values[top]) * down[:, None, None]
    made = rows[:, left] + (rows[:, right] - rows[:, left]) * across[None, :, None]
    rounded = np.rint(made).clip(0, 255).astype(np.uint8)
    return rounded[..., 0] if pixels.ndim == 2 else rounded


def _places(before: int, after: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    at = ((np.arange(after) + 0.5) * before / after - 0.5).clip(0, before - 1)
    low = np.floor(at).astype(np.int64)
    return low, np.minimum(low + 1, before - 1), (at - low).astype(np.float32)
