"""What a search of any method derives: the rules of every topology space, repairs, and what moves an arg-max."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import every_topology, method_cells, output_sides, quick

from dots_core.search.regularisation import passive_aggressive
from dots_core.search_space.cell import CELL_TYPES, CellSpec, search_cell
from dots_core.search_space.derivation import Repair, decide, derive, edge_strengths, retain
from dots_core.search_space.genotype import Genotype
from dots_core.search_space.mixing import Temperature
from dots_core.search_space.operations import DARTS, NONE
from dots_core.search_space.topology import Topology

seeds = st.integers(0, 2**31 - 1)
temperatures = st.builds(Temperature, st.sampled_from([0.2, 1.0, 3.0]), st.sampled_from([0.1, 1.0, 5.0]))

Kept = dict[int, list[tuple[int, str]]]
"""Of each node, the sources and operations of its edges."""


def drawn(cells: dict[str, CellSpec], seed: int) -> dict[str, np.ndarray]:
    source = np.random.RandomState(seed)
    values = {}
    for kind, cell in cells.items():
        values[f"alpha.{kind}"] = source.normal(size=cell.operation_groups.shape)
        if cell.combination_groups is not None:
            values[f"beta.{kind}"] = source.normal(size=cell.combination_groups.shape)
    return values


def of_genotype(genotype: Genotype, kind: str) -> Kept:
    nodes = enumerate(getattr(genotype, kind), start=2)
    return {node: [(source, operation) for operation, source in edges] for node, edges in nodes}


# The rules, written out


def moved(cell: CellSpec, alpha: np.ndarray, row: int) -> dict[str, float]:
    """α′ of an edge's operations with the constants of attention."""
    constants = dict(cell.attention)
    return {
        o: float(alpha[row, cell.column(o)]) + constants.get(o, 0.0) for o in cell.candidates
        if o in cell.edges[row].operations
    }  # fmt: skip


def weights(cell: CellSpec, alpha: np.ndarray, row: int, temperature: float) -> dict[str, float]:
    """ln α of an edge's operations, each a softmax over its group."""
    values = moved(cell, alpha, row)
    found = {}
    for group in cell.edges[row].groups:
        top = max(values[o] for o in group)
        total = math.log(math.fsum(math.exp((values[o] - top) / temperature) for o in group))
        found |= {o: (values[o] - top) / temperature - total for o in group}
    return {o: found[o] for o in DARTS if o in found}


def operation(cell: CellSpec, alpha: np.ndarray, row: int, temperature: float) -> str:
    values = weights(cell, alpha, row, temperature)
    return max((o for o in values if o != NONE), key=lambda o: values[o])


def best_weight(cell: CellSpec, alpha: np.ndarray, row: int, temperature: float) -> float:
    """The largest α of an operation other than `none`."""
    return math.exp(max(value for o, value in weights(cell, alpha, row, temperature).items() if o != NONE))


def groups_of(cell: CellSpec) -> list[list[int]]:
    """The combinations that compete, by number."""
    numbers = list(enumerate(cell.matrix.groups.tolist()))
    return [[n for n, group in numbers if group == each] for each in sorted({group for _, group in numbers})]


def gammas(cell: CellSpec, beta: np.ndarray | None, temperature: float) -> list[float]:
    """γ of each edge, combination by combination."""
    if cell.matrix is None:
        return [1.0] * len(cell.edges)
    gamma = [0.0] * len(cell.edges)
    for group in groups_of(cell):
        values = [float(beta[n]) if cell.matrix.free[n] else 0.0 for n in group]
        powers = [math.exp((value - max(values)) / temperature) for value in values]
        for n, power in zip(group, powers, strict=True):
            for edge in cell.matrix.combinations[n]:
                gamma[edge] += cell.matrix.shares[edge, n] * power / sum(powers)
    return gamma


