"""Numbers into 8 bits: scales, zero points and integers, in numpy. Rounding is half to even, as ONNX defines it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .observers import Range
from .rules import Affine

SMALLEST = 1e-8  # of a scale: below it a tensor is as good as zero


def affine_uint8(span: Range) -> Affine:
    """The affine uint8 quantiser of a range that holds zero; zero is exact (Jacob et al. 2018, section 2.1)."""
    low, high = min(span[0], 0.0), max(span[1], 0.0)
    scale = max((high - low) / 255, SMALLEST)
    scale = float(np.float32(scale))
    return Affine(scale, int(np.clip(np.round(-low / scale), 0, 255)))


def symmetric_scale(largest: float, bits: int = 8) -> float:
    """The scale of a symmetric signed quantiser that reaches `largest`: 127 steps of 8 bits, 63 of 7."""
    return float(np.float32(max(largest / (2 ** (bits - 1) - 1), SMALLEST)))


def channel_scales(weight: npt.NDArray[Any], axis: int, bits: int = 8) -> npt.NDArray[np.float32]:
    """A symmetric scale for each slice of a weight along `axis` (Krishnamoorthi 2018, arXiv 1806.08342)."""
    others = tuple(dim for dim in range(weight.ndim) if dim != axis)
    largest = np.abs(weight).max(axis=others)
    return np.maximum(largest / (2 ** (bits - 1) - 1), SMALLEST).astype(np.float32)


def to_int8(weight: npt.NDArray[Any], scales: npt.NDArray[Any], axis: int, bits: int = 8) -> npt.NDArray[np.int8]:
    """Round to the nearest step; the most negative integer is not used, so that the grid is symmetric."""
    limit = 2 ** (bits - 1) - 1
    return np.clip(np.round(weight / _along(scales, weight.ndim, axis)), -limit, limit).astype(np.int8)


def from_int8(integers: npt.NDArray[np.int8], scales: npt.NDArray[Any], axis: int) -> npt.NDArray[np.float32]:
    """What the integers stand for."""
    return (integers.astype(np.float32) * _along(scales, integers.ndim, axis)).astype(np.float32)


def _along(scales: npt.NDArray[Any], ndim: int, axis: int) -> npt.NDArray[Any]:
    return np.asarray(scales).reshape([-1 if dim == axis else 1 for dim in range(ndim)])
