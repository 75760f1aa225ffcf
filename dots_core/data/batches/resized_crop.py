"""Cutting a random part out of each image and bringing it back to the size of the whole."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

WIDEST = 4 / 3
"""Largest ratio of a crop's width to its height; the smallest is its inverse."""

_ATTEMPTS = 10
DRAWS = 2 * _ATTEMPTS + 2
"""Uniform numbers :func:`random_boxes` takes for each image."""


def random_boxes(draws: NDArray[np.float64], height: int, width: int, smallest: float) -> NDArray[np.int64]:
    """Choose the part of each image to keep.

    The share of the area is uniform between ``smallest`` and 1 and the logarithm of width over
    height is uniform between those of 3/4 and 4/3, both rounded to whole pixels. Of ten such
    sizes the first that fits into the image is taken, at a uniformly drawn place. If none fits,
    the largest central part with an admissible ratio is taken, which is the whole of a square image.

    Parameters
    ----------
    draws : float64 array, shape (N, 22)
        Uniform in [0, 1): ten shares, ten ratios, the place from the top and from the left.
    height, width : int
        Of the images, in pixels.
    smallest : float
        Smallest share of the area, in (0, 1].

    Returns
    -------
    int64 array, shape (N, 4)
        Top, left, height and width of each box, in pixels.

    Notes
    -----
    The crop of Inception (Szegedy et al., "Going deeper with convolutions", CVPR 2015, section 6)
    in the form DARTS and its successors train on ImageNet with, where ``smallest`` is 0.08.
    """
    areas = (smallest + (1 - smallest) * draws[:, :_ATTEMPTS]) * (height * width)
    ratios = np.exp((2 * draws[:, _ATTEMPTS : 2 * _ATTEMPTS] - 1) * math.log(WIDEST))
    widths, heights = np.rint(np.sqrt(areas * ratios)), np.rint(np.sqrt(areas / ratios))
    fits = (widths >= 1) & (widths <= width) & (heights >= 1) & (heights <= height)
    rows, first = np.arange(len(draws)), fits.argmax(axis=1)
    found = fits[rows, first]
    ratio = min(max(width / height, 1 / WIDEST), WIDEST)
    tall = np.where(found, heights[rows, first], min(height, round(width / ratio)))
    wide = np.where(found, widths[rows, first], min(width, round(height * ratio)))
    top = np.where(found, draws[:, -2] * (height - tall + 1), (height - tall) // 2)
    left = np.where(found, draws[:, -1] * (width - wide + 1), (width - wide) // 2)
    return np.stack([top, left, tall, wide], axis=1).astype(np.int64)


def resized_crops(images: NDArray[np.uint8], boxes: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Enlarge a part of each image to the size of the whole by bilinear interpolation.

    Pixel centres lie at half-integer positions and pixels outside the part are not looked at, so
    a box that covers its image gives it back unchanged. All arithmetic is on integers: the result
    is the same on every machine and no further than 1.01 levels from exact interpolation.

    Parameters
    ----------
    images : uint8 array, shape (N, H, W, C)
    boxes : int64 array, shape (N, 4)
        Top, left, height and width of each part, in pixels; inside the image.

    Returns
    -------
    uint8 array, shape (N, H, W, C)
    """
    _, height, width, channels = images.shape
    result = np.empty_like(images)
    for image, (top, left, tall, wide), target in zip(images, boxes.tolist(), result, strict=True):
        near, far, share = _neighbours(wide, width)
        # Eight bits of weight times a level fill 16 bits, and 16 more fill 32: the fastest exact arithmetic.
        weight = np.repeat(np.rint(share * 256).astype(np.uint16), channels)
        part = image[top : top + tall, left : left + wide]
        across = part[:, near].reshape(tall, -1) * (256 - weight)
        across += part[:, far].reshape(tall, -1) * weight
        near, far, share = _neighbours(tall, height)
        weights = np.rint(share * 65536).astype(np.uint32)[:, None]
        both = across[near] * (65536 - weights)
        both += across[far] * weights
        both += np.uint32(1 << 23)
        both >>= np.uint32(24)
        target[...] = both.reshape(height, width, channels)
    return result


def _neighbours(length: int, size: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Spread ``size`` points over a line of ``length`` pixels.

    Returns the pixel before each point, the one after it and the share of the latter: three arrays, shape (size,).
    """
    positions: NDArray[np.float64] = np.clip((np.arange(size) + 0.5) * (length / size) - 0.5, 0, length - 1)
    near: NDArray[np.int64] = positions.astype(np.int64)
    far: NDArray[np.int64] = np.minimum(near + 1, length - 1)
    return near, far, positions - near