def strengths(cell: CellSpec, alpha: np.ndarray, beta: np.ndarray | None, at: Temperature) -> list[float]:
    """γ times the best operation's α; α at temperature 1 where no topology is searched, as in DARTS."""
    cold = 1.0 if cell.matrix is None else at.alpha
    shares = gammas(cell, beta, at.beta)
    return [shares[row] * best_weight(cell, alpha, row, cold) for row in range(len(cell.edges))]


def literal(cell: CellSpec, alpha: np.ndarray, beta: np.ndarray | None, at: Temperature) -> tuple[Kept, list[int]]:
    """The derived cell, and the nodes that had to be given an edge."""
    strong = strengths(cell, alpha, beta, at)
    cold = 1.0 if cell.matrix is None else at.alpha
    space = cell.topology.space
    kept: set[int] = set()
    if space == "fixed":
        kept = set(range(len(cell.edges)))
    elif space in ("k-edges", "arbitrary"):
        for group in groups_of(cell):
            kept |= set(cell.matrix.combinations[max(group, key=lambda n: beta[n])])
    elif space == "edge-sigmoid":
        kept = {row for row in range(len(cell.edges)) if 1 / (1 + math.exp(-beta[2 * row])) > 0.5}
    else:
        for node in range(2, cell.nodes + 2):
            rows = [row for row, edge in enumerate(cell.edges) if edge.target == node]
            kept |= set(sorted(rows, key=lambda row: -strong[row])[: cell.topology.edges_per_node])
    found: Kept = {}
    without = []
    for node in range(2, cell.nodes + 2):
        rows = [row for row, edge in enumerate(cell.edges) if edge.target == node]
        chosen = [row for row in rows if row in kept]
        if not chosen:
            without.append(node)
            chosen = [max(rows, key=lambda row: strong[row])]
        found[node] = [(cell.edges[row].source, operation(cell, alpha, row, cold)) for row in chosen]
    return found, without


@quick
@given(method_cells(), method_cells(), seeds, temperatures)
def test_every_space_derives_by_its_rule(normal, reduce, seed, at):
    cells = {"normal": normal, "reduce": reduce}
    values = drawn(cells, seed)
    found = decide(cells, values, at)
    repaired = []
    for kind, cell in cells.items():
        alpha, beta = values[f"alpha.{kind}"], values.get(f"beta.{kind}")
        np.testing.assert_allclose(
            edge_strengths(cell, alpha, beta, at), strengths(cell, alpha, beta, at), rtol=1e-9, atol=1e-300
        )
        expected, without = literal(cell, alpha, beta, at)
        assert of_genotype(found.genotype, kind) == expected
        repaired += [Repair(kind, node, f"{expected[node][0][0]}-{node}") for node in without]
    assert list(found.repairs) == repaired
    assert derive(cells, values, at) == found.genotype


@quick
@given(every_topology, seeds, st.integers(1, 5))
def test_every_derived_cell_is_valid(topology, seed, nodes):
    """Even where `none` outweighs everything."""
    cell = search_cell(nodes, topology=topology)
    cells = dict.fromkeys(CELL_TYPES, cell)
    values = drawn(cells, seed)
    for kind in CELL_TYPES:
        values[f"alpha.{kind}"][:, cell.column(NONE)] = 50.0
    found = decide(cells, values)
    for kind in CELL_TYPES:
        for edges in of_genotype(found.genotype, kind).values():
            assert edges
            assert NONE not in {operation for _, operation in edges}
    if topology.side == "input" and topology.space != "edge-sigmoid":
        assert found.repairs == ()


# Repairs


OUTPUT = Topology("k-edges", side="output")


def chosen_edges(cell: CellSpec, *names: str) -> np.ndarray:
    """β′ that prefers the combinations of just these edges."""
    beta = np.zeros(cell.combination_groups.shape)
    for number, combination in enumerate(cell.matrix.combinations):
        beta[number] = 3.0 * ({cell.edges[n].name for n in combination} <= set(names))
    return beta


