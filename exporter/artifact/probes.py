"""Probes: a few made pictures that every mistake in preprocessing changes, with the source's answers to them.

Golden images come from the data, and grey digits of the model's own size look the same through another resize filter or
with their channels swapped. Probes are of no data: colour noise, gratings and hard edges, neither square nor of the
crop's size, so that filter, antialiasing, crop, scale, mean, std and channel order each change what a model reads. They
lie in an artifact as golden/probes/0.png and so on, the answers in golden/probes.json.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from ...models.preprocess import Pixels, decode
from ...models.spec import Preprocess

GOLDEN = "golden"  # artifact.py's, which reads probes by this file
PROBES, PICTURES = f"{GOLDEN}/probes.json", "probes"
# How much of each picture is taken away by a resize, with the other side longer still.
SHRINKS = (1.3, 1.6, 1.9, 2.2, 1.45, 1.75)
LONGER = 1.27
LARGEST_PROBE = 2_000_000  # pixels


@dataclass(frozen=True)
class Probes:
    """Made pictures and the source's answers to them, N x K, through its own transforms; in float64 where it can."""

    images: tuple[Image.Image, ...]
    truth: npt.NDArray[np.float64]


def made_probes(preprocess: Preprocess, seed: int = 0) -> list[Image.Image]:
    """Pictures for a preprocessing, in colour: in patches noise of several grains, gratings, and flat colours."""
    draw = np.random.default_rng(seed)
    asked = preprocess.resize
    height, width = (asked, asked) if isinstance(asked, int) else asked or preprocess.crop
    found: list[Image.Image] = []
    for index, shrink in enumerate(SHRINKS):
        shrink = max(1.05, min(shrink, (LARGEST_PROBE / (LONGER * height * width)) ** 0.5))
        size = [round(height * shrink) + 1, round(width * shrink) + 1]
        size[index % 2] = round(size[index % 2] * LONGER)
        found.append(Image.fromarray(_picture(size[0], size[1], draw)))
    return found


def _picture(height: int, width: int, draw: np.random.Generator) -> Pixels:
    """H x W x 3: patches, each of one kind, in a colour of its own so that red and blue are never alike."""
    rows, columns = (np.arange(side)[:, None, None] for side in (height, width))
    columns = columns.transpose(1, 0, 2)
    layers: list[npt.NDArray[np.float64]] = []
    for grain in (1, 3):
        coarse = draw.uniform(0, 255, (-(-height // grain), -(-width // grain), 3))
        layers.append(coarse.repeat(grain, 0).repeat(grain, 1)[:height, :width])
    for slowest in (4.0, 12.0):
        period, angle = draw.uniform(slowest / 1.6, slowest, 3), draw.uniform(0, np.pi, 3)
        wave = np.sin(2 * np.pi * (columns * np.cos(angle) + rows * np.sin(angle)) / period)
        layers.append(np.where(wave > 0, 230.0, 25.0))
    layers.append(np.broadcast_to(draw.uniform(0, 255, 3), (height, width, 3)).copy())
    patch = max(4, min(height, width) // 5)
    kinds = draw.integers(0, len(layers), (-(-height // patch), -(-width // patch)))
    kind = kinds.repeat(patch, 0).repeat(patch, 1)[:height, :width, None]
    mixed = np.select([kind == index for index in range(len(layers))], layers)
    tint = np.array([1.0, 0.75, 0.45]) if draw.random() < 0.5 else np.array([0.45, 0.75, 1.0])
    return np.rint(mixed * tint).clip(0, 255).astype(np.uint8)


def write_probes(folder: Path, probes: Probes) -> None:
    """Write them into an artifact that is being made, which has a folder golden already."""
    place = folder / GOLDEN / PICTURES
    place.mkdir()
    names = [f"{PICTURES}/{index}.png" for index in range(len(probes.images))]
    for name, image in zip(names, probes.images, strict=True):
        image.save(folder / GOLDEN / name)
    # 12 digits, as of golden/answers.json: the same from one export to the next
    answers = {name: [float(f"{value:.12g}") for value in row] for name, row in zip(names, probes.truth, strict=True)}
    (folder / PROBES).write_text(json.dumps(answers) + "\n", encoding="utf-8")


def read_probes(folder: Path, classes: int) -> Probes:
    """Read them. Raises ValueError, TypeError, AttributeError, OSError or UsageError where they are corrupt."""
    answers = json.loads((folder / PROBES).read_text(encoding="utf-8"))
    inside = {f"{PICTURES}/{index}.png" for index in range(len(answers))}
    if set(answers) != inside:
        raise ValueError("it names other pictures than golden/probes/0.png and so on")
    truth = np.asarray(list(answers.values()), np.float64)
    if truth.shape != (len(inside), classes) or not inside or not np.isfinite(truth).all():
        raise ValueError(f"answers are {truth.shape}, or not finite, for {len(inside)} pictures")
    return Probes(_decoded(folder, list(answers)), truth)


def _decoded(folder: Path, names: Sequence[str]) -> tuple[Image.Image, ...]:
    return tuple(decode(folder / GOLDEN / name) for name in names)
