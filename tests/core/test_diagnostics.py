"""Margins say how far a decision is from another; counts and warnings say what the cell holds."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import genotypes, method_cells, quick, search_cells, small_network

from dots_core.search.diagnostics import (
    LARGE_GAP,
    completed,
    decisions,
    retention_margin,
    smallest_margins,
    summarise_architecture,
    unusable,
    warnings,
)
from dots_core.search_space.cell import CELL_TYPES, search_cell
from dots_core.search_space.derivation import RETENTIONS, decide, derive, retain
from dots_core.search_space.genotype import Genotype
from dots_core.search_space.mixing import Temperature, group_softmax
from dots_core.search_space.operations import NONE, SKIP
from dots_core.search_space.topology import Topology

seeds = st.integers(0, 2**31 - 1)
searched = st.sampled_from([Topology("k-edges"), Topology("k-edges", 1), Topology("arbitrary")])


def random_architecture(cells, seed):
    source = np.random.RandomState(seed)
    values = {}
    for kind, cell in cells.items():
        values[f"alpha.{kind}"] = source.normal(size=cell.operation_groups.shape)
        if cell.combination_groups is not None:
            values[f"beta.{kind}"] = source.normal(size=cell.combination_groups.shape)
    return values


def chosen_of(genotype, kind):
    return {(e.source, e.target): e.operations[0] for e in genotype.cell(kind).edges}


@quick
@given(search_cells(), seeds)
def test_every_decision_is_what_was_derived(cell, seed):
    cells = dict.fromkeys(CELL_TYPES, cell)
    architecture = random_architecture(cells, seed)
    genotype = derive(cells, architecture)
    found = decisions(cells, architecture, CELL_TYPES)
    for decision in found:
        assert decision.margin >= 0
        assert decision.chosen != decision.rival
        kept = chosen_of(genotype, decision.cell)
        if decision.by == "alpha":
            assert kept[tuple(map(int, decision.place.split("-")))] == decision.chosen
        else:
            sources = {source for source, target in kept if target == int(decision.place)}
            named = set(map(int, decision.chosen.split(",")))
            assert named == sources if decision.by == "beta" else named <= sources
    choices = [
        edge
        for kind in CELL_TYPES
        for edge in cell.edges
        if (edge.source, edge.target) in chosen_of(genotype, kind) and len(set(edge.operations) - {NONE}) > 1
    ]
    assert sum(decision.by == "alpha" for decision in found) == len(choices)


@quick
@given(searched.flatmap(search_cells), seeds, st.data())
def test_a_margin_is_the_distance_to_the_other_decision(cell, seed, data):
    cells = dict.fromkeys(CELL_TYPES, cell)
    architecture = random_architecture(cells, seed)
    found = decisions(cells, architecture, ["normal"])
    assume(found)
    decision = data.draw(st.sampled_from(found))
    before = derive(cells, architecture)
    if decision.by == "alpha":
        groups = next(edge.groups for edge in cell.edges if edge.name == decision.place)
        # Of operations of two groups the margin is one of ln α, not of the α′ of either.
        assume(any({decision.chosen, decision.rival} <= set(group) for group in groups))
        number = [edge.name for edge in cell.edges].index(decision.place)
        place = (number, cell.column(decision.chosen))
    else:
        combinations = [tuple(str(cell.edges[e].source) for e in c) for c in cell.matrix.combinations]
        matching = [
            n
            for n, c in enumerate(combinations)
            if ",".join(c) == decision.chosen and cell.matrix.groups[n] == int(decision.place)
        ]
        (place,) = matching
    for share, same in ((0.99, True), (1.01, False)):
        moved = {name: value.copy() for name, value in architecture.items()}
        moved[f"{decision.by}.normal"][place] -= share * decision.margin
        assert (derive(cells, moved) == before) is same


@quick
@given(st.integers(2, 4), seeds)
def test_margins_of_edges_are_the_darts_policys(nodes, seed):
    cell = search_cell(nodes, ("none", "skip_connect", "sep_conv_3x3"))
    cells = dict.fromkeys(CELL_TYPES, cell)
    architecture = random_architecture(cells, seed)
    found = {d.place: d for d in decisions(cells, architecture, ["normal"]) if d.by == "edges"}
    assert sorted(found) == [str(node) for node in range(3, nodes + 2)]
    columns = [cell.column(o) for o in ("none", "skip_connect", "sep_conv_3x3")]
    for node in range(3, nodes + 2):
        strengths = []
        for number in cell.incoming(node):
            powers = np.exp(architecture["alpha.normal"][number, columns])
            strengths.append((powers / powers.sum())[1:].max())
        strengths.sort(reverse=True)
        assert found[str(node)].margin == pytest.approx(strengths[1] - strengths[2])


@quick
@given(search_cells(), seeds, st.sampled_from(RETENTIONS.names))
def test_the_margin_of_retaining_is_the_distance_to_retaining_something_else(cell, seed, rule):
    """Moving every ln α by less than half of it, and so every α′ by less than a quarter, changes nothing."""
    alpha = np.random.RandomState(seed).normal(size=cell.operation_groups.shape)
    margin = retention_margin(cell, alpha, rule)
    before = retain(cell, alpha, rule, Topology())
    if margin is None:
        assert retain(cell, -alpha, rule, Topology()) == before
        return
    noise = np.random.RandomState(seed + 1).uniform(-0.24, 0.24, alpha.shape) * margin
    changed = retain(cell, alpha + noise, rule, Topology())
    # An edge that retains nothing but `none` is given its best other operation, which no margin guards.
    emptied = [set(edge.operations) & {NONE} and len(edge.groups) == 1 for edge in cell.edges]
    if not any(emptied):
        assert changed == before
    literal = []
    for row, edge in zip(alpha, cell.edges, strict=True):
        chances = {}
        for group in edge.groups:
            powers = {o: np.exp(row[cell.column(o)]) for o in group}
            chances |= {o: powers[o] / sum(powers.values()) for o in group}
        groups = edge.groups if rule == "groups" else [[o for o in edge.operations if o != NONE]]
        kept = 1 if rule == "groups" else int(rule[-1])
        for group in groups:
            values = sorted((np.log(chances[o]) for o in group), reverse=True)
            literal += [values[kept - 1] - values[kept]] if len(values) > kept else []
    assert margin == pytest.approx(min(literal))


@quick
@given(genotypes())
def test_skips_are_counted_cell_by_cell(genotype):
    for kind in CELL_TYPES:
        literal = [operation for node in getattr(genotype, kind) for operation, _ in node]
        assert genotype.skip_count(kind) == literal.count(SKIP)


@quick
@given(searched.flatmap(search_cells), seeds, st.sampled_from([0.5, 1.0, 10.0]))
def test_a_standing_records_the_weights_by_name(cell, seed, temperature):
    spec = small_network(cell)
    cells = {kind: spec.cell(kind) for kind in CELL_TYPES}
    architecture = random_architecture({kind: cells[kind] for kind in spec.kinds()}, seed)
    stands = summarise_architecture(spec, architecture, Temperature(1.0, temperature))
    assert stands.genotype == derive(cells, completed(cells, architecture))
    for kind in spec.kinds():
        weights = group_softmax(architecture[f"alpha.{kind}"], cell.operation_groups)
        for number, edge in enumerate(cell.edges):
            recorded = stands.record["alpha"][kind][edge.name]
            assert list(recorded) == list(edge.operations)
            for operation, weight in recorded.items():
                assert weight == pytest.approx(weights[number, cell.column(operation)], abs=1e-6)
        chances = group_softmax(architecture[f"beta.{kind}"], cell.combination_groups, temperature)
        flat = [weight for node in stands.record["beta"][kind].values() for weight in node.values()]
        assert flat == pytest.approx(list(chances), abs=1e-6)
        gamma = [stands.record["gamma"][kind][edge.name] for edge in cell.edges]
        assert gamma == pytest.approx(list(cell.matrix.shares @ chances), abs=1e-6)
        assert stands.metrics[f"skip_count_{kind}"] == stands.genotype.skip_count(kind)
    margins = smallest_margins(stands.decisions)
    for key, margin in margins.items():
        by, _, kind = key.partition(".")
        assert stands.metrics[f"{by}_margin_{kind}"] == margin
        assert margin == min(d.margin for d in stands.decisions if (d.by, d.cell) == (by, kind))


@quick
@given(method_cells(), seeds)
def test_decisions_of_every_space_are_what_was_derived(cell, seed):
    """Combinations are named by the edges' other ends; an edge by itself is kept or dropped."""
    cells = dict.fromkeys(CELL_TYPES, cell)
    architecture = random_architecture(cells, seed)
    found = decide(cells, architecture)
    repaired = {(repair.cell, repair.edge) for repair in found.repairs}
    for decision in decisions(cells, architecture, CELL_TYPES):
        assert decision.margin >= 0
        kept = chosen_of(found.genotype, decision.cell)
        chosen = {edge for edge in kept if (decision.cell, "{}-{}".format(*edge)) not in repaired}
        if decision.by == "alpha":
            assert kept[tuple(map(int, decision.place.split("-")))] == decision.chosen
        elif cell.topology.space == "edge-sigmoid":
            assert decision.chosen == ("kept" if tuple(map(int, decision.place.split("-"))) in chosen else "dropped")
        elif cell.topology.side == "output":
            targets = {target for source, target in chosen if source == int(decision.place)}
            assert set(map(int, decision.chosen.split(","))) == targets
        else:
            sources = {source for source, target in chosen if target == int(decision.place)}
            named = set(map(int, decision.chosen.split(",")))
            assert named == sources if decision.by == "beta" else named <= sources
        assert decision.by in {"none": "alpha edges", "edge-softmax": "alpha edges"}.get(
            cell.topology.space, "alpha beta"
        )


