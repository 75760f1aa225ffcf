"""Sliding windows as strided slices: the one loop behind convolution and pooling."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


def pad(x: Array, padding: int, value: float = 0.0) -> Array:
    """Surround the images of (N, C, H, W) with ``padding`` pixels of a value; same dtype."""
    if padding == 0:
        return x
    n, c, h, w = x.shape
    out = np.full((n, c, h + 2 * padding, w + 2 * padding), value, x.dtype)
    crop(out, padding)[...] = x
    return out


def crop(padded: Array, padding: int) -> Array:
    """View of what `pad` surrounded."""
    h, w = padded.shape[2:]
    return padded[:, :, padding : h - padding, padding : w - padding]


def output_size(padded: Array, kernel: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    """Number of window positions down and across a padded image."""
    h, w = ((size - dilation * (kernel - 1) - 1) // stride + 1 for size in padded.shape[2:])
    return h, w


def offsets(
    kernel: int, stride: int, size: tuple[int, int], dilation: int = 1
) -> Iterator[tuple[int, int, tuple[slice, slice, slice, slice]]]:
    """Yield each place (i, j) of a kernel, row by row, with the slices of a padded image it reads.

    ``padded[slices]`` has the output's height and width: its pixel (y, x) is pixel
    (y·stride + i·dilation, x·stride + j·dilation) of the padded image.
    """
    everything = slice(None)

    def places(offset: int, count: int) -> slice:
        start = offset * dilation
        return slice(start, start + (count - 1) * stride + 1, stride)

    for i in range(kernel):
        for j in range(kernel):
            yield i, j, (everything, everything, places(i, size[0]), places(j, size[1]))
