"""Every topology space against the papers' sums, written out combination by combination."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import quick

from dots_core.errors import UsageError
from dots_core.search_space.cell import CellSpec, search_cell
from dots_core.search_space.mixing import group_softmax, group_softmax_gradient
from dots_core.search_space.topology import TOPOLOGY_SPACES, Topology

Choice = tuple[tuple[int, int], ...]
"""A combination as the papers write it: a set of edges (i, j)."""

sizes = st.integers(1, 5)
seeds = st.integers(0, 2**31 - 1)
temperatures = st.sampled_from([0.05, 0.3, 1.0, 3.0, 10.0])


def named(cell: CellSpec, beta: np.ndarray) -> dict[tuple[int, Choice], float]:
    """β′ by the node whose edges compete and the set of edges."""
    return {
        (int(node), tuple((cell.edges[n].source, cell.edges[n].target) for n in chosen)): float(value)
        for node, chosen, value in zip(cell.matrix.groups, cell.matrix.combinations, beta, strict=True)
    }


def gamma_of(cell: CellSpec, beta: np.ndarray, temperature: float) -> dict[tuple[int, int], float]:
    weights = cell.matrix.shares @ group_softmax(beta, cell.combination_groups, temperature)
    return {(edge.source, edge.target): float(g) for edge, g in zip(cell.edges, weights, strict=True)}


def drawn(topology: Topology, nodes: int, seed: int, scale: float = 1.0) -> tuple[CellSpec, np.ndarray]:
    cell = search_cell(nodes, topology=topology)
    return cell, scale * np.random.RandomState(seed).normal(size=cell.combination_groups.shape)


def softmax(values: dict[Choice, float], temperature: float) -> dict[Choice, float]:
    """exp(β′_c/T) / Σ_c′ exp(β′_c′/T) (DOTS eq. 6)."""
    top = max(values.values())
    powers = {c: math.exp((value - top) / temperature) for c, value in values.items()}
    return {c: power / math.fsum(powers.values()) for c, power in powers.items()}


def nodes_of(nodes: int) -> range:
    return range(2, nodes + 2)


# The lists of combinations. Each takes a node's competing edges and how many intermediate nodes there are.


def pairs(edges: list[tuple[int, int]]) -> list[Choice]:
    """{⟨e₁, e₂⟩ | e₁ < e₂} (DOTS eq. 5); all edges of a node with fewer than two."""
    found = [(one, other) for one in edges for other in edges if one < other]
    return found or [tuple(edges)]


def triples(edges: list[tuple[int, int]]) -> list[Choice]:
    found = [(a, b, c) for a in edges for b in edges for c in edges if a < b < c]
    return found or [tuple(edges)]


def singles(edges: list[tuple[int, int]]) -> list[Choice]:
    return [(edge,) for edge in edges]


def codes(edges: list[tuple[int, int]]) -> list[Choice]:
    """Binary codes {e₁ … e_n}, e_i ∈ {0, 1}, but the one of zeros (DOTS eq. 11-13; TopoNAS eq. 11)."""
    found = [tuple(e for e, bit in zip(edges, code, strict=True) if bit) for code in product((0, 1), repeat=len(edges))]
    return [choice for choice in found if choice]


def incoming(j: int) -> list[tuple[int, int]]:
    return [(i, j) for i in range(j)]


def outgoing(i: int, nodes: int) -> list[tuple[int, int]]:
    return [(i, j) for j in nodes_of(nodes) if j > i]


def literal_gamma(
    cell: CellSpec,
    beta: np.ndarray,
    temperature: float,
    listed: dict[int, list[Choice]],
    share: Callable[[int, Choice], float],
) -> dict[tuple[int, int], float]:
    """γ(i,j) = Σ_{c∋(i,j)} share·β_c, β_c the softmax over the combinations of one node (DOTS eq. 7)."""
    values = named(cell, beta)
    assert set(values) == {(node, tuple(sorted(c))) for node, choices in listed.items() for c in choices}
    gamma = {(edge.source, edge.target): 0.0 for edge in cell.edges}
    for node, choices in listed.items():
        for choice, weight in softmax({c: values[node, c] for c in choices}, temperature).items():
            for edge in choice:
                gamma[edge] += share(node, choice) * weight
    return gamma


def assert_gamma(found: dict[tuple[int, int], float], expected: dict[tuple[int, int], float]) -> None:
    assert found.keys() == expected.keys()
    for edge, value in expected.items():
        assert found[edge] == pytest.approx(value, rel=1e-11, abs=1e-14), edge


INPUT = {
    "pairs": (Topology("k-edges"), pairs, lambda node, c: 1 / len(c)),
    "unscaled pairs": (Topology("k-edges", scaled=False), pairs, lambda node, c: 1.0),
    "triples": (Topology("k-edges", 3), triples, lambda node, c: 1 / len(c)),
    "single edges": (Topology("k-edges", 1), singles, lambda node, c: 1.0),
    "arbitrary": (Topology("arbitrary"), codes, lambda node, c: 1 / len(c)),
    "unscaled subsets": (Topology("arbitrary", scaled=False), codes, lambda node, c: 1.0),
    "edge softmax": (Topology("edge-softmax"), singles, lambda node, c: 1.0),
}


@pytest.mark.parametrize("name", INPUT)
@quick
@given(nodes=sizes, seed=seeds, temperature=temperatures)
def test_input_sides(name, nodes, seed, temperature):
    """DOTS eq. 5-8 and 11-13, its arXiv version eq. 9-11, PC-DARTS' edge normalisation."""
    topology, choices, share = INPUT[name]
    cell, beta = drawn(topology, nodes, seed)
    listed = {j: choices(incoming(j)) for j in nodes_of(nodes)}
    found = gamma_of(cell, beta, temperature)
    assert_gamma(found, literal_gamma(cell, beta, temperature, listed, share))
    if topology.scaled:
        # Shares of a combination add up to 1, whatever β.
        for j in nodes_of(nodes):
            assert math.fsum(found[edge] for edge in incoming(j)) == pytest.approx(1.0)