@quick
@given(st.integers(2, 4), seeds, st.sampled_from([0.3, 1.0, 5.0]))
def test_margins_of_an_edge_softmax_are_of_the_products(nodes, seed, temperature):
    """The least γ·α that was kept less the largest that was not (PC-DARTS)."""
    cell = search_cell(nodes, ("skip_connect", "sep_conv_3x3"), topology=Topology("edge-softmax"))
    cells = dict.fromkeys(CELL_TYPES, cell)
    architecture = random_architecture(cells, seed)
    at = Temperature(1.0, temperature)
    found = {d.place: d.margin for d in decisions(cells, architecture, ["normal"], at) if d.by == "edges"}
    assert sorted(found) == [str(node) for node in range(3, nodes + 2)]
    columns = [cell.column(o) for o in ("skip_connect", "sep_conv_3x3")]
    for node in range(3, nodes + 2):
        rows = list(cell.incoming(node))
        alpha = np.exp(architecture["alpha.normal"][rows][:, columns])
        gamma = np.exp(architecture["beta.normal"][rows] / temperature)
        products = sorted((alpha / alpha.sum(axis=1, keepdims=True)).max(axis=1) * gamma / gamma.sum(), reverse=True)
        assert found[str(node)] == pytest.approx(products[1] - products[2])


