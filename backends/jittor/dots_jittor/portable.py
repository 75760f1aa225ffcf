"""The primitives (`dots_jittor.primitives`) in Jittor's own operators, for devices other than the CPU."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from dots_core.search_space.layers import NORM_EPSILON
from dots_jittor.arrays import Var, upload
from dots_jittor.startup import jt
from dots_jittor.window import Window


def _number(value: float, like: Var) -> Var:
    # Jittor makes a Python number float32.
    return upload(np.array([value], str(like.dtype)))


def rectify(x: Var) -> Var:
    # Jittor's own ReLU turns a NaN into 0.
    return x * (x > 0).cast(x.dtype)


def depthwise(x: Var, weight: Var, window: Window, rectify: bool) -> Var:
    x = _rectified(x, rectify)
    outputs = weight.shape[0]
    repeated = jt.concat([x] * (outputs // x.shape[1]), 1)
    return jt.nn.conv2d(repeated, weight, None, window.stride, window.padding, window.dilation, outputs)


def pointwise(x: Var, weight: Var, groups: int, rectify: bool, stride: int = 1, offset: int = 0) -> Var:
    x = _rectified(x, rectify)
    if stride > 1:
        x = jt.nn.pad(x, [0, offset, 0, offset])[:, :, offset::stride, offset::stride]
    return jt.nn.conv2d(x, weight, None, 1, 0, 1, groups)


def _rectified(x: Var, wanted: bool) -> Var:
    return rectify(x) if wanted else x


def normalise(x: Var, scale: Var, shift: Var) -> tuple[Var, Var]:
    n, channels, h, w = x.shape
    count = n * h * w
    # The gradient of Jittor's mean divides in float32.
    share = _number(1 / count, x)
    mean = x.sum(dims=(0, 2, 3), keepdims=True) * share
    deviation = x - mean
    variance = (deviation * deviation).sum(dims=(0, 2, 3), keepdims=True) * share
    y = deviation / jt.sqrt(variance + _number(NORM_EPSILON, x))
    unbiased = variance * _number(count / (count - 1), x)
    moments = jt.concat([mean.reshape((1, channels)), unbiased.reshape((1, channels))], 0)
    return y * _by_channel(scale, channels) + _by_channel(shift, channels), moments.detach()


def normalise_by(x: Var, scale: Var, shift: Var, mean: Var, variance: Var) -> Var:
    channels = x.shape[1]
    factor = _by_channel(scale, channels) / jt.sqrt(_by_channel(variance, channels) + _number(NORM_EPSILON, x))
    return (x - _by_channel(mean, channels)) * factor + _by_channel(shift, channels)


def _by_channel(values: Var, channels: int) -> Var:
    """Give every channel its entry of a vector: shape (1, C, 1, 1)."""
    count = values.shape[0]
    if count < channels:
        values = values.reshape((count, 1)).broadcast((count, channels // count))
    return values.reshape((1, channels, 1, 1))


def max_pool(x: Var, window: Window) -> Var:
    if window.over:
        return _max_pool_over(x, window)
    return jt.nn.Pool(window.kernel, window.stride, window.padding, op="maximum")(x)


def _max_pool_over(x: Var, window: Window) -> Var:
    n, channels, h, w = x.shape
    kernel = window.kernel
    # Jittor's own pool refuses an image no larger than its window.
    places = [f"i{axis}*{window.stride}+i{axis + 2}*{window.dilation}-{window.padding}" for axis in (2, 3)]
    shape = (n, channels, window.output(h), window.output(w))
    taps = x.reindex([*shape, kernel, kernel], ["i0", "i1", *places], overflow_value=-math.inf)
    taps = taps.reshape((*shape, kernel * kernel))
    return jt.argmax(taps, dim=-1)[1]


def average_pool(x: Var, window: Window) -> Var:
    # Jittor's average pool counts the padding unless it rounds sizes up.
    _, channels, h, w = x.shape
    ones = upload(np.ones((channels, 1, window.kernel, window.kernel), str(x.dtype)))
    total = jt.nn.conv2d(x, ones, None, window.stride, window.padding, 1, channels)
    counts = np.outer(_inside(h, window), _inside(w, window)).astype(str(x.dtype))
    return total / upload(counts[None, None])


def _inside(size: int, window: Window) -> np.ndarray:
    """How many taps of each window lie inside, along one axis."""
    first = np.arange(window.output(size)) * window.stride - window.padding
    return np.minimum(first + window.kernel, size) - np.maximum(first, 0)


def mix(factors: Var, basis: Sequence[Var]) -> Var:
    n, c, h, w = basis[0].shape
    edges = factors.shape[0]
    stacked = jt.concat([b.reshape((1, n * c * h * w)) for b in basis], 0)
    # (edges, tensors) · (tensors, N·C·H·W)
    mixed = jt.matmul(factors, stacked).reshape((edges, n, c * h * w))
    return mixed.transpose((1, 0, 2)).reshape((n, edges * c, h, w))


def add(terms: Sequence[Var]) -> Var:
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def interleave(first: Var, rest: Var, parts: int) -> Var:
    n, _, h, w = first.shape
    joined = jt.concat([first, rest], 1)
    channels = joined.shape[1]
    return joined.reshape((n, parts, channels // parts, h * w)).transpose((0, 2, 1, 3)).reshape((n, channels, h, w))


def cross_entropy(logits: Var, labels: Var, smoothing: float, share: float) -> tuple[Var, Var]:
    classes = logits.shape[1]
    centred = logits - logits.max(1, keepdims=True).detach()
    losses = jt.log(jt.exp(centred).sum(1, keepdims=True)) - centred
    hit = (labels.reshape((-1, 1)) == upload(np.arange(classes, dtype=np.int32)[None])).cast(logits.dtype)
    targets = hit * _number(share * (1 - smoothing), logits) + _number(share * smoothing / classes, logits)
    best, _ = jt.argmax(logits.detach(), dim=1)
    return (losses * targets).sum(), (best == labels).sum().cast(logits.dtype)


def approach(old: Var, target: Var, share: float) -> Var:
    return _number(1 - share, old) * old + _number(share, target) * target


def approach_some(old: Var, target: Var, moves: Var, share: float) -> Var:
    return jt.ternary(moves.bool(), approach(old, target, share), old)