@quick
@given(nodes=sizes, seed=seeds)
def test_merged_pairs_are_toponas_two_sums(nodes, seed):
    """s(i,j) = Σ_{k<i} p_j^(k,i) + Σ_{i<k<j} p_j^(i,k) (TopoNAS eq. 6)."""
    cell, beta = drawn(Topology("k-edges", scaled=False), nodes, seed)
    values = named(cell, beta)
    expected = {}
    for j in nodes_of(nodes):
        p = {(m, n): math.exp(values[j, ((m, j), (n, j))]) for n in range(j) for m in range(n)}
        total = math.fsum(p.values())
        for i in range(j):
            merged = sum(p[k, i] for k in range(i)) + sum(p[i, k] for k in range(i + 1, j))
            expected[i, j] = merged / total
    assert_gamma(gamma_of(cell, beta, 1.0), expected)


def output_size(node: int, nodes: int, k: int) -> int:
    """x1, x2, x3 keep k output edges, x4 and x5, the last two, 1 (TopoNAS §4.1)."""
    last_two = [nodes - 1, nodes]  # node n + 1 feeds the output alone
    return 1 if node in last_two else min(k, nodes + 1 - max(node, 1))


@quick
@given(nodes=sizes, seed=seeds, temperature=temperatures)
def test_output_pairs(nodes, seed, temperature):
    """s(i,j) = C(m,2)/C(m−1,1)·(Σ_{i<k<j} p_i^(k,j) + Σ_{k>j} p_i^(j,k)) (TopoNAS eq. 8-10)."""
    cell, beta = drawn(Topology("k-edges", side="output"), nodes, seed)
    values = named(cell, beta)
    expected = {}
    for i in range(nodes + 1):
        targets = [j for _, j in outgoing(i, nodes)]
        m = len(targets)
        if output_size(i, nodes, 2) == 1:
            p = {j: math.exp(values[i, ((i, j),)] / temperature) for j in targets}
            for j in targets:
                # C(m, 1)/C(m−1, 0) = m.
                expected[i, j] = m * p[j] / math.fsum(p.values())
            continue
        p2 = {(a, b): math.exp(values[i, ((i, a), (i, b))] / temperature) for a in targets for b in targets if a < b}
        total = math.fsum(p2.values())
        for j in targets:
            merged = sum(p2[k, j] for k in targets if k < j) + sum(p2[j, k] for k in targets if k > j)
            expected[i, j] = math.comb(m, 2) / math.comb(m - 1, 1) * merged / total
    assert_gamma(gamma_of(cell, beta, temperature), expected)