@pytest.mark.parametrize(("beta", "chosen"), [(-0.2, "dropped"), (0.0, "dropped"), (0.2, "kept")])
def test_an_edge_by_itself_is_decided_by_its_distance_from_the_threshold(beta, chosen):
    """The fixed 0 beside it is a constant, whatever stands in its place in β′."""
    cell = search_cell(1, ("skip_connect",), topology=Topology("edge-sigmoid"))
    cells = dict.fromkeys(CELL_TYPES, cell)
    architecture = {f"alpha.{kind}": np.zeros((2, 1)) for kind in CELL_TYPES}
    architecture |= {f"beta.{kind}": np.array([beta, 7.0, 1.0, 7.0]) for kind in CELL_TYPES}
    first = decisions(cells, architecture, ["normal"])[0]
    assert (first.by, first.place, first.chosen) == ("beta", "0-2", chosen)
    assert first.margin == pytest.approx(abs(beta))


@quick
@given(method_cells(), seeds, st.sampled_from([0.5, 1.0, 10.0]))
def test_a_standing_of_any_method_is_complete(cell, seed, temperature):
    spec = small_network(cell, channels=8)
    cells = {kind: spec.cell(kind) for kind in CELL_TYPES}
    architecture = random_architecture({kind: cells[kind] for kind in spec.kinds()}, seed)
    at = Temperature(temperature, temperature)
    stands = summarise_architecture(spec, architecture, at)
    found = decide(cells, completed(cells, architecture), at)
    assert stands.genotype == found.genotype
    assert stands.metrics.get("repairs", []) == [str(repair) for repair in found.repairs]
    for kind in spec.kinds():
        weights = group_softmax(architecture[f"alpha.{kind}"], cell.operation_groups, temperature)
        recorded = [w for edge in stands.record["alpha"][kind].values() for w in edge.values()]
        assert recorded == pytest.approx(list(weights[cell.operation_groups.mask]), abs=1e-6)
        if cell.combination_groups is None:
            assert "beta" not in stands.record
            continue
        chances = group_softmax(architecture[f"beta.{kind}"], cell.combination_groups, temperature)
        assert [w for place in stands.record["beta"][kind].values() for w in place.values()] == pytest.approx(
            list(chances), abs=1e-6
        )
        gamma = [stands.record["gamma"][kind][edge.name] for edge in cell.edges]
        assert gamma == pytest.approx(list(cell.matrix.shares @ chances), abs=1e-6)


