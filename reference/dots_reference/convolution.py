"""Convolution and the shifted pair of FactorizedReduce, forward and backward.

A function here returns its output and a *pull*: the function that takes the gradient with
respect to the output to the gradients with respect to what went in.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dots_reference.windows import Array, crop, offsets, output_size, pad

PullTwo = Callable[[Array], tuple[Array, Array]]
PullThree = Callable[[Array], tuple[Array, Array, Array]]


def convolution(
    x: Array, weight: Array, stride: int = 1, padding: int = 0, dilation: int = 1, groups: int = 1
) -> tuple[Array, PullTwo]:
    """Cross-correlate images with a kernel, as every framework's convolution does.

    Parameters
    ----------
    x : (N, I, H, W)
    weight : (O, I/groups, K, K), of the same dtype

    Returns
    -------
    (N, O, H', W') and a pull to the gradients of ``x`` and ``weight``
    """
    if groups == x.shape[1] == weight.shape[0]:
        return _depthwise(x, weight, stride, padding, dilation)
    return _grouped(x, weight, stride, padding, dilation, groups)


def _grouped(x: Array, weight: Array, stride: int, padding: int, dilation: int, groups: int) -> tuple[Array, PullTwo]:
    """At every place of the kernel one matrix product over channels, for each sample and group."""
    n, inputs = x.shape[:2]
    outputs, _, kernel, _ = weight.shape
    padded = pad(x, padding)
    size = output_size(padded, kernel, stride, dilation)
    places = list(offsets(kernel, stride, size, dilation))
    matrices = weight.reshape(groups, outputs // groups, inputs // groups, kernel, kernel)

    def columns(window: tuple[slice, ...]) -> Array:
        return padded[window].reshape(n, groups, inputs // groups, size[0] * size[1])

    out = np.zeros((n, groups, outputs // groups, size[0] * size[1]), x.dtype)
    for i, j, window in places:
        out += matrices[..., i, j] @ columns(window)

    def pull(gradient: Array) -> tuple[Array, Array]:
        g = gradient.reshape(n, groups, outputs // groups, size[0] * size[1])
        dx = np.zeros_like(padded)
        dw = np.empty_like(matrices)
        for i, j, window in places:
            dw[..., i, j] = (g @ columns(window).swapaxes(-1, -2)).sum(axis=0)
            dx[window] += (matrices[..., i, j].swapaxes(-1, -2) @ g).reshape(n, inputs, *size)
        return crop(dx, padding), dw.reshape(weight.shape)

    return out.reshape(n, outputs, *size), pull


def _depthwise(x: Array, weight: Array, stride: int, padding: int, dilation: int) -> tuple[Array, PullTwo]:
    """At every place of the kernel one multiplication: each channel has its own kernel."""
    kernel = weight.shape[2]
    padded = pad(x, padding)
    size = output_size(padded, kernel, stride, dilation)
    places = list(offsets(kernel, stride, size, dilation))

    out = np.zeros((*x.shape[:2], *size), x.dtype)
    for i, j, window in places:
        out += weight[:, :, i, j, None] * padded[window]

    def pull(gradient: Array) -> tuple[Array, Array]:
        dx = np.zeros_like(padded)
        dw = np.empty_like(weight)
        for i, j, window in places:
            dw[:, 0, i, j] = np.einsum("nchw,nchw->c", gradient, padded[window])
            dx[window] += weight[:, :, i, j, None] * gradient
        return crop(dx, padding), dw

    return out, pull


def shifted_pair(x: Array, first: Array, second: Array) -> tuple[Array, PullThree]:
    """Two 1×1 stride-2 convolutions, the second of the image shifted by one pixel, concatenated.

    The second reads pixel (y+1, x+1), and 0 beyond the border of an image of odd size
    (FactorizedReduce of DARTS, whose images are even).

    Parameters
    ----------
    x : (N, I, H, W)
    first, second : (O₁, I, 1, 1) and (O₂, I, 1, 1)

    Returns
    -------
    (N, O₁ + O₂, ⌈H/2⌉, ⌈W/2⌉) and a pull to the gradients of ``x``, ``first`` and ``second``
    """
    shifted = np.zeros_like(x)
    shifted[:, :, :-1, :-1] = x[:, :, 1:, 1:]
    one, pull_one = convolution(x, first, stride=2)
    two, pull_two = convolution(shifted, second, stride=2)

    def pull(gradient: Array) -> tuple[Array, Array, Array]:
        dx, dfirst = pull_one(gradient[:, : len(first)])
        dshifted, dsecond = pull_two(gradient[:, len(first) :])
        dx[:, :, 1:, 1:] += dshifted[:, :, :-1, :-1]
        return dx, dfirst, dsecond

    return np.concatenate([one, two], axis=1), pull
