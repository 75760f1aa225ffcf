"""Kendall's τ and its interval."""

from __future__ import annotations

import sys
from itertools import combinations

import numpy as np
import pytest

from dots.study.questions.correlation import need_scipy, rank_correlation
from dots_core.errors import UsageError


def tau_b(x, y):
    """Kendall's τ-b by counting pairs."""
    pairs = [(np.sign(x[i] - x[j]), np.sign(y[i] - y[j])) for i, j in combinations(range(len(x)), 2)]
    score = sum(a * b for a, b in pairs)
    return score / np.sqrt(sum(a != 0 for a, _ in pairs) * sum(b != 0 for _, b in pairs))


def test_tau_is_that_of_counting_pairs():
    chance = np.random.default_rng(1)
    for _ in range(20):
        predicted = chance.integers(0, 6, 10).astype(float)
        accuracies = chance.integers(0, 8, (10, 3)) / 8
        means = [round(float(row.mean()), 9) for row in accuracies]
        found = rank_correlation(predicted, accuracies, draws=1)
        assert found.tau == pytest.approx(tau_b(predicted, means), abs=1e-12)


def test_perfect_orders_give_one_and_minus_one():
    accuracies = [[0.1], [0.2], [0.5], [0.6]]
    assert rank_correlation([1, 2, 3, 4], accuracies).tau == pytest.approx(1)
    reverse = rank_correlation([4, 3, 2, 1], accuracies)
    assert (reverse.tau, reverse.low, reverse.high) == (pytest.approx(-1), pytest.approx(-1), pytest.approx(-1))


def test_the_interval_is_repeatable_holds_tau_and_widens_with_noise():
    predicted = np.arange(10.0)
    quiet = [[0.1 * n, 0.1 * n + 0.01] for n in range(10)]
    noisy = [[0.1 * n, 0.9 - 0.1 * n + 0.013 * n * n] for n in range(10)]
    first, again = rank_correlation(predicted, quiet, 300), rank_correlation(predicted, quiet, 300)
    assert first == again
    # No repetition of one item reaches that of another: every sample keeps the order.
    assert first.low == pytest.approx(1)
    for found in (first, rank_correlation(predicted, noisy, 300)):
        assert found.low - 1e-9 <= found.tau <= found.high + 1e-9
    wide = rank_correlation(predicted, noisy, 300)
    assert wide.high - wide.low > first.high - first.low + 0.1


def test_equal_means_summed_in_another_order_are_tied():
    # 0.1 + 0.2 + 0.3 and 0.3 + 0.2 + 0.1 differ in the last bit.
    assert np.mean([0.1, 0.2, 0.3]) != np.mean([0.3, 0.2, 0.1])
    found = rank_correlation([1, 2, 3], [[0.1, 0.2, 0.3], [0.3, 0.2, 0.1], [0.9, 0.9, 0.9]], draws=1)
    assert found.tau == pytest.approx(tau_b([1, 2, 3], [1, 1, 2]))


def test_all_tied_is_undefined():
    found = rank_correlation([1, 2, 3], [[0.5], [0.5], [0.5]])
    assert found.tau is None
    assert "undefined" in found.text()


def test_a_missing_scipy_is_told_with_its_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'scipy"):
        need_scipy()