def test_a_node_without_input_gets_its_strongest_edge():
    """Everything flows past node 3: of its edges the one with the largest γ·α is added."""
    cell = search_cell(3, topology=OUTPUT)
    cells = dict.fromkeys(CELL_TYPES, cell)
    beta = chosen_edges(cell, "0-2", "0-4", "1-2", "1-4", "2-4", "3-4")
    names = [edge.name for edge in cell.edges]
    alpha = np.zeros(cell.operation_groups.shape)
    alpha[names.index("1-3"), cell.column("sep_conv_5x5")] = 1.0
    values = {f"{group}.{kind}": x for kind in CELL_TYPES for group, x in (("alpha", alpha), ("beta", beta))}
    found = decide(cells, values)
    assert found.repairs == (Repair("normal", 3, "1-3"), Repair("reduce", 3, "1-3"))
    assert str(found.repairs[0]) == "node 3 of the normal cell (1-3 added)"
    assert found.genotype.normal[1] == (("sep_conv_5x5", 1),)
    # γ decides as much as α does: an edge whose node would rather lead there.
    near = beta.copy()
    for number, combination in enumerate(cell.matrix.combinations):
        if {names[n] for n in combination} == {"2-3"}:
            near[number] = 2.9
    stronger = decide(cells, {**values, "beta.normal": near})
    assert str(stronger.repairs[0]) == "node 3 of the normal cell (2-3 added)"


def test_equal_edges_are_repaired_from_the_earliest_node():
    cell = search_cell(2, ("skip_connect",), topology=Topology("edge-sigmoid"))
    values = {f"alpha.{kind}": np.zeros(cell.operation_groups.shape) for kind in CELL_TYPES}
    values |= {f"beta.{kind}": np.full(10, -1.0) for kind in CELL_TYPES}
    found = decide(dict.fromkeys(CELL_TYPES, cell), values)
    assert [(repair.node, repair.edge) for repair in found.repairs] == [(2, "0-2"), (3, "0-3")] * 2


@quick
@given(output_sides, seeds, st.integers(1, 5), temperatures)
def test_the_regulariser_is_zero_exactly_where_nothing_is_repaired(topology, seed, nodes, at):
    """r(β) = 0 if and only if the architecture is valid (TopoNAS §3.3)."""
    cell = search_cell(nodes, topology=topology)
    cells = dict.fromkeys(CELL_TYPES, cell)
    values = drawn(cells, seed)
    found = decide(cells, values, at)
    for kind in CELL_TYPES:
        value, _ = passive_aggressive(cell, values[f"beta.{kind}"], at.beta)
        assert (value > 0) == any(repair.cell == kind for repair in found.repairs)


# Edge weights


@quick
@given(seeds, st.sampled_from([0.05, 1.0, 20.0]), st.integers(1, 5))
def test_the_sigmoids_threshold_does_not_depend_on_temperature(seed, temperature, nodes):
    """γ > ½ is β′ > 0 at any temperature (DOTS table 4a)."""
    cell = search_cell(nodes, ("skip_connect",), topology=Topology("edge-sigmoid"))
    cells = dict.fromkeys(CELL_TYPES, cell)
    values = drawn(cells, seed)
    found = decide(cells, values, Temperature(1.0, temperature))
    repaired = {(repair.cell, repair.edge) for repair in found.repairs}
    for kind in CELL_TYPES:
        kept = {f"{s}-{node}" for node, edges in of_genotype(found.genotype, kind).items() for s, _ in edges}
        above = {edge.name for edge, b in zip(cell.edges, values[f"beta.{kind}"][::2], strict=True) if b > 0}
        assert kept == above | {edge for cell_type, edge in repaired if cell_type == kind}


def test_an_edge_at_the_threshold_is_dropped():
    cell = search_cell(1, ("skip_connect",), topology=Topology("edge-sigmoid"))
    values = {f"alpha.{kind}": np.zeros((2, 1)) for kind in CELL_TYPES}
    values |= {f"beta.{kind}": np.array([0.0, 0.0, 1e-9, 0.0]) for kind in CELL_TYPES}
    assert derive(dict.fromkeys(CELL_TYPES, cell), values).normal == ((("skip_connect", 1),),)


