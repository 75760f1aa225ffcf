"""Rank correlation between a predicted order and measured accuracies, with a bootstrap interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dots_core.errors import UsageError
from dots_core.random import Stream

DRAWS = 2000
LEVEL = 0.95


@dataclass(frozen=True)
class RankCorrelation:
    """Kendall's τ-b and the percentile interval of a bootstrap.

    Attributes
    ----------
    tau, p_value : float or None
        None where the order or the accuracies are all tied.
    low, high : float or None
        Bounds of the interval.
    """

    tau: float | None
    p_value: float | None
    low: float | None
    high: float | None

    def text(self) -> str:
        """Return τ with its interval."""
        if self.tau is None:
            return "undefined (all tied)"
        between = f" [{self.low:.2f}, {self.high:.2f}]" if self.low is not None else ""
        return f"{self.tau:.2f}{between}"


def need_scipy() -> None:
    """Raise `UsageError` if SciPy, which computes Kendall's τ, is not installed."""
    from importlib.util import find_spec

    if find_spec("scipy") is None:
        raise UsageError(
            "the rank correlation needs SciPy, which is not installed; install it with: pip install 'scipy>=1.10'"
        )


def rank_correlation(
    predicted: Sequence[float], accuracies: Sequence[Sequence[float]], draws: int = DRAWS
) -> RankCorrelation:
    """Return Kendall's τ-b (Kendall, Biometrika 1938) between predictions and mean accuracies.

    Parameters
    ----------
    predicted : floats, one an item
    accuracies : for each item the accuracies of its repetitions, at least one
    draws : int
        Bootstrap samples. Each draws of every item as many repetitions as it has, with replacement,
        and then as many items as there are, with replacement; an item drawn twice is tied with
        itself, which τ-b leaves out. Samples in which everything is tied do not count. The numbers
        drawn are fixed, so equal input gives equal output.
    """
    from scipy.stats import kendalltau

    order = np.asarray(predicted, np.float64)
    values = [np.asarray(some, np.float64) for some in accuracies]
    whole = kendalltau(order, [_mean(some) for some in values])
    if not math.isfinite(whole.statistic):
        return RankCorrelation(None, None, None, None)
    count, longest = len(order), max(len(some) for some in values)
    stream = Stream(0, "study/bootstrap")
    items = (stream.uniform((draws, count), 0) * count).astype(np.int64)
    repetitions = stream.uniform((draws, count, longest), 1)
    taus = []
    for chosen, shares in zip(items, repetitions, strict=True):
        means = [
            _mean(some[(share[: len(some)] * len(some)).astype(np.int64)])
            for some, share in zip(values, shares, strict=True)
        ]
        tau = kendalltau(order[chosen], np.asarray(means)[chosen]).statistic
        if math.isfinite(tau):
            taus.append(float(tau))
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(taus, [tail, 100 - tail]) if taus else (None, None)
    return RankCorrelation(
        float(whole.statistic),
        float(whole.pvalue),
        None if low is None else float(low),
        None if high is None else float(high),
    )


def _mean(values: NDArray[np.float64]) -> float:
    # Sums in another order differ in the last bits, which would break ties that are none.
    return round(float(values.mean()), 12)
