from __future__ import annotations

from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import quick, sparse_cells

from dots_core.errors import UsageError
from dots_core.search_space.cell import search_cell
from dots_core.search_space.mixing import SoftmaxGroups, group_softmax
from dots_core.search_space.topology import Topology

searched = st.builds(
    Topology,
    space=st.sampled_from(["k-edges", "arbitrary"]),
    edges_per_node=st.integers(1, 7),
    scaled=st.booleans(),
)
output_side = st.builds(
    Topology,
    space=st.sampled_from(["k-edges", "arbitrary"]),
    edges_per_node=st.integers(1, 4),
    scaled=st.booleans(),
    side=st.just("output"),
)


def written(topology, edges):
    """A topology space written out for a cell's edges."""
    return topology.kind.matrix(topology, edges)


def literal_combinations(topology: Topology, edges) -> dict[tuple[int, frozenset[int]], dict[int, float]]:
    """Share of each edge, by target node and subset of sources: every subset is tried (DOTS eq. 5-8, 11-13)."""
    found = {}
    for target in {edge.target for edge in edges}:
        incoming = [number for number, edge in enumerate(edges) if edge.target == target]
        for bits in range(1, 2 ** len(incoming)):
            subset = [edge for place, edge in enumerate(incoming) if bits >> place & 1]
            if topology.space == "k-edges" and len(subset) != min(topology.edges_per_node, len(incoming)):
                continue
            share = 1 / len(subset) if topology.scaled else 1.0
            found[target, frozenset(subset)] = dict.fromkeys(subset, share)
    return found


@quick
@given(searched, sparse_cells())
def test_the_matrix_is_the_papers_formula(topology, cell):
    matrix = written(topology, cell.edges)
    expected = literal_combinations(topology, cell.edges)
    columns = list(zip(matrix.groups.tolist(), map(frozenset, matrix.combinations), strict=True))
    assert sorted(columns, key=str) == sorted(expected, key=str)
    assert matrix.shares.shape == (len(cell.edges), len(columns))
    for number, column in enumerate(columns):
        shares = np.zeros(len(cell.edges))
        for edge, share in expected[column].items():
            shares[edge] = share
        np.testing.assert_array_equal(matrix.shares[:, number], shares)


@quick
@given(searched, st.integers(1, 4), st.integers(0, 2**31), st.sampled_from([0.02, 1.0, 10.0]))
def test_gamma_is_the_papers_sum(topology, nodes, seed, temperature):
    """γ(i,j) is the sum over the combinations c that hold (i,j) of softmax(β′/T)(c) / N(c) (DOTS eq. 8)."""
    edges = search_cell(nodes).edges
    matrix = written(topology, edges)
    beta = np.random.RandomState(seed).normal(size=len(matrix.combinations))
    gamma = matrix.shares @ group_softmax(beta, SoftmaxGroups(matrix.groups), temperature)
    expected = np.zeros(len(edges))
    for target in range(2, nodes + 2):
        columns = [c for c in range(len(beta)) if matrix.groups[c] == target]
        powers = np.array([beta[c] / temperature for c in columns])
        powers = np.exp(powers - powers.max())
        for column, probability in zip(columns, powers / powers.sum(), strict=True):
            for edge in matrix.combinations[column]:
                expected[edge] += probability / (len(matrix.combinations[column]) if topology.scaled else 1)
    np.testing.assert_allclose(gamma, expected, rtol=1e-12, atol=1e-300)


@quick
@given(output_side, st.integers(1, 4))
def test_the_output_side_matrix_is_the_papers_formula(topology, nodes):
    """Every subset of a node's output edges is tried (TopoNAS eq. 7-13)."""
    edges = search_cell(nodes).edges
    matrix = written(topology, edges)
    sources = sorted({edge.source for edge in edges})
    expected = {}
    for source in sources:
        outgoing = [number for number, edge in enumerate(edges) if edge.source == source]
        m = len(outgoing)
        k = min(1 if source in sources[-2:] else topology.edges_per_node, m)
        for bits in range(1, 2**m):
            subset = frozenset(edge for place, edge in enumerate(outgoing) if bits >> place & 1)
            if topology.space == "k-edges" and len(subset) != k:
                continue
            scale = comb(m, k) / comb(m - 1, k - 1) if topology.space == "k-edges" else (2**m - 1) / 2 ** (m - 1)
            expected[source, subset] = scale if topology.scaled else 1.0
    columns = list(zip(matrix.groups.tolist(), map(frozenset, matrix.combinations), strict=True))
    assert sorted(columns, key=str) == sorted(expected, key=str)
    for number, column in enumerate(columns):
        for edge in range(len(edges)):
            assert matrix.shares[edge, number] == pytest.approx(expected[column] if edge in column[1] else 0.0)


