from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import quick, search_cells

from dots_core.errors import UsageError
from dots_core.search_space.cell import CellSpec, search_cell
from dots_core.search_space.derivation import RETENTIONS, derive, retain
from dots_core.search_space.edge import Edge
from dots_core.search_space.genotype import Genotype
from dots_core.search_space.operations import DARTS, NONE
from dots_core.search_space.topology import Topology

PAIRS, ARBITRARY, NOTHING = Topology("k-edges"), Topology("arbitrary"), Topology("none")


def random_alpha(cell: CellSpec, seed: int, ties: bool = False) -> np.ndarray:
    """α′ for a cell, with noise where operations are absent too; coarse values if there shall be ties."""
    alpha = np.random.RandomState(seed).normal(size=cell.operation_groups.shape)
    return np.round(alpha) if ties else alpha


def best(cell: CellSpec, operations, row) -> str:
    """The arg-max, ties to the first in canonical order."""
    winner = None
    for operation in cell.candidates:
        if operation in operations and (winner is None or row[cell.column(operation)] > winner[0]):
            winner = row[cell.column(operation)], operation
    return winner[1]


def weights_of(cell: CellSpec, edge: Edge, row) -> np.ndarray:
    """α of one edge: a softmax within each group; 0 where an operation is absent."""
    weights = np.zeros(len(cell.candidates))
    for group in edge.groups:
        columns = [cell.column(o) for o in group]
        powers = np.exp(row[columns] - row[columns].max())
        # In ascending order: equal weights are to be equal to the last bit.
        weights[columns] = powers / np.sort(powers).sum()
    return weights


def architecture(cells, seed, ties=False):
    values = {}
    for place, (kind, cell) in enumerate(cells.items()):
        values[f"alpha.{kind}"] = random_alpha(cell, seed + place, ties)
        if cell.matrix is not None:
            beta = np.random.RandomState(seed + place + 2).normal(size=cell.combination_groups.shape)
            values[f"beta.{kind}"] = np.round(beta) if ties else beta
    return values


@quick
@given(search_cells(), st.integers(0, 2**31), st.booleans(), st.sampled_from(RETENTIONS.names))
def test_retain_is_the_papers_rule(cell, seed, ties, rule):
    alpha = random_alpha(cell, seed, ties)
    pruned = retain(cell, alpha, rule, ARBITRARY)
    assert (pruned.nodes, pruned.concat, pruned.topology, pruned.mixed) == (cell.nodes, cell.concat, ARBITRARY, True)
    assert [(e.source, e.target) for e in pruned.edges] == [(e.source, e.target) for e in cell.edges]
    for row, edge, kept in zip(alpha, cell.edges, pruned.edges, strict=True):
        without_none, alpha_row = set(edge.operations) - {NONE}, weights_of(cell, edge, row)
        if rule == "groups":
            expected = {best(cell, group, row) for group in edge.groups}
            if expected == {NONE}:
                expected.add(best(cell, without_none, alpha_row))
        else:
            expected = {best(cell, without_none, alpha_row)}
            if rule == "top-2" and len(without_none) > 1:
                expected.add(best(cell, without_none - expected, alpha_row))
        assert len(kept.groups) == 1
        assert set(kept.groups[0]) == expected
        assert kept.groups[0] == kept.operations


def test_an_edge_that_retains_only_none_keeps_its_best_other():
    cell = CellSpec(1, (Edge(0, 2, ((NONE, "skip_connect", "sep_conv_3x3"),)),), (2,))
    alpha = np.array([[9.0, 1.0, 2.0]])
    assert retain(cell, alpha, "groups", PAIRS).edges[0].groups == ((NONE, "sep_conv_3x3"),)
    assert retain(cell, alpha, "top-1", PAIRS).edges[0].groups == (("sep_conv_3x3",),)
    assert retain(cell, alpha, "top-2", PAIRS).edges[0].groups == (("skip_connect", "sep_conv_3x3"),)


def test_none_beside_another_groups_winner_stays():
    cell = CellSpec(1, (Edge(0, 2, ((NONE, "skip_connect"), ("sep_conv_3x3", "sep_conv_5x5"))),), (2,))
    alpha = np.array([[9.0, 0.0, 0.0, 1.0]])
    assert retain(cell, alpha, "groups", PAIRS).edges[0].groups == ((NONE, "sep_conv_5x5"),)


def test_an_unknown_retention_is_refused():
    cell = search_cell(1)
    with pytest.raises(UsageError, match=r"unknown retention 'top-3'.*known: groups, top-1, top-2"):
        retain(cell, np.zeros((2, 8)), "top-3", PAIRS)


def edges_of(genotype: Genotype, kind: str) -> list[tuple[int, int, str]]:
    return [(s, j, o) for j, node in enumerate(getattr(genotype, kind), start=2) for o, s in node]


