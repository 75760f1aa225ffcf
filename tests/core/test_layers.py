from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import quick

from dots_core.search_space.layers import (
    Convolution,
    GlobalAverage,
    Linear,
    Norm,
    Pool,
    ReLU,
    ShiftedPair,
    WindowAverage,
    factorized_reduce,
    output_size,
    relu_conv_norm,
)
from dots_core.search_space.operations import DARTS, NONE, OPERATIONS


def positions(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """How many windows fit, counted one by one."""
    reach = dilation * (kernel - 1)
    return len([start for start in range(-padding, size + padding, stride) if start + reach < size + padding])


@quick
@given(
    st.tuples(st.integers(5, 40), st.integers(5, 40)),
    st.integers(1, 5),
    st.integers(1, 3),
    st.integers(0, 4),
    st.integers(1, 2),
)
def test_convolution_sizes(size, kernel, stride, padding, dilation):
    layer = Convolution("c", 4, 4, kernel, stride, padding, dilation)
    expected = tuple(positions(s, kernel, stride, padding, dilation) for s in size)
    if min(expected) > 0:
        assert output_size(layer, size) == expected


@quick
@given(st.tuples(st.integers(1, 33), st.integers(1, 33)), st.sampled_from(DARTS[1:]), st.sampled_from([1, 2]))
def test_every_operation_keeps_the_size_or_halves_it_rounding_up(size, operation, stride):
    after = size
    for layer in OPERATIONS[operation].layers("x", 4, stride, True, True):
        after = output_size(layer, after)
    assert after == tuple(-(-s // stride) for s in size)


def test_other_sizes():
    assert output_size(ReLU(), (5, 7)) == (5, 7)
    assert output_size(Norm("n", 4, True), (5, 7)) == (5, 7)
    assert output_size(GlobalAverage(), (5, 7)) == (1, 1)
    assert output_size(WindowAverage(5, 3), (8, 9)) == (2, 2)
    assert output_size(Pool("max", 2), (5, 6)) == (3, 3)


@pytest.mark.parametrize(("operation", "kernel"), [("sep_conv_3x3", 3), ("sep_conv_5x5", 5)])
def test_separable_convolution(operation, kernel):
    layers = OPERATIONS[operation].layers("e", 8, 2, True, True)
    assert layers == (
        ReLU(),
        Convolution("e.depthwise1", 8, 8, kernel, 2, kernel // 2, 1, 8),
        Convolution("e.pointwise1", 8, 8, 1),
        Norm("e.norm1", 8, True),
        ReLU(),
        Convolution("e.depthwise2", 8, 8, kernel, 1, kernel // 2, 1, 8),
        Convolution("e.pointwise2", 8, 8, 1),
        Norm("e.norm2", 8, True),
    )
    assert layers[1].weight_shape == (8, 1, kernel, kernel)
    assert layers[2].weight_shape == (8, 8, 1, 1)


@pytest.mark.parametrize(("operation", "kernel", "padding"), [("dil_conv_3x3", 3, 2), ("dil_conv_5x5", 5, 4)])
def test_dilated_convolution(operation, kernel, padding):
    assert OPERATIONS[operation].layers("e", 8, 2, False, True) == (
        ReLU(),
        Convolution("e.depthwise", 8, 8, kernel, 2, padding, 2, 8),
        Convolution("e.pointwise", 8, 8, 1),
        Norm("e.norm", 8, False),
    )


def test_pools_and_skips():
    assert OPERATIONS["max_pool_3x3"].layers("e", 8, 2, True, True) == (Pool("max", 2), Norm("e.norm", 8, False))
    assert OPERATIONS["avg_pool_3x3"].layers("e", 8, 1, True, False) == (Pool("avg", 1),)
    assert OPERATIONS["skip_connect"].layers("e", 8, 1, True, True) == ()
    assert OPERATIONS["skip_connect"].layers("e", 8, 2, True, True) == factorized_reduce("e", 8, 8, True)
    assert factorized_reduce("e", 6, 8, True) == (
        ReLU(),
        ShiftedPair(Convolution("e.conv1", 6, 4, 1, 2), Convolution("e.conv2", 6, 4, 1, 2)),
        Norm("e.norm", 8, True),
    )
    assert relu_conv_norm("e", 6, 8, False) == (ReLU(), Convolution("e.conv", 6, 8, 1), Norm("e.norm", 8, False))


def test_none_has_no_layers():
    with pytest.raises(ValueError, match="none"):
        OPERATIONS[NONE].layers("e", 8, 1, True, True)


def test_linear_is_no_convolution():
    assert output_size(Linear("l", 4, 2), (1, 1)) == (1, 1)


def convolved(x: np.ndarray, weight: np.ndarray, layer: Convolution) -> np.ndarray:
    """One channel, tap by tap; x (H, W), weight (kernel, kernel)."""
    padded = np.pad(x, layer.padding)
    height, width = output_size(layer, x.shape)
    out = np.zeros((height, width))
    for i in range(height):
        for j in range(width):
            for a, b in np.ndindex(weight.shape):
                row, column = layer.stride * i + layer.dilation * a, layer.stride * j + layer.dilation * b
                out[i, j] += weight[a, b] * padded[row, column]
    return out


@pytest.mark.parametrize("size", [(1, 1), (4, 5), (7, 8)])
@pytest.mark.parametrize(
    ("kernel", "padding", "dilation", "there"),
    [(1, 0, 1, True), (1, 0, 3, True), (3, 2, 2, True), (5, 4, 2, True), (2, 1, 2, False), (3, 1, 1, False)],
)
def test_a_convolution_of_every_second_pixel_gives_the_same(kernel, padding, dilation, there, size):
    layer = Convolution("x", 1, 1, kernel, 2, padding, dilation)
    plain = layer.of_every_second_pixel
    assert (plain is not None) == there
    assert replace(layer, stride=1).of_every_second_pixel is None
    if plain is not None:
        assert (plain.stride, plain.dilation) == (1, 1)
        random = np.random.RandomState(0)
        x, weight = random.normal(size=size), random.normal(size=(kernel, kernel))
        np.testing.assert_allclose(convolved(x[::2, ::2], weight, plain), convolved(x, weight, layer))