@quick
@given(nodes=sizes, seed=seeds, temperature=temperatures)
def test_output_codes(nodes, seed, temperature):
    """s(i,j) = (2^m − 1)/2^(m−1)·Σ_{b: b_j=1} p(b) over the codes of a node's m output edges (TopoNAS eq. 11-13)."""
    cell, beta = drawn(Topology("arbitrary", side="output"), nodes, seed)
    listed = {i: codes(outgoing(i, nodes)) for i in range(nodes + 1)}

    def share(node: int, choice: Choice) -> float:
        m = len(outgoing(node, nodes))
        assert len(listed[node]) == 2**m - 1
        return (2**m - 1) / 2 ** (m - 1)

    assert_gamma(gamma_of(cell, beta, temperature), literal_gamma(cell, beta, temperature, listed, share))


@quick
@given(nodes=sizes, seed=seeds, temperature=temperatures)
def test_edge_sigmoid(nodes, seed, temperature):
    """γ = 1/(1 + exp(−β′/T)), each edge by itself; what stands beside it is no parameter (DOTS table 4a)."""
    cell, beta = drawn(Topology("edge-sigmoid"), nodes, seed)
    found = list(gamma_of(cell, beta, temperature).values())
    np.testing.assert_allclose(found, [1 / (1 + math.exp(-b / temperature)) for b in beta[::2]], rtol=1e-11)
    moved = beta.copy()
    moved[1::2] += 5.0
    assert list(gamma_of(cell, moved, temperature).values()) == found


@pytest.mark.parametrize("space", ["none", "fixed"])
def test_nothing_is_weighed(space):
    cell = search_cell(4, topology=Topology(space))
    assert cell.matrix is None
    assert cell.combination_groups is None


def test_a_fixed_path_has_no_other_edges():
    """Eight edges of a path; what is not on it is never built (eDARTS §III-B)."""
    path = ((0, 2), (1, 2), (1, 3), (2, 3), (0, 4), (3, 4), (2, 5), (4, 5))
    cell = search_cell(4, topology=Topology("fixed"), edges=path)
    assert [(edge.source, edge.target) for edge in cell.edges] == sorted(path, key=lambda e: (e[1], e[0]))
    assert cell.operation_groups.shape == (8, 8)
    with pytest.raises(UsageError, match="node 5 has no incoming edge"):
        search_cell(4, topology=Topology("fixed"), edges=path[:6])


# What the merging of eq. 6-8 is for