@quick
@given(
    st.integers(1, 4), st.integers(0, 2**30), st.sampled_from([PAIRS, ARBITRARY, Topology("k-edges", 3)]), st.booleans()
)
def test_derive_takes_the_best_combination_of_every_node(nodes, seed, topology, ties):
    cells = {kind: search_cell(nodes, topology=topology) for kind in ("normal", "reduce")}
    values = architecture(cells, seed, ties)
    genotype = derive(cells, values)
    for kind, cell in cells.items():
        alpha, beta = values[f"alpha.{kind}"], values[f"beta.{kind}"]
        expected = []
        place = 0
        for j in range(2, nodes + 2):
            size = min(topology.edges_per_node, j)
            sizes = range(1, j + 1) if topology.space == "arbitrary" else [size]
            ranked = []
            for sources in (c for n in sizes for c in combinations(range(j), n)):
                ranked.append((-beta[place], place, sources))
                place += 1
            for source in min(ranked)[2]:
                row = alpha[cell.edges.index(Edge(source, j, cell.edges[0].groups))]
                expected.append((source, j, best(cell, set(DARTS) - {NONE}, row)))
        assert place == len(beta)
        assert edges_of(genotype, kind) == expected


@quick
@given(st.integers(1, 4), st.integers(0, 2**30), st.sampled_from(["single", "group-v2"]))
def test_without_topology_the_darts_policy_decides(nodes, seed, groups):
    """As in DARTS' `genotype()`: the two edges whose best operation without `none` weighs most, none included
    in the softmax."""
    cells = {kind: search_cell(nodes, groups=groups, topology=NOTHING) for kind in ("normal", "reduce")}
    values = architecture(cells, seed)
    genotype = derive(cells, values)
    for kind, cell in cells.items():
        weights = [weights_of(cell, edge, row) for edge, row in zip(cell.edges, values[f"alpha.{kind}"], strict=True)]
        start, expected = 0, []
        for i in range(nodes):
            rows = weights[start : start + i + 2]
            chosen = sorted(range(i + 2), key=lambda x: -max(rows[x][1:]))[:2]
            for source in sorted(chosen):
                operation = best(cell, set(DARTS) - {NONE}, rows[source])
                expected.append((source, i + 2, operation))
            start += i + 2
        assert edges_of(genotype, kind) == expected


def test_the_darts_policy_weighs_after_the_softmax():
    """An edge with the largest α′ loses to a decided one if its own rivals are as large."""
    cell = search_cell(2, ("none", "sep_conv_3x3", "skip_connect"))
    alpha = np.zeros((5, 3))
    columns = [cell.column(o) for o in ("none", "sep_conv_3x3", "skip_connect")]
    alpha[2, columns] = [9.0, 9.0, 9.0]
    alpha[3, columns] = [0.0, 5.0, 0.0]
    alpha[4, columns] = [0.0, 0.0, 4.0]
    genotype = derive({"normal": cell, "reduce": cell}, {"alpha.normal": alpha, "alpha.reduce": alpha})
    assert genotype.normal[1] == (("sep_conv_3x3", 1), ("skip_connect", 2))


@quick
@given(search_cells(), search_cells(), st.integers(0, 2**30), st.booleans(), st.sampled_from([None, *RETENTIONS.names]))
def test_a_derived_cell_is_valid_and_never_holds_none(normal, reduce, seed, ties, rule):
    """Even where `none` weighs most on every edge, with and without pruning before."""
    cells = {"normal": normal, "reduce": reduce}
    if rule is not None:
        cells = {kind: retain(cell, random_alpha(cell, seed), rule, cell.topology) for kind, cell in cells.items()}
    values = architecture(cells, seed + 1, ties)
    for kind, cell in cells.items():
        if NONE in cell.candidates:
            values[f"alpha.{kind}"][:, cell.column(NONE)] = 100.0
        absent = ~cell.operation_groups.mask
        values[f"alpha.{kind}"][absent] = 200.0
    genotype = derive(cells, values)
    assert genotype == Genotype.from_json(genotype.to_json())
    for kind, cell in cells.items():
        assert getattr(genotype, f"{kind}_concat") == cell.concat
        for source, target, operation in edges_of(genotype, kind):
            edge = next(e for e in cell.edges if (e.source, e.target) == (source, target))
            assert operation in edge.operations
            assert operation != NONE
        if cell.topology.space != "arbitrary":
            k = cell.topology.edges_per_node
            assert [len(node) for node in getattr(genotype, kind)] == [min(k, j) for j in range(2, cell.nodes + 2)]


def test_ties_go_to_the_first():
    cell = search_cell(3, topology=PAIRS)
    zeros = {f"alpha.{kind}": np.zeros((9, 8)) for kind in ("normal", "reduce")}
    zeros |= {f"beta.{kind}": np.zeros(1 + 3 + 6) for kind in ("normal", "reduce")}
    first = derive({"normal": cell, "reduce": cell}, zeros)
    assert first.normal == first.reduce == ((("max_pool_3x3", 0), ("max_pool_3x3", 1)),) * 3
    darts = search_cell(3)
    assert derive({"normal": darts, "reduce": darts}, zeros) == first


@quick
@given(search_cells(), st.integers(0, 2**30))
def test_precision_and_offsets_do_not_decide(cell, seed):
    cells = {"normal": cell, "reduce": cell}
    values = architecture(cells, seed)
    moved = {key: (value + 1.5).astype(np.float32) for key, value in values.items()}
    assert derive(cells, moved) == derive(cells, values)
