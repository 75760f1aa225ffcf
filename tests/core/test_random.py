from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import quick

from dots_core.random import Stream, philox4x32

words = st.integers(0, 2**32 - 1)

PINNED_UNIFORM = ["0x1.73564dc5d163cp-1", "0x1.454588377c3b5p-1", "0x1.61f8cde77cb64p-3"]
PINNED_PERMUTATION = [3, 1, 2, 6, 5, 0, 8, 9, 7, 4]
PINNED_NORMAL = [1.6899858553062272, 0.3487263717186685, 0.46773810353263323]
PINNED_PER_SAMPLE = [
    "0x1.7654cb2d1b984p-2",
    "0x1.3dd5e164a1c40p-5",
    "0x1.d300aa07dcebcp-1",
    "0x1.70e8f647a2db1p-1",
    "0x1.7bf7c2d0d0246p-2",
    "0x1.3ba5fdb2f4072p-1",
]


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_random123_known_answers(counter, key, expected):
    def parse(text):
        return [int(word, 16) for word in text.split()]

    drawn = philox4x32(np.array([parse(counter)], np.uint32), tuple(parse(key)))
    assert drawn.dtype == np.uint32
    assert drawn.tolist() == [parse(expected)]


@quick
@given(st.lists(st.tuples(words, words, words, words), min_size=1, max_size=4), st.tuples(words, words))
def test_philox_is_its_literal_definition(counters, key):
    def rounds(counter):
        (a, b, c, d), (k0, k1) = counter, key
        for _ in range(10):
            p, q = 0xD2511F53 * a, 0xCD9E8D57 * c
            a, b, c, d = q >> 32 ^ b ^ k0, q % 2**32, p >> 32 ^ d ^ k1, p % 2**32
            k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
        return [a, b, c, d]

    assert philox4x32(np.array(counters, np.uint32), key).tolist() == [rounds(c) for c in counters]


def test_streams_are_pinned():
    """Old runs must be repeatable: these numbers may never change."""
    stream = Stream(7, "crop")
    assert [x.hex() for x in stream.uniform((3,), 2, 5)] == PINNED_UNIFORM
    assert stream.permutation(10, 3).tolist() == PINNED_PERMUTATION
    np.testing.assert_allclose(stream.normal((3,), 1), PINNED_NORMAL, rtol=1e-14)
    per_sample = stream.uniform_per(np.array([0, 41, 2**32 - 1]), 2, 9, 2**32 - 1)
    assert [x.hex() for x in per_sample.ravel()] == PINNED_PER_SAMPLE


@quick
@given(st.lists(st.integers(0, 50000), min_size=1, max_size=8), st.integers(1, 9), words, words)
def test_a_sample_draws_the_same_in_any_batch(samples, count, epoch, step):
    stream = Stream(0, "flip")
    together = stream.uniform_per(np.array(samples), count, epoch, step)
    assert together.shape == (len(samples), count)
    for row, sample in zip(together, samples, strict=True):
        np.testing.assert_array_equal(row, stream.uniform_per(np.array([sample]), count, epoch, step)[0])


@quick
@given(st.integers(1, 9), st.integers(0, 9))
def test_a_longer_draw_begins_with_the_shorter(count, more):
    stream = Stream(3, "noise")
    np.testing.assert_array_equal(stream.uniform((count + more,))[:count], stream.uniform((count,)))
    np.testing.assert_array_equal(stream.normal((count + more,))[:count], stream.normal((count,)))


def test_every_part_of_an_address_matters():
    def drawn(seed=0, name="a", sample=0, index=(0, 0)):
        return tuple(Stream(seed, name).uniform_per(np.array([sample]), 4, *index)[0])

    draws = {
        drawn(),
        drawn(seed=1),
        drawn(name="b"),
        drawn(sample=1),
        drawn(index=(1, 0)),
        drawn(index=(0, 1)),
        drawn(seed=-1),
    }
    assert len(draws) == 7
    assert drawn(index=()) == drawn(index=(0,)) == drawn()


def test_no_number_repeats_within_a_draw():
    draw = Stream(0, "a").uniform_per(np.arange(100), 100)
    assert len(np.unique(draw)) == draw.size


def test_a_third_index_is_refused():
    with pytest.raises(ValueError, match="two indices"):
        Stream(0, "a").uniform((2,), 1, 2, 3)


@pytest.mark.parametrize("shape", [(), (0,), (1,), (2, 3), (4, 1, 3)])
def test_shapes(shape):
    stream = Stream(0, "a")
    assert stream.uniform(shape).shape == shape
    assert stream.normal(shape).shape == shape
    np.testing.assert_array_equal(stream.uniform(shape).ravel(), stream.uniform((math.prod(shape),)))


@quick
@given(st.integers(0, 300), st.integers(0, 1000), words)
def test_permutation_is_one(n, seed, epoch):
    drawn = Stream(seed, "order").permutation(n, epoch)
    assert drawn.dtype == np.int64
    assert sorted(drawn.tolist()) == list(range(n))


def test_permutations_reach_every_order_about_equally():
    stream = Stream(0, "order")
    orders = [tuple(stream.permutation(3, epoch).tolist()) for epoch in range(1200)]
    counts = [orders.count(order) for order in set(orders)]
    assert len(counts) == 6
    assert max(counts) < 260
    assert min(counts) > 140


def test_uniform_is_uniform():
    draw = Stream(1, "a").uniform((100000,))
    assert draw.min() >= 0.0
    assert draw.max() < 1.0
    counts = np.histogram(draw, 20, (0, 1))[0]
    assert ((counts - 5000) ** 2 / 5000).sum() < 50  # chi-squared, 19 degrees of freedom: p < 2e-4
    assert abs(np.corrcoef(draw[:-1], draw[1:])[0, 1]) < 0.02
    low_bits = (draw * 2**53).astype(np.int64) & 7
    assert np.bincount(low_bits, minlength=8).min() > 12000


def test_normal_is_normal():
    draw = Stream(1, "a").normal((100000,))
    assert np.isfinite(draw).all()
    assert abs(draw.mean()) < 0.02
    assert abs(draw.std() - 1) < 0.02
    assert abs((draw**3).mean()) < 0.05
    assert abs((draw**4).mean() - 3) < 0.15
    assert abs((np.abs(draw) < 1).mean() - 0.6827) < 0.01
