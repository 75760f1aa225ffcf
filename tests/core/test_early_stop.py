"""The criteria of DARTS+ against their words."""

from __future__ import annotations

from dataclasses import asdict
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import genotypes, quick, search_cells

from dots_core.errors import UsageError
from dots_core.plan.early_stop import EarlyStop, Stability, convolution_ranking
from dots_core.search_space.cell import search_cell
from dots_core.search_space.operations import DARTS, SKIP

rankings = st.lists(st.sampled_from([[["sep_conv_3x3", "dil_conv_3x3"]], [["dil_conv_3x3", "sep_conv_3x3"]]]))


@quick
@given(genotypes(), st.integers(1, 5))
def test_skips_stop_at_their_number_in_the_normal_cell(genotype, limit):
    count = [operation for node in genotype.normal for operation, _ in node].count(SKIP)
    reason = EarlyStop("skips", skips=limit).reason(genotype, Stability())
    assert (reason is not None) is (count >= limit)
    if reason:
        assert reason.startswith(f"the normal cell holds {count} skip connection")


@quick
@given(rankings, st.integers(1, 4), genotypes())
def test_a_ranking_is_stable_for_as_long_as_it_was_that_of_the_epoch_before(history, epochs, genotype):
    stability, rule = Stability(), EarlyStop("stable-ranking", epochs=epochs)
    for number, ranking in enumerate(history):
        stability.count(ranking)
        unchanged = 0
        while unchanged < number and history[number - unchanged - 1] == ranking:
            unchanged += 1
        assert stability.epochs == unchanged
        assert (rule.reason(genotype, stability) is not None) is (unchanged >= epochs)
    assert Stability.from_record(asdict(stability)) == stability


@quick
@given(search_cells(), st.integers(0, 2**31 - 1), st.booleans())
def test_only_convolutions_are_ranked(cell, seed, ties):
    """By α, the softmax of each group; within a group that is the order of α′, whatever else is in it."""
    alpha = np.random.RandomState(seed).normal(size=cell.operation_groups.shape)
    alpha = np.round(alpha) if ties else alpha
    ranking = convolution_ranking(cell, alpha)
    for row, edge, order in zip(alpha, cell.edges, ranking, strict=True):
        assert set(order) == set(edge.operations) & set(DARTS[4:])
        weights = {}
        for group in edge.groups:
            powers = {o: np.exp(row[cell.column(o)]) for o in group}
            weights |= {o: powers[o] / sum(sorted(powers.values())) for o in group}
        for one, other in pairwise(order):
            tied = weights[one] == pytest.approx(weights[other], rel=1e-12)
            assert tied or weights[one] > weights[other]
        for group in edge.groups:
            keys = [(-row[cell.column(o)], cell.column(o)) for o in order if o in group]
            assert keys == sorted(keys)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: EarlyStop("luck"), "unknown early stop 'luck'; known: skips, stable-ranking"),
        (lambda: EarlyStop("skips", skips=0), "at least 1 skip"),
        (lambda: EarlyStop("stable-ranking", epochs=0), "1 epoch, not 2 and 0"),
    ],
)
def test_impossible_stops_are_refused(build, message):
    with pytest.raises(UsageError, match=message):
        build()


def test_the_ranking_is_that_of_the_attended_operations():
    """What an edge would derive leads its ranking, operation attention included."""
    cell = search_cell(1, DARTS[4:], attention=(("sep_conv_3x3", 0.5),))
    alpha = np.zeros(cell.operation_groups.shape)
    alpha[:, cell.column("dil_conv_5x5")] = 0.4
    assert all(ranking[:2] == ["sep_conv_3x3", "dil_conv_5x5"] for ranking in convolution_ranking(cell, alpha))
