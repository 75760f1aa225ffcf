"""Every way of mixing operations against the papers' formula, one edge and one operation at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import quick, small_network

from dots_core.search.sampling import Sampler
from dots_core.search_space.cell import CellSpec, search_cell
from dots_core.search_space.derivation import retain
from dots_core.search_space.mixing import SoftmaxGroups, group_softmax, group_softmax_gradient
from dots_core.search_space.operations import DARTS, NONE
from dots_core.search_space.operations.groupings import grouping
from dots_core.search_space.topology import Topology

seeds = st.integers(0, 2**31 - 1)
sizes = st.integers(1, 5)
temperatures = st.sampled_from([0.1, 0.5, 1.0, 4.0])

V1 = (
    ("skip_connect",),
    ("max_pool_3x3", "avg_pool_3x3"),
    ("sep_conv_3x3", "sep_conv_5x5"),
    ("dil_conv_3x3", "dil_conv_5x5"),
)
V2 = (
    (NONE, "skip_connect", "max_pool_3x3", "avg_pool_3x3"),
    ("sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5"),
)
EDARTS = (("sep_conv_3x3", 0.0006), ("sep_conv_5x5", 0.0004), ("dil_conv_5x5", -0.0006), ("dil_conv_3x3", -0.0004))

Weights = dict[str, float]


def softmax(logits: Weights, temperature: float = 1.0) -> Weights:
    """exp(α′_o/T) / Σ_o′ exp(α′_o′/T) (DOTS eq. 2; with T and within a group, its arXiv version eq. 4)."""
    top = max(logits.values())
    powers = {o: math.exp((value - top) / temperature) for o, value in logits.items()}
    return {o: power / math.fsum(powers.values()) for o, power in powers.items()}


def drawn(cell: CellSpec, seed: int, scale: float = 1.0) -> np.ndarray:
    return scale * np.random.RandomState(seed).normal(size=cell.operation_groups.shape)


def of_edge(cell: CellSpec, alpha: np.ndarray, row: int, operations: tuple[str, ...]) -> Weights:
    return {o: float(alpha[row, cell.column(o)]) for o in operations}


def assert_edge(cell: CellSpec, found: np.ndarray, row: int, expected: Weights) -> None:
    """Compare an edge's weights; an operation that it does not hold weighs 0."""
    for column, operation in enumerate(cell.candidates):
        assert found[row, column] == pytest.approx(expected.get(operation, 0.0), rel=1e-11, abs=1e-300)


@st.composite
def partitions(draw: st.DrawFn) -> tuple[tuple[str, ...], ...]:
    """O = O₁ ∪ … ∪ O_p of any operations into any groups."""
    operations = draw(st.lists(st.sampled_from(DARTS[1:]), min_size=1, unique=True))
    operations += [NONE] if draw(st.booleans()) else []
    places = draw(st.lists(st.integers(0, 3), min_size=len(operations), max_size=len(operations)))
    groups = [tuple(o for o, at in zip(operations, places, strict=True) if at == place) for place in range(4)]
    return tuple(group for group in groups if group)


# One softmax, groups


@quick
@given(sizes, seeds, temperatures, st.booleans())
def test_one_softmax(nodes, seed, temperature, without_none):
    """DARTS; DOTS eq. 2. TopoNAS drops Zero from it (§3.1)."""
    operations = DARTS[1:] if without_none else DARTS
    cell = search_cell(nodes, operations)
    alpha = drawn(cell, seed)
    found = group_softmax(alpha, cell.operation_groups, temperature)
    for row in range(len(cell.edges)):
        assert_edge(cell, found, row, softmax(of_edge(cell, alpha, row, operations), temperature))


