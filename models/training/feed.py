"""How training images reach the device: resident in its memory where they fit, else decoded ahead by threads."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..data.dataset import ArraySplit, Split
from ..preprocess import Pixels, centre_crop, in_mode, to_pixels
from ..processors import cpus
from ..spec import Preprocess
from .order import Order
from .recipe import WHOLE, Recipe

RESIDENT_BYTES = 2 << 30  # data sets up to this size stay on the device as uint8
AHEAD = 2  # batches that are decoded while a step computes


class Batch(NamedTuple):
    """What a step is made from, on the device.

    Attributes:
        images: uint8 N x C x H x W; N x 1 x H x W where the channels are alike.
        labels: int64 N.
        indices: int64 N, of the images in the data set.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor


class Feed(Protocol):
    """Batches in the order that it was made with; `cropped` says whether a random part of each was taken already."""

    order: Order
    cropped: bool

    def epoch(self, number: int, first: int = 0) -> Iterator[Batch]:
        """The batches of one epoch from step `first` on."""
        ...


def make_feed(
    split: Split, preprocess: Preprocess, recipe: Recipe, device: torch.device, order: Order, threads: int | None = None
) -> Feed:
    """The resident feed for images in memory that fit, else the streaming one.

    Args:
        split: the images.
        preprocess: of the model.
        recipe: the area of random crops.
        device: where batches go.
        order: which images a step sees.
        threads: that decode; None for two for each CPU that this process may really use.
    """
    size = len(split) * preprocess.depth * math.prod(preprocess.crop)
    if isinstance(split, ArraySplit) and size <= RESIDENT_BYTES:
        return ResidentFeed(split, preprocess, device, order)
    return StreamFeed(split, preprocess, device, order, recipe.area, threads or decoders(order.world.local_size))


def decoders(processes: int) -> int:
    """Return how many threads decode in each of so many processes: two for each CPU, since they wait for files too."""
    return max(2, 2 * cpus() // processes)


class ResidentFeed:
    """The whole split as one uint8 tensor on the device; a batch is one gather."""

    cropped = False

    def __init__(self, split: ArraySplit, preprocess: Preprocess, device: torch.device, order: Order) -> None:
        pixels = split.pixels(np.arange(len(split)), preprocess)
        grey = bool((pixels == pixels[:, :1]).all())  # the same three times: once is a third of memory and work
        kept = pixels[:, :1] if grey else pixels
        self._images = torch.from_numpy(np.array(kept, order="C")).to(device)  # a view that broadcasts is read-only
        self._labels = torch.from_numpy(split.labels).to(device)
        self.order = order

    def epoch(self, number: int, first: int = 0) -> Iterator[Batch]:
        """See Feed."""
        order = self.order.epoch(number).to(self._images.device)
        for step in range(first, self.order.steps):
            chosen = self.order.step(order, step)
            yield Batch(self._images[chosen], self._labels[chosen], chosen)


class StreamFeed:
    """Decode, crop and resize at random in threads (Pillow works outside the GIL), two batches ahead."""

    cropped = True

    def __init__(
        self,
        split: Split,
        preprocess: Preprocess,
        device: torch.device,
        order: Order,
        area: tuple[float, float],
        threads: int,
    ) -> None:
        self._split, self._preprocess, self._area = split, preprocess, area
        self._device, self._threads, self.order = device, threads, order

    def epoch(self, number: int, first: int = 0) -> Iterator[Batch]:
        """See Feed. Raises UsageError that names a file that cannot be decoded."""
        order = self.order.epoch(number)
        waiting: deque[tuple[list[Future[None]], Pixels, Tensor]] = deque()
        with ThreadPoolExecutor(self._threads) as pool:
            try:
                for step in range(first, self.order.steps):
                    chosen, first_one = self.order.step(order, step), step * self.order.size
                    places = first_one + self.order.world.own(self.order.size).start
                    images = np.empty((len(chosen), self._preprocess.depth, *self._preprocess.crop), np.uint8)
                    futures = [
                        pool.submit(self._fill, images[at], index, number, places + at)
                        for at, index in enumerate(chosen.tolist())
                    ]
                    waiting.append((futures, images, chosen))
                    if len(waiting) > AHEAD:
                        yield self._batch(*waiting.popleft())
                while waiting:
                    yield self._batch(*waiting.popleft())
            finally:
                pool.shutdown(cancel_futures=True)

    def _batch(self, futures: list[Future[None]], images: Pixels, chosen: Tensor) -> Batch:
        for future in futures:
            future.result()
        labels = torch.from_numpy(self._split.labels[chosen.numpy()])
        parts = (torch.from_numpy(images), labels, chosen)
        if self._device.type == "cuda":  # only from pinned memory a copy goes on beside the computing
            parts = tuple(part.pin_memory() for part in parts)
        return Batch(*(part.to(self._device, non_blocking=True) for part in parts))

    def _fill(self, place: Pixels, index: int, epoch: int, number: int) -> None:
        """Decode an image into its place in a batch; what is drawn for it depends on its number in the epoch."""
        image = self._split.image(index)
        if self._area == WHOLE:  # as it is evaluated
            place[:] = to_pixels(image, self._preprocess)
        else:
            random = np.random.default_rng((self.order.seed, epoch, number))
            place[:] = random_resized_crop(image, self._preprocess, self._area, random)


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
    mode = "L" if preprocess.channels == "L" else "RGB"
    cropped = np.asarray(in_mode(image, mode).resize((wide, high), Image.Resampling.BILINEAR, box=box))
    pixels = cropped[None] if mode == "L" else np.moveaxis(cropped, -1, 0)
    return pixels[::-1] if preprocess.channels == "BGR" else pixels