@pytest.mark.parametrize("space", ["k-edges", "arbitrary"])
def test_gamma_is_1_on_the_output_side_where_no_combination_is_preferred(space):
    cell = search_cell(4, topology=Topology(space, side="output"))
    gamma = cell.matrix.shares @ group_softmax(np.zeros(cell.combination_groups.shape), cell.combination_groups)
    np.testing.assert_allclose(gamma, 1.0, rtol=1e-12)


def test_toponas_keeps_eight_edges():
    """Two output edges of x1, x2, x3 and one of x4, x5 (TopoNAS §4.1)."""
    cell = search_cell(4, topology=Topology("k-edges", 2, side="output"))
    kept = [len(cell.matrix.combinations[members[0]]) for members in cell.combination_groups.members]
    assert kept == [2, 2, 2, 1, 1]


@pytest.mark.parametrize(
    ("topology", "total"),
    [
        (Topology("k-edges", 2), 1.0),
        (Topology("k-edges", 1), 1.0),
        (Topology("k-edges", 3), 1.0),
        (Topology("arbitrary"), 1.0),
        (Topology("k-edges", 2, scaled=False), 2.0),
    ],
)
def test_gamma_of_a_node_sums_to(topology, total):
    cell = search_cell(4, topology=topology)
    beta = np.zeros(cell.combination_groups.shape)
    gamma = cell.matrix.shares @ group_softmax(beta, cell.combination_groups)
    for node in range(2, 6):
        incoming = list(cell.incoming(node))
        assert gamma[incoming].sum() == pytest.approx(total)
        np.testing.assert_allclose(gamma[incoming], gamma[incoming][0], rtol=1e-12)  # uniform β favours none


@quick
@given(st.integers(1, 4), st.integers(1, 7), st.booleans())
def test_counts_of_combinations(nodes, k, scaled):
    edges = search_cell(nodes).edges
    some = written(Topology("k-edges", k, scaled), edges)
    every = written(Topology("arbitrary", scaled=scaled), edges)
    for j in range(2, nodes + 2):  # node j has j incoming edges
        assert (some.groups == j).sum() == (comb(j, k) if k <= j else 1)
        assert (every.groups == j).sum() == 2**j - 1


def test_a_node_with_fewer_edges_than_k_keeps_them_all():
    matrix = written(Topology("k-edges", 5), search_cell(2).edges)
    assert matrix.combinations == ((0, 1), (2, 3, 4))
    np.testing.assert_array_equal(matrix.shares, np.array([[0.5, 0], [0.5, 0], [0, 1 / 3], [0, 1 / 3], [0, 1 / 3]]))


def test_order_of_combinations_is_fixed():
    """β′ in a checkpoint means the same for ever."""
    edges = search_cell(2).edges
    pairs = written(Topology("k-edges"), edges)
    assert pairs.combinations == ((0, 1), (2, 3), (2, 4), (3, 4))
    assert pairs.groups.tolist() == [2, 3, 3, 3]
    every = written(Topology("arbitrary"), edges)
    assert every.combinations == ((0,), (1,), (0, 1), (2,), (3,), (4,), (2, 3), (2, 4), (3, 4), (2, 3, 4))


def test_nothing_is_searched_without_a_space():
    assert written(Topology("none"), search_cell(3).edges) is None
    assert search_cell(3).matrix is None
    assert search_cell(3).combination_groups is None


def test_impossible_spaces_are_refused():
    with pytest.raises(UsageError, match=r"'arbitary'.*did you mean 'arbitrary'"):
        Topology("arbitary")
    with pytest.raises(UsageError, match=r"'outputs'.*did you mean 'output'"):
        Topology("k-edges", side="outputs")
    with pytest.raises(UsageError, match="edges_per_node is 0"):
        Topology("k-edges", 0)
