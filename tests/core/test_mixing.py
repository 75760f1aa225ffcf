from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import groups_and_logits, quick

from dots_core.search_space.mixing import (
    MASKED,
    SoftmaxGroups,
    entropy,
    group_scores,
    group_softmax,
    group_softmax_gradient,
)


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
@given(groups_and_logits(), st.sampled_from([0.3, 1.0, 10.0]))
def test_softmax_is_taken_within_each_block(drawn, temperature):
    groups, logits = drawn
    weights = group_softmax(logits, groups, temperature)
    assert weights.shape == logits.shape
    np.testing.assert_allclose(weights, literal_softmax(logits, groups.labels, temperature), rtol=1e-12)
    np.testing.assert_array_equal(group_softmax(np.asfortranarray(logits), groups, temperature), weights)


@quick
@given(groups_and_logits(), st.sampled_from([0.3, 1.0, 10.0]))
def test_scores_are_logarithms_of_weights_on_the_scale_of_logits(drawn, temperature):
    groups, logits = drawn
    scores = group_scores(logits, groups, temperature)
    assert (scores[~groups.mask] == -np.inf).all()
    weights = literal_softmax(logits, groups.labels, temperature)[groups.mask]
    np.testing.assert_allclose(scores[groups.mask], temperature * np.log(weights), rtol=1e-9, atol=1e-12)


@quick
@given(groups_and_logits(), st.sampled_from([1e-5, 1.0, 10.0]))
def test_scores_of_a_block_differ_as_its_logits_do_even_where_weights_vanish(drawn, temperature):
    groups, logits = drawn
    scores = group_scores(logits, groups, temperature)
    for members in groups.members:
        np.testing.assert_allclose(np.diff(scores.flat[members]), np.diff(logits.flat[members]), rtol=0, atol=1e-13)


@quick
@given(groups_and_logits(np.float32))
def test_weights_of_a_block_sum_to_one_and_masked_entries_are_zero(drawn):
    groups, logits = drawn
    weights = group_softmax(logits, groups)
    assert weights.dtype == np.float32
    for label in set(groups.labels.ravel().tolist()) - {MASKED}:
        assert weights[groups.labels == label].sum() == pytest.approx(1.0, rel=1e-6)
    assert (weights[groups.labels == MASKED] == 0).all()
    np.testing.assert_array_equal(groups.mask, groups.labels != MASKED)


@quick
@given(groups_and_logits(), st.floats(-100, 100))
def test_a_shift_of_a_block_changes_nothing(drawn, shift):
    groups, logits = drawn
    moved = logits + np.where(groups.labels == 3, shift, 0.0)
    np.testing.assert_allclose(group_softmax(moved, groups), group_softmax(logits, groups), rtol=1e-9, atol=1e-12)


@quick
@given(groups_and_logits(), st.permutations(range(8)))
def test_block_numbers_are_only_names(drawn, names):
    groups, logits = drawn
    renamed = SoftmaxGroups(np.where(groups.labels == MASKED, MASKED, np.array(names)[groups.labels]))
    np.testing.assert_array_equal(group_softmax(logits, renamed), group_softmax(logits, groups))


@quick
@given(groups_and_logits(np.float32, limit=1e6), st.sampled_from([1e-5, 2e-5]))
def test_low_temperatures_decide_and_stay_finite(drawn, temperature):
    groups, logits = drawn
    with np.errstate(over="raise", invalid="raise"):
        weights = group_softmax(logits, groups, temperature)
    assert np.isfinite(weights).all()
    for label in set(groups.labels.ravel().tolist()) - {MASKED}:
        inside = groups.labels == label
        best = logits[inside].max()
        if (logits[inside] < best - 0.1).sum() == inside.sum() - 1:
            np.testing.assert_array_equal(weights[inside], (logits[inside] == best).astype(np.float32))


@quick
@given(groups_and_logits(), st.sampled_from([0.5, 1.0, 4.0]), st.integers(0, 1000))
def test_gradient_is_the_finite_difference(drawn, temperature, seed):
    groups, logits = drawn
    upstream = np.random.RandomState(seed).normal(size=logits.shape)
    gradient = group_softmax_gradient(group_softmax(logits, groups, temperature), upstream, groups, temperature)
    step = 1e-5
    expected = np.zeros(logits.shape)
    for place in np.ndindex(*logits.shape):
        moved = np.zeros(logits.shape)
        moved[place] = step
        up, down = (group_softmax(logits + sign * moved, groups, temperature) for sign in (1, -1))
        expected[place] = ((up - down) * upstream).sum() / (2 * step)
    np.testing.assert_allclose(gradient, expected, atol=1e-8)
    assert (gradient[groups.labels == MASKED] == 0).all()


@quick
@given(groups_and_logits(), st.sampled_from([0.2, 1.0]))
def test_gather_padding_and_scatter_reproduce_block_softmax(drawn, temperature):
    """One softmax over a rectangle, as the engines take it."""
    groups, logits = drawn
    assert groups.gather.shape == groups.padding.shape == (len(groups.members), max(map(len, groups.members)))
    rectangle = np.where(groups.padding, -np.inf, logits.ravel()[groups.gather] / temperature)
    rectangle = np.exp(rectangle - rectangle.max(axis=1, keepdims=True))
    rectangle /= rectangle.sum(axis=1, keepdims=True)
    weights = np.where(groups.mask, rectangle.ravel()[groups.scatter].reshape(groups.shape), 0.0)
    np.testing.assert_allclose(weights, group_softmax(logits, groups, temperature), rtol=1e-12)
    assert (groups.scatter[~groups.mask.ravel()] == 0).all()
    assert sorted(groups.gather[~groups.padding].tolist()) == np.flatnonzero(groups.mask).tolist()


def test_members_are_ascending_flat_indices():
    groups = SoftmaxGroups(np.array([[4, MASKED, 2], [4, 2, 4]]))
    assert [m.tolist() for m in groups.members] == [[2, 4], [0, 3, 5]]
    assert groups.gather.tolist() == [[2, 4, 2], [0, 3, 5]]
    assert groups.padding.tolist() == [[False, False, True], [False, False, False]]


@quick
@given(groups_and_logits())
def test_entropy_lies_between_decided_and_uniform(drawn):
    groups, logits = drawn
    widths = [len(m) for m in groups.members]
    undecided = 1.0 if max(widths) > 1 else 0.0
    assert entropy(group_softmax(np.zeros(logits.shape), groups), groups) == pytest.approx(undecided)
    assert 0 <= entropy(group_softmax(logits, groups), groups) <= 1 + 1e-12
    decided = np.zeros(logits.shape)
    decided.flat[[m[-1] for m in groups.members]] = 1.0
    assert entropy(decided, groups) == 0.0


def test_entropy_is_the_mean_over_blocks_that_choose():
    groups = SoftmaxGroups(np.array([0, 0, 1, 1, 1, 1, 2, MASKED]))
    weights = np.array([0.5, 0.5, 0.5, 0.5, 0.0, 0.0, 1.0, 0.0])
    assert entropy(weights, groups) == pytest.approx((1.0 + 0.5) / 2)