@pytest.mark.parametrize("side", ["input", "output"])
@pytest.mark.parametrize("space", ["k-edges", "arbitrary"])
@quick
@given(nodes=sizes, seed=seeds)
def test_merged_edges_are_the_sum_over_combinations(space, side, nodes, seed):
    """x_j = Σ_c p_c·Σ_{(i,j)∈c} share·ō(x_i), summed combination by combination (TopoNAS eq. 4; DOTS eq. 8)."""
    cell, beta = drawn(Topology(space, side=side), nodes, seed)
    source = np.random.RandomState(seed + 1)
    slopes = {(edge.source, edge.target): source.normal() for edge in cell.edges}
    inputs = [*source.normal(size=2)]
    weights = {}
    for node in set(cell.matrix.groups.tolist()):
        mine = {c: value for (n, c), value in named(cell, beta).items() if n == node}
        weights.update({(node, c): p for c, p in softmax(mine, 1.0).items()})
    shares = {
        (int(node), tuple((cell.edges[n].source, cell.edges[n].target) for n in chosen)): column
        for node, chosen, column in zip(cell.matrix.groups, cell.matrix.combinations, cell.matrix.shares.T, strict=True)
    }
    literal, merged = list(inputs), list(inputs)
    gamma = gamma_of(cell, beta, 1.0)
    for j in nodes_of(nodes):
        total = 0.0
        for (node, choice), p in weights.items():
            for i, target in choice:
                if target == j:
                    number = [(e.source, e.target) for e in cell.edges].index((i, j))
                    total += p * shares[node, choice][number] * math.tanh(slopes[i, j] * literal[i])
        literal.append(total)
        merged.append(sum(gamma[i, j] * math.tanh(slopes[i, j] * merged[i]) for i in range(j)))
    np.testing.assert_allclose(merged, literal, rtol=1e-9, atol=1e-12)


# Shares, sums and counts


def test_shares_of_the_default_cell():
    """m = 4, 4, 3, 2, 1 output edges: k = 2, 2, 2, 1, 1 weigh m/k; any subset weighs (2^m − 1)/2^(m−1)."""
    for topology, expected in (
        (Topology("k-edges", side="output"), [2.0, 2.0, 1.5, 2.0, 1.0]),
        (Topology("k-edges", 1, side="output"), [4.0, 4.0, 3.0, 2.0, 1.0]),
        (Topology("k-edges", 3, side="output"), [4 / 3, 4 / 3, 1.0, 2.0, 1.0]),
        (Topology("arbitrary", side="output"), [15 / 8, 15 / 8, 7 / 4, 3 / 2, 1.0]),
        (Topology("k-edges", scaled=False, side="output"), [1.0] * 5),
    ):
        cell = search_cell(4, topology=topology)
        for number, node in enumerate(cell.matrix.groups):
            column = cell.matrix.shares[:, number]
            assert column[list(cell.matrix.combinations[number])] == pytest.approx(expected[node])
            assert np.count_nonzero(column) == len(cell.matrix.combinations[number])
    cell = search_cell(4, topology=Topology("k-edges"))
    assert set(cell.matrix.shares.ravel()) == {0.0, 0.5}


@quick
@given(nodes=sizes, k=st.integers(1, 5), scaled=st.booleans())
def test_toponas_rule_of_k(nodes, k, scaled):
    """The last two nodes with output edges keep 1, all others k, or all they have."""
    cell = search_cell(nodes, topology=Topology("k-edges", k, scaled, "output"))
    kept = {int(node): len(c) for node, c in zip(cell.matrix.groups, cell.matrix.combinations, strict=True)}
    counts = {i: len(outgoing(i, nodes)) for i in range(nodes + 1)}
    assert counts == {i: nodes if i < 2 else nodes + 1 - i for i in range(nodes + 1)}
    assert kept == {i: 1 if i >= nodes - 1 else min(k, counts[i]) for i in range(nodes + 1)}
    for node in kept:
        assert (cell.matrix.groups == node).sum() == math.comb(counts[node], kept[node])


@pytest.mark.parametrize(("nodes", "edges"), [(4, 8), (5, 10), (6, 12), (8, 16)])
def test_edges_of_a_cell_of_fixed_topology(nodes, edges):
    """Whatever β, TopoNAS keeps two edges a node but the last two: 8 with 4 intermediate nodes, as DARTS does."""
    cell = search_cell(nodes, topology=Topology("k-edges", side="output"))
    kept = {int(node): len(c) for node, c in zip(cell.matrix.groups, cell.matrix.combinations, strict=True)}
    assert sum(kept.values()) == edges