def test_a_trained_cells_network_has_no_standing():
    genotype = Genotype(((("skip_connect", 0),),), (2,), ((("skip_connect", 0),),), (2,))
    spec = small_network(genotype.cell("normal"))
    assert summarise_architecture(spec, {}, Temperature()) is None


def cell_of(*operations):
    nodes = tuple(
        tuple((o, number) for number, o in enumerate(pair))
        for pair in zip(operations[::2], operations[1::2], strict=True)
    )
    concat = tuple(range(2, len(nodes) + 2))
    return Genotype(nodes, concat, nodes, concat)


HELD = {"stage": "s", "alpha_entropy_normal": 0.5, "alpha_entropy_reduce": 0.5}
S, C, P = "skip_connect", "sep_conv_3x3", "max_pool_3x3"


@pytest.mark.parametrize(
    ("operations", "said"),
    [
        ((C,) * 8, []),
        ((S, S, *(C,) * 6), []),
        ((S, S, S, *(C,) * 5), ["the normal cell holds 3 skip connections of 8 edges: a sign of collapse"]),
        ((*(S,) * 6, C, C), ["the normal cell holds 6 skip connections of 8 edges: the search has collapsed"]),
        (
            (S, *(P,) * 7),
            ["the normal cell holds 1 skip connection of 8 edges and no convolution: the search has collapsed"],
        ),
    ],
)
def test_collapse_is_said_in_plain_words(operations, said):
    assert warnings(cell_of(*operations), [HELD]) == said
    collapsed = any(warning.endswith("the search has collapsed") for warning in said)
    assert unusable(cell_of(*operations), [HELD]) == ("the search has collapsed" if collapsed else "")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"discretisation_gap": LARGE_GAP + 0.025}, "the s supernet loses 12.5 points of accuracy"),
        ({"alpha_entropy_normal": 0.995}, r"the normal cell's operations weigh nearly the same \(entropy 0.995"),
        ({"beta_entropy_reduce": 1.0}, "the reduction cell's combinations of edges weigh nearly the same"),
        ({"alpha_margin_reduce": 0.0004}, "a choice of operation in the reduction cell rests on a margin of 0.0004"),
        ({"edges_margin_normal": 0.0}, "a choice of edges in the normal cell rests on a margin of 0:"),
    ],
)
def test_doubts_are_said_in_plain_words(row, words):
    (said,) = warnings(cell_of(C, C), [{**HELD, **row}])
    assert unusable(cell_of(C, C), [{**HELD, **row}]) == ""
    assert re.search(words, said), said


def test_an_untrained_cell_is_named():
    row = {"stage": "s", "alpha_entropy_reduce": 0.5}
    assert warnings(cell_of(S, S), [row]) == [
        "the network holds no normal cell, so that cell was never trained: it is arbitrary"
    ]
    assert unusable(cell_of(S, S), [row]) == "the normal cell was never trained"
    earlier = {"stage": "s"}  # a row of an earlier release
    assert unusable(cell_of(S, S), [earlier]) == ""


def test_a_gap_before_the_last_epoch_of_a_stage_warns_of_nothing():
    assert warnings(cell_of(C, C), [{**HELD, "discretisation_gap": 0.9}, HELD]) == []
    assert warnings(cell_of(C, C), []) == []
