"""Changing brightness, contrast and saturation of images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in a pixel's grey value (ITU-R BT.601)."""


def jittered(images: NDArray[np.uint8], factors: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Scale brightness, then contrast, then saturation of each image.

    Brightness scales the distance of every level from black, contrast that from the mean grey
    value of the brightened image, and saturation that from the grey value of the pixel. Levels
    are cut off at 0 and 255 after each step and rounded after the last. Factors of 1 change
    nothing; on grey images saturation has no effect.

    Parameters
    ----------
    images : uint8 array, shape (N, H, W, C)
        C is 1 or 3.
    factors : float64 array, shape (N, 3)
        For brightness, contrast and saturation; not negative.

    Returns
    -------
    uint8 array, shape (N, H, W, C)

    Notes
    -----
    The colour part of the ImageNet augmentation of DARTS (Liu et al., ICLR 2019), which uses
    factors up to 0.4 from 1. It differs from that in two ways: the order is fixed, not random,
    and the hue is left alone.
    """
    result = np.empty_like(images)
    luma = _LUMA if images.shape[3] == 3 else (1.0,)
    for image, (brightness, contrast, saturation), target in zip(images, factors.tolist(), result, strict=True):
        channels = np.ascontiguousarray(image.transpose(2, 0, 1))
        levels = np.minimum(np.arange(256) * brightness, 255).astype(np.float32).astype(np.float64)
        mean = sum(weight * _total(channel, levels) for weight, channel in zip(luma, channels, strict=True))
        mean /= channels[0].size
        levels = np.clip(mean + contrast * (levels - mean), 0, 255)
        values = levels.astype(np.float32)[channels]
        grey = np.zeros(values.shape[1:], np.float32)
        for weight, channel in zip(luma, values, strict=True):
            grey += np.float32(weight) * channel
        values -= grey
        values *= np.float32(saturation)
        values += grey
        np.clip(values, 0, 255, out=values)
        values += np.float32(0.5)
        target[...] = values.astype(np.uint8).transpose(1, 2, 0)
    return result


def _total(channel: NDArray[np.uint8], levels: NDArray[np.float64]) -> float:
    """Sum of the levels the pixels of a channel have after a change of levels.

    Counts times levels of single precision add up exactly in double precision, so the order of
    summation on a given machine does not show.
    """
    counts = np.bincount(channel.ravel(), minlength=256)
    return float((counts * levels).sum())