@pytest.mark.parametrize(
    ("topology", "total"),
    [
        (Topology("k-edges"), lambda j: 1.0),
        (Topology("k-edges", scaled=False), lambda j: min(2.0, j)),
        (Topology("arbitrary"), lambda j: 1.0),
        (Topology("arbitrary", scaled=False), lambda j: j * 2 ** (j - 1) / (2**j - 1)),
        (Topology("edge-softmax"), lambda j: 1.0),
        (Topology("edge-sigmoid"), lambda j: j / 2),
        (Topology("k-edges", side="output"), lambda j: float(j)),
        (Topology("arbitrary", side="output"), lambda j: float(j)),
    ],
)
@pytest.mark.parametrize("nodes", [1, 2, 4, 5])
def test_where_no_combination_is_preferred(topology, total, nodes):
    """Of a node's edges each weighs the same; on the output side exactly as much as in the derived cell."""
    cell = search_cell(nodes, topology=topology)
    found = gamma_of(cell, np.zeros(cell.combination_groups.shape), 1.0)
    for j in nodes_of(nodes):
        for edge in incoming(j):
            assert found[edge] == pytest.approx(total(j) / j)


@pytest.mark.parametrize("side", ["input", "output"])
@quick
@given(nodes=sizes, seed=seeds, temperature=temperatures)
def test_gamma_goes_to_the_best_combination_as_it_cools(side, nodes, seed, temperature):
    cell, beta = drawn(Topology("arbitrary", side=side), nodes, seed)
    found = gamma_of(cell, beta, 1e-9 * temperature)
    kept = set()
    for members in cell.combination_groups.members:
        best = int(members[int(np.argmax(beta[members]))])
        for number in cell.matrix.combinations[best]:
            edge = (cell.edges[number].source, cell.edges[number].target)
            assert found[edge] == pytest.approx(cell.matrix.shares[number, best])
            kept.add(edge)
    assert all(value == 0 for edge, value in found.items() if edge not in kept)


searched = [Topology(space, side=side) for space in ("k-edges", "arbitrary") for side in ("input", "output")]
searched += [Topology("edge-softmax"), Topology("edge-sigmoid"), Topology("k-edges", scaled=False)]


@pytest.mark.parametrize("topology", searched, ids=lambda t: f"{t.space}, {t.side}, {t.scaled}")
@quick
@given(nodes=st.integers(1, 4), seed=seeds, temperature=st.sampled_from([0.3, 1.0, 3.0]))
def test_the_gradient_of_gamma(topology, nodes, seed, temperature):
    """A of the papers is constant, so γ is differentiated through the softmax alone."""
    cell, beta = drawn(topology, nodes, seed)
    blocks, shares = cell.combination_groups, cell.matrix.shares
    upstream = np.random.RandomState(seed + 1).normal(size=len(cell.edges))
    weights = group_softmax(beta, blocks, temperature)
    found = group_softmax_gradient(weights, shares.T @ upstream, blocks, temperature)
    for place in range(len(beta)):
        step = np.zeros(len(beta))
        step[place] = 1e-6
        up, down = (shares @ group_softmax(beta + sign * step, blocks, temperature) @ upstream for sign in (1, -1))
        assert found[place] == pytest.approx((up - down) / 2e-6, abs=1e-7)
        if topology.space == "edge-sigmoid" and place % 2:
            assert found[place] == 0


def test_every_space_is_looked_at_here():
    seen = {topology.space for topology, *_ in INPUT.values()} | {"none", "fixed", "edge-sigmoid"}
    assert seen == set(TOPOLOGY_SPACES.names)


@pytest.mark.parametrize("space", ["none", "fixed", "edge-softmax", "edge-sigmoid"])
def test_only_combinations_have_an_output_side(space):
    with pytest.raises(UsageError, match=f"'{space}' has no output side.* one: 'k-edges', 'arbitrary'$"):
        Topology(space, side="output")
