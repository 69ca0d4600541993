"""Bias correction: rounding weights shifts the mean of a layer's output; the bias takes the shift back."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating]


def shift_of(weight: Array, rounded: Array, mean: Array, groups: int = 1, channel_axis: int = 0) -> Array | None:
    """What rounding adds to the mean of each output channel: the sum of (rounded - weight) over the mean input.

    Nagel et al. 2019 (Data-Free Quantization, arXiv 1906.04721), section 4.2, with the mean input measured instead of
    derived from batch norm. Padding is left out: at the border the shift is smaller.

    Args:
        weight: K x C/groups x kernel for a convolution, or K x C (C x K with channel_axis 1) for a matrix product.
        rounded: what the integers stand for, of the same shape.
        mean: of each input channel, C.
        groups: of the convolution.
        channel_axis: of the output channels.

    Returns:
        K shifts, to be subtracted from the bias; None where these means are not those of the layer's input channels,
        because there are none or their number does not divide the channels'.
    """
    error = np.moveaxis(np.asarray(rounded, np.float64) - weight, channel_axis, 0)
    error = error.reshape(error.shape[0], error.shape[1], -1).sum(-1)  # K x C/groups
    outputs, inner = error.shape
    if not len(mean) or inner * groups % len(mean):
        return None
    mean = np.repeat(mean, inner * groups // len(mean))  # each channel's, flattened with its height and width
    owner = np.arange(outputs) // (outputs // groups)
    inputs = np.asarray(mean, np.float64).reshape(groups, inner)[owner]
    return (error * inputs).sum(1)