@quick
@given(sizes, seeds, temperatures, partitions())
def test_groups(nodes, seed, temperature, groups):
    """Softmax in each group; the mixed operation sums over all groups (DOTS §4.2.2, arXiv version eq. 4)."""
    operations = tuple(o for group in groups for o in group)
    cell = search_cell(nodes, operations, groups)
    alpha = drawn(cell, seed)
    found = group_softmax(alpha, cell.operation_groups, temperature)
    outputs = {o: math.sin(1.0 + number) for number, o in enumerate(cell.candidates)}
    for row in range(len(cell.edges)):
        expected: Weights = {}
        mixed = 0.0
        for group in groups:
            weights = softmax(of_edge(cell, alpha, row, group), temperature)
            assert math.fsum(weights.values()) == pytest.approx(1.0)
            mixed += math.fsum(weights[o] * outputs[o] for o in group)
            expected |= weights
        assert_edge(cell, found, row, expected)
        assert found[row] @ [outputs[o] for o in cell.candidates] == pytest.approx(mixed, rel=1e-10, abs=1e-12)
        # As many operations' worth of weight as there are groups.
        assert found[row].sum() == pytest.approx(len(groups))


def test_the_papers_groupings():
    """DOTS' supplement, §2."""
    for name, groups in (("group-v1", V1), ("group-v2", V2)):
        assert {frozenset(group) for group in grouping(name)} == {frozenset(group) for group in groups}
    cell = search_cell(4, groups="group-v2")
    assert len(cell.operation_groups.members) == 2 * 14
    assert NONE not in {o for group in search_cell(4, groups="group-v1").edges[0].groups for o in group}


@quick
@given(sizes, seeds, st.sampled_from(["group-v1", "group-v2", "single"]), st.floats(0.02, 10))
def test_the_topology_stage_mixes_what_is_retained_a_thousand_times_colder(nodes, seed, groups, temperature):
    """α over O_n at T_α = T_β/1000 (DOTS eq. 15-16, fig. 3)."""
    cell = search_cell(nodes, groups=groups)
    kept = retain(cell, drawn(cell, seed), "groups", Topology("k-edges"))
    alpha = drawn(kept, seed + 1, 1e-3)
    cold = temperature / 1000
    found = group_softmax(alpha, kept.operation_groups, cold)
    for row, edge in enumerate(kept.edges):
        assert len(edge.groups) == 1
        assert_edge(kept, found, row, softmax(of_edge(kept, alpha, row, edge.operations), cold))


@quick
@given(sizes, seeds, temperatures, partitions())
def test_the_gradient_of_a_mixed_operation(nodes, seed, temperature, groups):
    """∂ō/∂α′_o = α_o(o(x) − ō_group(x))/T, and nothing across groups."""
    cell = search_cell(nodes, tuple(o for group in groups for o in group), groups)
    alpha = drawn(cell, seed)
    outputs = drawn(cell, seed + 1)
    weights = group_softmax(alpha, cell.operation_groups, temperature)
    found = group_softmax_gradient(weights, outputs, cell.operation_groups, temperature)
    for row in range(len(cell.edges)):
        expected: Weights = {}
        for group in groups:
            shares, values = softmax(of_edge(cell, alpha, row, group), temperature), of_edge(cell, outputs, row, group)
            mean = math.fsum(shares[o] * values[o] for o in group)
            expected |= {o: shares[o] * (values[o] - mean) / temperature for o in group}
        for column, operation in enumerate(cell.candidates):
            assert found[row, column] == pytest.approx(expected.get(operation, 0.0), rel=1e-8, abs=1e-11)


# Attention


@quick
@given(sizes, seeds, temperatures, st.sampled_from([1.0, 1000.0]))
def test_attention_is_a_constant_inside_the_softmax(nodes, seed, temperature, strength):
    """softmax((α′ + c)/T): an operation weighs e^(c/T) times as much against an unmoved one (eDARTS §III-A, §IV-C)."""
    attention = tuple((o, strength * c) for o, c in EDARTS)
    cell, plain = search_cell(nodes, attention=attention), search_cell(nodes)
    alpha = drawn(cell, seed)
    found = group_softmax(alpha, cell.operation_groups, temperature)
    without = group_softmax(alpha, plain.operation_groups, temperature)
    constants = dict(attention)
    for row in range(len(cell.edges)):
        moved = {o: value + constants.get(o, 0.0) for o, value in of_edge(cell, alpha, row, DARTS).items()}
        assert_edge(cell, found, row, softmax(moved, temperature))
        skip = cell.column("skip_connect")
        for operation, constant in attention:
            column = cell.column(operation)
            ratio = (found[row, column] / found[row, skip]) / (without[row, column] / without[row, skip])
            assert ratio == pytest.approx(math.exp(constant / temperature), rel=1e-9)


