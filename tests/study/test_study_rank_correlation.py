"""What the rank correlation compares: pairs of edges, their importances and their cells."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from dots.study.archive import Searched
from dots.study.questions.rank_correlation import (
    RankCorrelationStudy,
    combination_importance,
    operation_importance,
    pairs_of,
    with_pair,
)
from dots.study.scale import Scale
from dots_core.errors import UsageError
from dots_core.search_space.cell import search_cell
from dots_core.search_space.derivation import derive
from dots_core.search_space.operations import NONE
from dots_core.search_space.topology import Topology


def searched(topology, seed=0, attention=()):
    cell = search_cell(topology=topology, attention=attention)
    chance = np.random.default_rng(seed)
    architecture = {}
    for kind in ("normal", "reduce"):
        architecture[f"alpha.{kind}"] = chance.normal(size=cell.operation_groups.shape)
        if cell.combination_groups is not None:
            architecture[f"beta.{kind}"] = chance.normal(size=cell.combination_groups.shape)
    cells = {"normal": cell, "reduce": cell}
    return Searched(derive(cells, architecture), cells, architecture)


def test_five_edges_make_ten_pairs():
    assert pairs_of(4) == tuple(combinations(range(5), 2))
    assert len(pairs_of(4)) == 10


@pytest.mark.parametrize("seed", range(5))
def test_the_pair_of_largest_beta_is_the_one_the_search_derives(seed):
    found = searched(Topology("k-edges", 2), seed)
    importance = combination_importance(found)
    assert set(importance) == set(pairs_of(4))
    assert sum(importance.values()) == pytest.approx(1)
    assert with_pair(found, max(importance, key=importance.get)) == found.genotype


@pytest.mark.parametrize("seed", range(5))
def test_the_pair_of_largest_operation_weights_is_the_one_darts_derives(seed):
    found = searched(Topology(), seed)
    importance = operation_importance(found, "largest")
    assert set(importance) == set(pairs_of(4))
    assert with_pair(found, max(importance, key=importance.get)) == found.genotype


@pytest.mark.parametrize("topology", [Topology(), Topology("k-edges", 2)])
def test_operation_attention_counts_where_the_operations_of_a_pair_are_chosen(topology):
    found = searched(topology, attention=(("dil_conv_5x5", 100.0),))
    for pair in pairs_of(4):
        assert {operation for operation, _ in with_pair(found, pair).normal[-1]} == {"dil_conv_5x5"}


def test_operation_importance_against_the_softmax_written_out():
    found = searched(Topology())
    cell, alpha = found.cells["normal"], found.architecture["alpha.normal"]
    numbers = {edge.source: n for n, edge in enumerate(cell.edges) if edge.target == 5}
    kept = [n for n, o in enumerate(cell.candidates) if o != NONE]
    weights = {source: np.exp(alpha[n]) / np.exp(alpha[n]).sum() for source, n in numbers.items()}
    for pair in pairs_of(4):
        largest = sum(max(weights[source][kept]) for source in pair)
        total = sum(1 - weights[source][cell.column(NONE)] for source in pair)
        assert operation_importance(found, "largest")[pair] == pytest.approx(largest)
        assert operation_importance(found, "total")[pair] == pytest.approx(total)


def test_a_large_none_does_not_count():
    found = searched(Topology())
    cell, alpha = found.cells["normal"], found.architecture["alpha.normal"]
    last = [n for n, edge in enumerate(cell.edges) if edge.target == 5]
    before = operation_importance(found, "largest")[0, 1]
    alpha[last[0], cell.column(NONE)] = 9.0
    assert operation_importance(found, "largest")[0, 1] < before


def test_only_the_last_node_of_the_normal_cell_changes():
    found = searched(Topology("k-edges", 2))
    for pair in pairs_of(4):
        cell = with_pair(found, pair)
        assert cell.normal[:3] == found.genotype.normal[:3]
        assert cell.reduce == found.genotype.reduce
        assert tuple(source for _, source in cell.normal[3]) == pair


@pytest.mark.parametrize(
    "settings", [{"topology.space": "arbitrary"}, {"topology.edges_per_node": 3}, {"topology.epochs": 0}]
)
def test_a_search_without_pairs_is_refused(settings):
    settings = {**settings, "topology.warmup": 0}
    with pytest.raises(UsageError, match="pairs"):
        RankCorrelationStudy(Scale("smoke", "smoke", settings)).check()


def test_the_darts_search_is_that_of_darts_whatever_the_preset():
    study = RankCorrelationStudy(Scale("smoke", "smoke", {"space.groups": "group-v1"}), {"operation.epochs": 9})
    darts, dots = (run.config() for run in study.wave(0, None).runs)
    assert (darts.space.groups, darts.operation.level, darts.topology.epochs) == ("single", "bi", 0)
    assert (darts.operation.epochs, darts.operation.warmup) == (9, 0)
    assert (dots.space.groups, dots.topology.epochs) == ("group-v1", 6)