def test_edge_softmax_weighs_by_the_product():
    """PC-DARTS: neither the edge with the largest α nor that with the largest γ need be kept."""
    cell = search_cell(2, ("skip_connect", "sep_conv_3x3"), topology=Topology("edge-softmax", 1))
    alpha = np.zeros(cell.operation_groups.shape)
    alpha[2:, cell.column("sep_conv_3x3")] = [math.log(9.0), math.log(4.0), 0.0]  # α 0.9, 0.8, 0.5
    beta = np.log([1.0, 1.0, 0.2, 0.35, 0.45])  # γ·α 0.18, 0.28, 0.225
    values = {f"{group}.{kind}": x for kind in CELL_TYPES for group, x in (("alpha", alpha), ("beta", beta))}
    genotype = derive(dict.fromkeys(CELL_TYPES, cell), values)
    assert genotype.normal[1] == (("sep_conv_3x3", 1),)
    assert edge_strengths(cell, alpha, beta)[2:] == pytest.approx([0.18, 0.28, 0.225])


def test_a_fixed_path_keeps_all_its_edges():
    path = ((0, 2), (1, 2), (1, 3), (2, 3), (0, 4), (1, 4), (3, 4), (4, 5))
    cell = search_cell(4, topology=Topology("fixed"), edges=path)
    genotype = derive(dict.fromkeys(CELL_TYPES, cell), drawn(dict.fromkeys(CELL_TYPES, cell), 0))
    kept = {(source, node) for node, edges in of_genotype(genotype, "normal").items() for source, _ in edges}
    assert kept == set(path)


# What moves an arg-max


@pytest.mark.parametrize("rule", ["groups", "top-1", "top-2"])
def test_attention_moves_what_is_retained_and_derived(rule):
    """The largest of α′ + c, not of α′ (eDARTS §III-A)."""
    cell = search_cell(1, ("skip_connect", "sep_conv_3x3", "sep_conv_5x5", "dil_conv_5x5"), topology=Topology("fixed"))
    alpha = np.zeros(cell.operation_groups.shape)
    for value, name in ((0.003, "dil_conv_5x5"), (0.0025, "sep_conv_3x3"), (0.001, "skip_connect")):
        alpha[:, cell.column(name)] = value
    pushed = replace(cell, attention=(("sep_conv_3x3", 0.0006), ("dil_conv_5x5", -0.0025)))
    values = {f"alpha.{kind}": alpha for kind in CELL_TYPES}
    for each, best, second in ((cell, "dil_conv_5x5", "sep_conv_3x3"), (pushed, "sep_conv_3x3", "skip_connect")):
        genotype = derive(dict.fromkeys(CELL_TYPES, each), values)
        assert {operation for operation, _ in genotype.normal[0]} == {best}
        kept = retain(each, alpha, rule, Topology("k-edges")).edges[0].operations
        assert set(kept) == ({best, second} if rule == "top-2" else {best})


@quick
@given(method_cells(), seeds)
def test_samples_and_partial_channels_do_not_decide(cell, seed):
    """They are how a search computes; α′ and β′ are what it found."""
    plain = replace(cell, sampling="none", partial=1)
    values = drawn(dict.fromkeys(CELL_TYPES, cell), seed)
    assert derive(dict.fromkeys(CELL_TYPES, cell), values) == derive(dict.fromkeys(CELL_TYPES, plain), values)


@quick
@given(method_cells(), seeds, every_topology, st.sampled_from(["groups", "top-1", "top-2"]))
def test_the_topology_stage_neither_samples_nor_leaves_channels_out(cell, seed, topology, rule):
    """It mixes the retained operations by their softmax (DOTS §4.2), whatever found them."""
    alpha = np.random.RandomState(seed).normal(size=cell.operation_groups.shape)
    kept = retain(cell, alpha, rule, topology)
    assert (kept.sampling, kept.partial, kept.attention) == ("none", 1, cell.attention)
    assert kept.topology == topology
    assert [edge.name for edge in kept.edges] == [edge.name for edge in cell.edges]
