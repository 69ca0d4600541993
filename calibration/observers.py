"""From what was seen of a tensor to the range that is quantised: min-max, moving average, percentile, MSE, entropy.

A `Seen` streams: it takes one batch after the other and keeps a fixed amount of memory. The range is chosen
afterwards, so that one pass over the images serves every method and every number format.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

Statistic = Literal["minmax", "moving_average", "percentile", "mse", "entropy"]
METHODS: tuple[Statistic, ...] = get_args(Statistic)
BINS = 4096  # over [-bound, bound]: a tensor that is never negative has half of them
PERCENTILE = 99.999
MOMENTUM = 0.01  # of the moving average; torch.ao.quantization's and Jacob et al. 2018's choice
LEVELS = 128  # of a symmetric 8-bit quantiser, one side; the same number for an affine one over one sign

Histogram = npt.NDArray[np.int64]
Range = tuple[float, float]


@dataclass
class Seen:
    """Statistics of one tensor over all batches.

    Attributes:
        low: the smallest value.
        high: the largest value.
        average: exponential moving average of each batch's smallest and largest value.
        bound: the histogram goes from -bound to bound; it doubles when a batch goes beyond, and pairs of bins are
            then added up exactly, so that the result does not depend on how images were batched.
        histogram: BINS counts.
        batches: how many were seen.
        channel_low, channel_high: per channel: dimension 1, or the last where a linear layer reads the tensor.
        channel_mean: per channel, over all elements seen.
        elements: seen per channel, for the mean.
    """

    low: float = np.inf
    high: float = -np.inf
    average: Range = (0.0, 0.0)
    bound: float = 0.0
    histogram: Histogram = field(default_factory=lambda: np.zeros(BINS, np.int64))
    batches: int = 0
    channel_low: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    channel_high: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    channel_mean: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0, np.float64))
    elements: int = 0

    def widen(self, largest: float) -> None:
        """Make room for values up to `largest` in magnitude."""
        if self.bound == 0.0:
            self.bound = largest
        while self.bound < largest:
            pairs = self.histogram.reshape(BINS // 2, 2).sum(1)
            self.histogram = np.concatenate([np.zeros(BINS // 4, np.int64), pairs, np.zeros(BINS // 4, np.int64)])
            self.bound *= 2

    def add(self, low: float, high: float, counts: Histogram) -> None:
        """One batch: its extremes, and its counts over the present bound (call `widen` first)."""
        first = self.batches == 0
        self.low, self.high = min(self.low, low), max(self.high, high)
        before = self.average
        step = 1.0 if first else MOMENTUM
        self.average = (before[0] + step * (low - before[0]), before[1] + step * (high - before[1]))
        self.histogram = self.histogram + counts
        self.batches += 1

    def add_channels(self, low: npt.NDArray[np.float32], high: npt.NDArray[np.float32],
                     total: npt.NDArray[np.float64], elements: int) -> None:  # fmt: skip
        """One batch per channel: extremes, sums, and how many elements each sum is of."""
        if self.elements and len(low) != len(self.channel_low):  # dimension 1 is the batch, not channels
            self.channel_low, self.channel_high = np.zeros(0, np.float32), np.zeros(0, np.float32)
            self.channel_mean = np.zeros(0)
        if self.elements and not len(self.channel_low):
            return
        if not self.elements:
            self.channel_low, self.channel_high = low.copy(), high.copy()
            self.channel_mean = np.zeros(len(total))
        self.channel_low = np.minimum(self.channel_low, low)
        self.channel_high = np.maximum(self.channel_high, high)
        self.elements += elements
        self.channel_mean = self.channel_mean + (total - elements * self.channel_mean) / self.elements

    def clipped(self, span: Range) -> float:
        """The share of the values seen that surely lie outside a range: in bins that do as a whole."""
        edges = np.linspace(-self.bound, self.bound, BINS + 1)
        outside = (edges[1:] <= span[0]) | (edges[:-1] > span[1])
        return float(self.histogram[outside].sum() / max(1, self.histogram.sum()))

    def range(self, method: Statistic = "minmax", *, symmetric: bool = False) -> Range:
        """The range to quantise, always with zero in it; symmetric: (-a, a).

        minmax: the extremes (Jacob et al. 2018, arXiv 1712.05877).
        moving_average: the moving average of the batches' extremes (the same).
        percentile: the smallest range that leaves out 0.001 % of the values, half of it on each side that has any.
        mse: the clipping that makes the mean squared error of an 8-bit quantiser smallest over the histogram (Shin et
            al. 2016; Banner et al. 2019, arXiv 1810.05723).
        entropy: the clipping that makes the Kullback-Leibler divergence between the histogram and its 8-bit version
            smallest (Migacz, 8-bit inference with TensorRT, GTC 2017).
        """
        low, high = min(self.low, 0.0), max(self.high, 0.0)
        if method == "moving_average":
            low, high = min(self.average[0], 0.0), max(self.average[1], 0.0)
        elif method != "minmax" and self.bound > 0:
            share = {"percentile": percentile_clip, "mse": mse_clip, "entropy": entropy_clip}[method](self)
            low, high = min(0.0, max(low, share[0])), max(0.0, min(high, share[1]))  # zero stays exact
        if symmetric:
            largest = max(-low, high)
            return -largest, largest
        return low, high


def percentile_clip(seen: Seen, percentile: float = PERCENTILE) -> Range:
    """Bounds between which `percentile` per cent of the values lie, at the resolution of the histogram."""
    counts, edges = seen.histogram, np.linspace(-seen.bound, seen.bound, BINS + 1)
    total = counts.sum()
    outside = total * (1 - percentile / 100)
    negative = seen.low < 0
    below = outside / 2 if negative and seen.high > 0 else outside if negative else 0.0
    above = outside - below if seen.high > 0 else 0.0
    cumulated = np.cumsum(counts)
    left = int(np.searchsorted(cumulated, below, side="right"))
    right = int(np.searchsorted(cumulated, total - above, side="left"))
    return float(edges[min(left, BINS - 1)]), float(edges[min(right, BINS - 1) + 1])


def mse_clip(seen: Seen, steps: int = 100) -> Range:
    """Scale both ends down in `steps` steps; the error of a bin is that of its centre, clipped and rounded."""
    counts = seen.histogram.astype(np.float64)
    centres = _centres(seen)
    used = counts > 0
    counts, centres = counts[used], centres[used]
    best, chosen = np.inf, (seen.low, seen.high)
    for step in range(steps):
        share = 1 - step / steps
        low, high = share * min(seen.low, 0.0), share * max(seen.high, 0.0)
        scale = (high - low) / 255
        if scale <= 0:
            break
        rounded = np.clip(np.round((centres - low) / scale), 0, 255) * scale + low
        error = float((counts * (rounded - centres) ** 2).sum())
        if error < best:
            best, chosen = error, (low, high)
    return chosen


def entropy_clip(seen: Seen) -> Range:
    """Fold |x| into one side, clip at each multiple of 1/16 of the used bins, and compare with 128 merged bins."""
    folded = seen.histogram[BINS // 2 :] + seen.histogram[: BINS // 2][::-1]
    folded[0] = folded[1]  # zeros are exact at any scale, and after a ReLU they would outweigh all else
    used = int(np.max(np.nonzero(folded)[0], initial=0)) + 1
    if used <= LEVELS:
        return seen.low, seen.high
    best, chosen = np.inf, used
    for stop in range(LEVELS, used + 1, max(1, used // 128)):
        clipped = folded[:stop].astype(np.float64)
        clipped[-1] += folded[stop:].sum()
        divergence = kl_divergence(clipped, merged(folded[:stop], LEVELS))
        if divergence < best:
            best, chosen = divergence, stop
    end = seen.bound * 2 * chosen / BINS
    return -end, end


def merged(counts: Histogram, levels: int) -> npt.NDArray[Any]:
    """Counts as a quantiser with so many levels keeps them: each level's mass spread evenly over its non-empty bins."""
    owner = np.minimum(np.arange(len(counts)) * levels // len(counts), levels - 1)
    mass = np.bincount(owner, counts.astype(np.float64), levels)
    filled = np.bincount(owner, counts > 0, levels)
    share = np.divide(mass, filled, out=np.zeros(levels), where=filled > 0)
    return np.where(counts > 0, share[owner], 0.0).astype(np.float64)


def kl_divergence(p: npt.NDArray[Any], q: npt.NDArray[Any]) -> float:
    """Sum of p log(p / q) of two unnormalised histograms; where q is empty and p is not, q gets a little mass."""
    p, q = p / p.sum(), q / max(q.sum(), 1e-300)
    filled = p > 0
    return float((p[filled] * np.log(p[filled] / np.maximum(q[filled], 1e-9))).sum())


def _centres(seen: Seen) -> npt.NDArray[np.float64]:
    width = 2 * seen.bound / BINS
    return np.asarray(-seen.bound + width * (np.arange(BINS) + 0.5), np.float64)
