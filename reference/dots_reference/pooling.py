"""Pooling, forward and backward; see `dots_reference.convolution` for what a pull is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dots_reference.windows import Array, crop, offsets, output_size, pad

Pull = Callable[[Array], Array]


def max_pool(x: Array, stride: int) -> tuple[Array, Pull]:
    """Maximum of each 3×3 window, padding 1: (N, C, H, W) to (N, C, ⌈H/stride⌉, ⌈W/stride⌉).

    Of several equal maxima the first, row by row, gets the whole gradient.
    """
    best, pull = _window_max(pad(x, 1, -np.inf), 3, stride)
    return best, lambda gradient: crop(pull(gradient), 1)


def halving_max(x: Array) -> tuple[Array, Pull]:
    """Maximum of each 2×2 window at stride 2, alone at an odd border: (N, C, H, W) to (N, C, ⌈H/2⌉, ⌈W/2⌉)."""
    height, width = x.shape[2:]
    even = np.pad(x, ((0, 0), (0, 0), (0, height % 2), (0, width % 2)), constant_values=-np.inf)
    best, pull = _window_max(even, 2, 2)
    return best, lambda gradient: pull(gradient)[:, :, :height, :width]


def _window_max(padded: Array, kernel: int, stride: int) -> tuple[Array, Pull]:
    size = output_size(padded, kernel, stride)
    places = list(offsets(kernel, stride, size))
    best = np.full((*padded.shape[:2], *size), -np.inf, padded.dtype)
    chosen = np.zeros(best.shape, np.int8)
    for number, (_, _, window) in enumerate(places):
        # Strictly greater, so that the first maximum stays; `maximum` itself passes NaN on.
        chosen[padded[window] > best] = number
        best = np.maximum(best, padded[window])

    def pull(gradient: Array) -> Array:
        dx = np.zeros_like(padded)
        for number, (_, _, window) in enumerate(places):
            dx[window] += np.where(chosen == number, gradient, gradient.dtype.type(0))
        return dx

    return best, pull


def average_pool(x: Array, stride: int) -> tuple[Array, Pull]:
    """Mean of the real pixels of each 3×3 window, padding 1: (N, C, H, W) to (N, C, ⌈H/stride⌉, ⌈W/stride⌉)."""
    real = np.ones((1, 1, *x.shape[2:]), x.dtype)
    count, _ = _window_sum(real, 3, stride, 1)
    total, pull_total = _window_sum(x, 3, stride, 1)
    return total / count, lambda gradient: pull_total(gradient / count)


def window_average(x: Array, kernel: int, stride: int) -> tuple[Array, Pull]:
    """Mean of each window, without padding."""
    total, pull_total = _window_sum(x, kernel, stride, 0)
    return total / kernel**2, lambda gradient: pull_total(gradient / kernel**2)


def global_average(x: Array) -> tuple[Array, Pull]:
    """Mean over height and width: (N, C, H, W) to (N, C)."""
    shape = x.shape
    pixels = shape[2] * shape[3]

    def pull(gradient: Array) -> Array:
        return np.broadcast_to(gradient[:, :, None, None] / pixels, shape)

    return x.mean(axis=(2, 3)), pull


def _window_sum(x: Array, kernel: int, stride: int, padding: int) -> tuple[Array, Pull]:
    padded = pad(x, padding)
    size = output_size(padded, kernel, stride)
    places = list(offsets(kernel, stride, size))
    out = np.zeros((*x.shape[:2], *size), x.dtype)
    for _, _, window in places:
        out += padded[window]
    padded_shape = padded.shape

    def pull(gradient: Array) -> Array:
        dx = np.zeros(padded_shape, gradient.dtype)
        for _, _, window in places:
            dx[window] += gradient
        return crop(dx, padding)

    return out, pull
