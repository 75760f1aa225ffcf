from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import blocks_and_logits, quick

from dots_core.search_space.mixing import MASKED, Blocks, block_scores, block_softmax, block_softmax_gradient, entropy


def literal_softmax(logits, labels, temperature):
    out = np.zeros(logits.shape)
    for place, label in np.ndenumerate(labels):
        if label != MASKED:
            rivals = [x for x, other in zip(logits.flat, labels.flat, strict=True) if other == label]
            top = max(rivals)
            total = sum(math.exp((x - top) / temperature) for x in rivals)
            out[place] = math.exp((logits[place] - top) / temperature) / total
    return out


@quick
@given(blocks_and_logits(), st.sampled_from([0.3, 1.0, 10.0]))
def test_softmax_is_taken_within_each_block(drawn, temperature):
    blocks, logits = drawn
    weights = block_softmax(logits, blocks, temperature)
    assert weights.shape == logits.shape
    np.testing.assert_allclose(weights, literal_softmax(logits, blocks.labels, temperature), rtol=1e-12)
    np.testing.assert_array_equal(block_softmax(np.asfortranarray(logits), blocks, temperature), weights)


@quick
@given(blocks_and_logits(), st.sampled_from([0.3, 1.0, 10.0]))
def test_scores_are_logarithms_of_weights_on_the_scale_of_logits(drawn, temperature):
    blocks, logits = drawn
    scores = block_scores(logits, blocks, temperature)
    assert (scores[~blocks.mask] == -np.inf).all()
    weights = literal_softmax(logits, blocks.labels, temperature)[blocks.mask]
    np.testing.assert_allclose(scores[blocks.mask], temperature * np.log(weights), rtol=1e-9, atol=1e-12)


@quick
@given(blocks_and_logits(), st.sampled_from([1e-5, 1.0, 10.0]))
def test_scores_of_a_block_differ_as_its_logits_do_even_where_weights_vanish(drawn, temperature):
    blocks, logits = drawn
    scores = block_scores(logits, blocks, temperature)
    for members in blocks.members:
        np.testing.assert_allclose(np.diff(scores.flat[members]), np.diff(logits.flat[members]), rtol=0, atol=1e-13)


@quick
@given(blocks_and_logits(np.float32))
def test_weights_of_a_block_sum_to_one_and_masked_entries_are_zero(drawn):
    blocks, logits = drawn
    weights = block_softmax(logits, blocks)
    assert weights.dtype == np.float32
    for label in set(blocks.labels.ravel().tolist()) - {MASKED}:
        assert weights[blocks.labels == label].sum() == pytest.approx(1.0, rel=1e-6)
    assert (weights[blocks.labels == MASKED] == 0).all()
    np.testing.assert_array_equal(blocks.mask, blocks.labels != MASKED)


@quick
@given(blocks_and_logits(), st.floats(-100, 100))
def test_a_shift_of_a_block_changes_nothing(drawn, shift):
    blocks, logits = drawn
    moved = logits + np.where(blocks.labels == 3, shift, 0.0)
    np.testing.assert_allclose(block_softmax(moved, blocks), block_softmax(logits, blocks), rtol=1e-9, atol=1e-12)


@quick
@given(blocks_and_logits(), st.permutations(range(8)))
def test_block_numbers_are_only_names(drawn, names):
    blocks, logits = drawn
    renamed = Blocks(np.where(blocks.labels == MASKED, MASKED, np.array(names)[blocks.labels]))
    np.testing.assert_array_equal(block_softmax(logits, renamed), block_softmax(logits, blocks))


@quick
@given(blocks_and_logits(np.float32, limit=1e6), st.sampled_from([1e-5, 2e-5]))
def test_low_temperatures_decide_and_stay_finite(drawn, temperature):
    blocks, logits = drawn
    with np.errstate(over="raise", invalid="raise"):
        weights = block_softmax(logits, blocks, temperature)
    assert np.isfinite(weights).all()
    for label in set(blocks.labels.ravel().tolist()) - {MASKED}:
        inside = blocks.labels == label
        best = logits[inside].max()
        if (logits[inside] < best - 0.1).sum() == inside.sum() - 1:
            np.testing.assert_array_equal(weights[inside], (logits[inside] == best).astype(np.float32))


@quick
@given(blocks_and_logits(), st.sampled_from([0.5, 1.0, 4.0]), st.integers(0, 1000))
def test_gradient_is_the_finite_difference(drawn, temperature, seed):
    blocks, logits = drawn
    upstream = np.random.RandomState(seed).normal(size=logits.shape)
    gradient = block_softmax_gradient(block_softmax(logits, blocks, temperature), upstream, blocks, temperature)
    step = 1e-5
    expected = np.zeros(logits.shape)
    for place in np.ndindex(*logits.shape):
        moved = np.zeros(logits.shape)
        moved[place] = step
        up, down = (block_softmax(logits + sign * moved, blocks, temperature) for sign in (1, -1))
        expected[place] = ((up - down) * upstream).sum() / (2 * step)
    np.testing.assert_allclose(gradient, expected, atol=1e-8)
    assert (gradient[blocks.labels == MASKED] == 0).all()


@quick
@given(blocks_and_logits(), st.sampled_from([0.2, 1.0]))
def test_gather_padding_and_scatter_reproduce_block_softmax(drawn, temperature):
    """One softmax over a rectangle, as the engines take it."""
    blocks, logits = drawn
    assert blocks.gather.shape == blocks.padding.shape == (len(blocks.members), max(map(len, blocks.members)))
    rectangle = np.where(blocks.padding, -np.inf, logits.ravel()[blocks.gather] / temperature)
    rectangle = np.exp(rectangle - rectangle.max(axis=1, keepdims=True))
    rectangle /= rectangle.sum(axis=1, keepdims=True)
    weights = np.where(blocks.mask, rectangle.ravel()[blocks.scatter].reshape(blocks.shape), 0.0)
    np.testing.assert_allclose(weights, block_softmax(logits, blocks, temperature), rtol=1e-12)
    assert (blocks.scatter[~blocks.mask.ravel()] == 0).all()
    assert sorted(blocks.gather[~blocks.padding].tolist()) == np.flatnonzero(blocks.mask).tolist()


def test_members_are_ascending_flat_indices():
    blocks = Blocks(np.array([[4, MASKED, 2], [4, 2, 4]]))
    assert [m.tolist() for m in blocks.members] == [[2, 4], [0, 3, 5]]
    assert blocks.gather.tolist() == [[2, 4, 2], [0, 3, 5]]
    assert blocks.padding.tolist() == [[False, False, True], [False, False, False]]


@quick
@given(blocks_and_logits())
def test_entropy_lies_between_decided_and_uniform(drawn):
    blocks, logits = drawn
    widths = [len(m) for m in blocks.members]
    undecided = 1.0 if max(widths) > 1 else 0.0
    assert entropy(block_softmax(np.zeros(logits.shape), blocks), blocks) == pytest.approx(undecided)
    assert 0 <= entropy(block_softmax(logits, blocks), blocks) <= 1 + 1e-12
    decided = np.zeros(logits.shape)
    decided.flat[[m[-1] for m in blocks.members]] = 1.0
    assert entropy(decided, blocks) == 0.0


def test_entropy_is_the_mean_over_blocks_that_choose():
    blocks = Blocks(np.array([0, 0, 1, 1, 1, 1, 2, MASKED]))
    weights = np.array([0.5, 0.5, 0.5, 0.5, 0.0, 0.0, 1.0, 0.0])
    assert entropy(weights, blocks) == pytest.approx((1.0 + 0.5) / 2)
