"""TopoNAS' regularisation: its formula, its gradient, and what it is for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import quick

from dots_core.errors import UsageError
from dots_core.search.regularisation import passive_aggressive
from dots_core.search_space.cell import CellSpec, search_cell
from dots_core.search_space.mixing import group_softmax
from dots_core.search_space.topology import Topology

spaces = st.sampled_from([Topology("k-edges", side="output"), Topology("arbitrary", side="output")])


def drawn(cell: CellSpec, seed: int) -> np.ndarray:
    return np.random.RandomState(seed).normal(size=cell.combination_groups.shape)


def literal(cell: CellSpec, beta: np.ndarray, temperature: float) -> float:
    """The formula, combination by combination."""
    p = group_softmax(beta, cell.combination_groups, temperature)
    columns = [
        (int(node), {cell.edges[e].target for e in chosen}, weight)
        for node, chosen, weight in zip(cell.matrix.groups, cell.matrix.combinations, p, strict=True)
    ]
    total = 0.0
    for j in range(2, cell.nodes + 2):
        product = 1.0
        for i in range(j):
            mine = [(targets, weight) for node, targets, weight in columns if node == i]
            best = max(weight for _, weight in mine)
            best_to_j = max(weight for targets, weight in mine if j in targets)
            product *= (best - best_to_j) / best
        total += product
    return total


@quick
@given(spaces, st.integers(1, 4), st.integers(0, 2**31), st.sampled_from([0.5, 1.0, 3.0]))
def test_it_is_the_formula(topology, nodes, seed, temperature):
    cell = search_cell(nodes, topology=topology)
    beta = drawn(cell, seed)
    value, _ = passive_aggressive(cell, beta, temperature)
    assert value == pytest.approx(literal(cell, beta, temperature), rel=1e-12)


@quick
@given(spaces, st.integers(0, 2**31), st.sampled_from([0.5, 1.0, 3.0]))
def test_its_gradient_by_finite_differences(topology, seed, temperature):
    cell = search_cell(4, topology=topology)
    beta = drawn(cell, seed)
    p = group_softmax(beta, cell.combination_groups, temperature)
    for members in cell.combination_groups.members:  # no tie that a difference could cross
        assume(len(members) == 1 or np.min(np.diff(np.sort(p[members]))) > 1e-4)
    _, gradient = passive_aggressive(cell, beta, temperature)
    direction = np.random.RandomState(seed + 1).normal(size=beta.shape)
    step = 1e-6
    above, below = (literal(cell, beta + sign * step * direction, temperature) for sign in (1, -1))
    slope = (above - below) / (2 * step)
    assert gradient @ direction == pytest.approx(slope, rel=1e-5, abs=1e-7)


@quick
@given(spaces, st.integers(0, 2**31))
def test_it_is_zero_exactly_where_the_most_likely_choice_is_valid(topology, seed):
    cell = search_cell(4, topology=topology)
    beta = drawn(cell, seed)
    best = [int(members[np.argmax(beta[members])]) for members in cell.combination_groups.members]
    chosen = {edge for column in best for edge in cell.matrix.combinations[column]}
    reached = {cell.edges[e].target for e in chosen}
    value, gradient = passive_aggressive(cell, beta)
    assert (value == 0) == (reached == {2, 3, 4, 5})
    if value == 0:
        assert not gradient.any()


def test_descending_it_ends_at_a_valid_cell():
    cell = search_cell(4, topology=Topology("k-edges", side="output"))
    for seed in range(20):
        beta = drawn(cell, seed)
        for _ in range(500):
            value, gradient = passive_aggressive(cell, beta)
            beta = beta - 0.5 * gradient
            if value == 0:
                break
        assert value < 1e-6


def test_input_side_topologies_need_none():
    with pytest.raises(UsageError, match="output-side"):
        passive_aggressive(search_cell(topology=Topology("k-edges")), np.zeros(20))


def test_a_cell_small_enough_to_reckon_by_hand():
    """Nodes 0 and 1 each lead to node 2, to node 3 or, in an arbitrary topology, to both; node 2 leads to 3."""
    cell = search_cell(2, topology=Topology("arbitrary", side="output"))
    names = [[cell.edges[e].name for e in c] for c in cell.matrix.combinations]
    assert names == [["0-2"], ["0-3"], ["0-2", "0-3"], ["1-2"], ["1-3"], ["1-2", "1-3"], ["2-3"]]
    # Node 0 rather leads to 3 alone, at 5:1:2 against 2 alone and both; node 1 at 4:1:1.
    beta = np.log([1.0, 5.0, 2.0, 1.0, 4.0, 1.0, 1.0])
    value, gradient = passive_aggressive(cell, beta)
    # Of node 2: (5 − 2)/5 · (4 − 1)/4; node 3 is on every predecessor's best combination.
    assert value == pytest.approx(3 / 5 * 3 / 4)
    # 1 − p_held/p_best is 1 − exp(β_held − β_best).
    expected = [0, 2 / 5 * 3 / 4, -2 / 5 * 3 / 4, -1 / 4 * 3 / 5, 1 / 4 * 3 / 5, 0, 0]
    np.testing.assert_allclose(gradient, expected, atol=1e-12)


def test_one_predecessor_is_enough():
    """The term of a node is a product: 0 once the best combination of any node before it leads there."""
    cell = search_cell(2, topology=Topology("arbitrary", side="output"))
    value, gradient = passive_aggressive(cell, np.log([1.0, 5.0, 2.0, 6.0, 4.0, 1.0, 1.0]))
    assert value == 0
    assert not gradient.any()
