"""How training images reach the device: resident in its memory where they fit, else decoded ahead by threads."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..data.dataset import ArraySplit, Split
from ..preprocess import Pixels, centre_crop, in_mode, to_pixels
from ..spec import Preprocess
from .recipe import Recipe

RESIDENT_BYTES = 2 << 30  # data sets up to this size stay on the device as uint8


class Feed(Protocol):
    """Shuffled batches of uint8 N x C x H x W with labels, on the device; the rest that fills no batch is left out."""

    steps: int

    def epoch(self, number: int, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of one epoch from step `first` on, in an order that depends on the seed and the number alone."""
        ...


def make_feed(split: Split, preprocess: Preprocess, recipe: Recipe, device: torch.device, seed: int) -> Feed:
    """The resident feed for images in memory that fit, else the streaming one."""
    size = len(split) * preprocess.depth * math.prod(preprocess.crop)
    if isinstance(split, ArraySplit) and size <= RESIDENT_BYTES:
        return ResidentFeed(split, preprocess, recipe.batch_size, device, seed)
    return StreamFeed(split, preprocess, recipe, device, seed)


class ResidentFeed:
    """The whole split as one uint8 tensor on the device; a batch is one gather."""

    def __init__(
        self, split: ArraySplit, preprocess: Preprocess, batch_size: int, device: torch.device, seed: int
    ) -> None:
        pixels = np.ascontiguousarray(split.pixels(np.arange(len(split)), preprocess))
        self._images = torch.from_numpy(pixels).to(device)
        self._labels = torch.from_numpy(split.labels).to(device)
        self._size, self._seed = min(batch_size, len(split)), seed
        self.steps = len(split) // self._size

    def epoch(self, number: int, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """See Feed."""
        order = _order(len(self._labels), self._seed, number).to(self._images.device)
        for step in range(first, self.steps):
            chosen = order[step * self._size : (step + 1) * self._size]
            yield self._images[chosen], self._labels[chosen]


class StreamFeed:
    """Decode, crop and resize at random in threads (Pillow works outside the GIL), two batches ahead."""

    def __init__(
        self, split: Split, preprocess: Preprocess, recipe: Recipe, device: torch.device, seed: int, threads: int = 8
    ) -> None:
        self._split, self._preprocess, self._area = split, preprocess, recipe.area
        self._device, self._seed, self._threads = device, seed, threads
        self._size = min(recipe.batch_size, len(split))
        self.steps = len(split) // self._size

    def epoch(self, number: int, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """See Feed. Raises UsageError that names a file that cannot be decoded."""
        order = _order(len(self._split), self._seed, number).numpy()
        pinned = self._device.type == "cuda"
        with ThreadPoolExecutor(self._threads) as pool:
            waiting: deque[tuple[list, np.ndarray]] = deque()
            try:
                for step in range(first, self.steps + 2):
                    if step < self.steps:
                        chosen = order[step * self._size : (step + 1) * self._size]
                        waiting.append(([pool.submit(self._one, int(i), number) for i in chosen], chosen))
                    if step >= first + 2 or self.steps - first < 2:
                        if not waiting:
                            return
                        futures, chosen = waiting.popleft()
                        images = torch.from_numpy(np.stack([future.result() for future in futures]))
                        labels = torch.from_numpy(self._split.labels[chosen])
                        if pinned:
                            images, labels = images.pin_memory(), labels.pin_memory()
                        yield images.to(self._device, non_blocking=True), labels.to(self._device, non_blocking=True)
            finally:
                pool.shutdown(cancel_futures=True)

    def _one(self, index: int, epoch: int) -> Pixels:
        random = np.random.default_rng((self._seed, epoch, index))
        return random_resized_crop(self._split.image(index), self._preprocess, self._area, random)


def random_resized_crop(
    image: Image.Image, preprocess: Preprocess, area: tuple[float, float], random: np.random.Generator
) -> Pixels:
    """A random part of the image: a random share of its area, an aspect ratio of 3/4 to 4/3, resized to the input.

    Source: Szegedy et al. 2014, section 6; ten tries as in torchvision, then the central part.
    """
    width, height = image.size
    box = (0, 0, width, height)
    for _ in range(10):
        pixels = width * height * random.uniform(*area)
        ratio = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(pixels * ratio)), round(math.sqrt(pixels / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(random.integers(0, width - w + 1)), int(random.integers(0, height - h + 1))
            box = (left, top, left + w, top + h)
            break
    else:
        side = min(width, height)
        square = centre_crop(np.asarray(in_mode(image, "RGB")), (side, side))
        image, box = Image.fromarray(square), (0, 0, side, side)
    high, wide = preprocess.crop
    cropped = in_mode(image, "RGB").resize((wide, high), Image.Resampling.BILINEAR, box=box)
    return to_pixels(cropped, Preprocess(preprocess.crop, None, mean=preprocess.mean, std=preprocess.std,
                                         channels=preprocess.channels))  # fmt: skip


def _order(count: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch))