@quick
@given(seeds)
def test_attention_moves_the_largest(seed):
    cell = search_cell(2, attention=(("dil_conv_3x3", 1.0), ("sep_conv_3x3", -1.0)))
    alpha = drawn(cell, seed)
    groups = cell.operation_groups
    chosen = groups.largest(groups.shifted(alpha))
    constants = {"dil_conv_3x3": 1.0, "sep_conv_3x3": -1.0}
    for row in range(len(cell.edges)):
        moved = {o: value + constants.get(o, 0.0) for o, value in of_edge(cell, alpha, row, DARTS).items()}
        assert [cell.candidates[c] for c in np.flatnonzero(chosen[row])] == [max(moved, key=lambda o: moved[o])]


def test_attention_of_an_absent_operation_is_nothing():
    cell = search_cell(1, ("skip_connect", "sep_conv_3x3"), attention=EDARTS)
    assert cell.operation_groups.offsets.nonzero()[1].tolist() == [cell.column("sep_conv_3x3")] * 2


# Samples


@quick
@given(sizes, seeds, temperatures, st.sampled_from(["single", "group-v2"]))
def test_soft_samples_are_of_the_concrete_distribution(nodes, seed, temperature, groups):
    """(log α_o + G_o)/λ through a softmax, α themselves a softmax (SNAS; Maddison et al. eq. 10)."""
    cell = search_cell(nodes, groups=groups, sampling="soft")
    alpha = drawn(cell, seed)
    draw = Sampler(small_network(cell), seed, "test").draw({}, 0, 0)["normal"]
    found = group_softmax(alpha, cell.operation_groups, temperature, draw.noise)
    for row, edge in enumerate(cell.edges):
        expected: Weights = {}
        for group in edge.groups:
            chances = softmax(of_edge(cell, alpha, row, group))
            noise = of_edge(cell, draw.noise, row, group)
            noisy = {o: math.log(p) + noise[o] for o, p in chances.items()}
            expected |= softmax(noisy, temperature)
        for column, operation in enumerate(cell.candidates):
            assert found[row, column] == pytest.approx(expected.get(operation, 0.0), rel=1e-9, abs=1e-200)


@quick
@given(seeds)
def test_soft_samples_become_hard_ones_as_they_cool(seed):
    cell = search_cell(3, groups="group-v2", sampling="hard")
    alpha = drawn(cell, seed)
    spec = small_network(cell)
    architecture = {f"alpha.{kind}": alpha for kind in spec.kinds()}
    draw = Sampler(spec, seed, "test").draw(architecture, 0, 0)["normal"]
    cold = group_softmax(alpha, cell.operation_groups, 1e-9, draw.noise)
    np.testing.assert_array_equal(cold, draw.chosen.astype(float))


@quick
@given(st.integers(2, 6), seeds)
def test_the_mean_hard_sample_is_the_softmax(width, seed):
    """E[one-hot of arg max(α′ + g)] = softmax(α′): by the exponential race, integrated on a grid."""
    logits = np.random.RandomState(seed).normal(size=width)
    grid = np.linspace(-12, 40, 20_001)
    density = [np.exp(-(grid - a) - np.exp(-(grid - a))) for a in logits]
    below = [np.exp(-np.exp(-(grid - a))) for a in logits]
    expected = group_softmax(logits, SoftmaxGroups(np.zeros(width, np.int64)))
    for o in range(width):
        others = np.prod([below[other] for other in range(width) if other != o], axis=0)
        wins = float((density[o] * others).sum() * (grid[1] - grid[0]))
        assert wins == pytest.approx(expected[o], rel=1e-6)
