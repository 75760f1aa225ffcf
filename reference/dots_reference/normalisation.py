"""Batch normalisation (Ioffe and Szegedy, ICML 2015), forward and backward."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dots_core.search_space.layers import NORM_EPSILON, NORM_MOMENTUM
from dots_reference.windows import Array

Moments = tuple[Array, Array]
"""A batch's mean and unbiased variance of each channel, shape (C,) each."""


def batch_norm(
    x: Array, weight: Array | None, bias: Array | None
) -> tuple[Array, Moments, Callable[[Array], tuple[Array, Array, Array]]]:
    """Normalise with the batch's own statistics.

    The variance is taken in a second pass, of the centred values: E[x²] − E[x]² cancels where
    the mean is large. Normalising uses the biased variance, the moments hold the unbiased one.

    Parameters
    ----------
    x : (N, C, H, W), with N·H·W ≥ 2
    weight, bias : (C,), or None for 1 and 0

    Returns
    -------
    y : (N, C, H, W)
    moments : `Moments`
    pull
        Takes the gradient of y to those of x, weight and bias; the last two are also what
        they would be, were they 1 and 0.
    """
    count = x.size // x.shape[1]
    mean = _channel_sum(x) / count
    centred = x - mean[:, None, None]
    variance = _channel_dot(centred, centred) / count
    inverse = 1.0 / np.sqrt(variance + NORM_EPSILON)
    normal = centred * inverse[:, None, None]

    def pull(gradient: Array) -> tuple[Array, Array, Array]:
        dweight, dbias = _channel_dot(gradient, normal), _channel_sum(gradient)
        # x moves its channel's mean and variance too: what the gradient has of them is taken out.
        outside = gradient - (dbias / count)[:, None, None] - normal * (dweight / count)[:, None, None]
        scale = inverse if weight is None else inverse * weight
        return outside * scale[:, None, None], dweight, dbias

    return _affine(normal, weight, bias), (mean, variance * (count / (count - 1))), pull


def normalise(x: Array, mean: Array, variance: Array, weight: Array | None, bias: Array | None) -> Array:
    """Normalise with given statistics, as in evaluation: (N, C, H, W) to the same shape."""
    inverse = 1.0 / np.sqrt(variance + NORM_EPSILON)
    return _affine((x - mean[:, None, None]) * inverse[:, None, None], weight, bias)


def moved(running: Array, batch: Array) -> Array:
    """Running statistic after one more batch."""
    return (1.0 - NORM_MOMENTUM) * running + NORM_MOMENTUM * batch


def _affine(normal: Array, weight: Array | None, bias: Array | None) -> Array:
    out = normal if weight is None else normal * weight[:, None, None]
    return out if bias is None else out + bias[:, None, None]


def _channel_sum(x: Array) -> Array:
    return x.sum(axis=(0, 2, 3))


def _channel_dot(a: Array, b: Array) -> Array:
    return np.einsum("nchw,nchw->c", a, b)
