"""Grouped searches against the rule the released DOTS code derives by, written out in plain Python.

Of every edge the softmax of each group is taken; the operation of the largest of all these weights but
that of `none` is the edge's; a node keeps the two edges whose such weight is largest.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from strategies import small_network

from dots_core.plan.early_stop import EarlyStop, Stability, convolution_ranking
from dots_core.search.diagnostics import decisions, retention_margin, summarise_architecture
from dots_core.search_space.cell import CELL_TYPES, CellSpec, search_cell
from dots_core.search_space.derivation import derive, retain
from dots_core.search_space.mixing import Temperature
from dots_core.search_space.operations import DARTS, NONE, SKIP
from dots_core.search_space.operations.groupings import grouping
from dots_core.search_space.topology import Topology

DRAWS = 200
FEWER = 40
SCALES = (1e-3, 0.1, 1.0)
ATTENTION = (("sep_conv_3x3", 0.0006), ("sep_conv_5x5", 0.0004), ("dil_conv_5x5", -0.0006))

grouped = pytest.mark.parametrize("groups", ["group-v1", "group-v2"])
scaled = pytest.mark.parametrize("scale", SCALES)


def grouped_cell(groups: str, attention: tuple[tuple[str, float], ...] = ()) -> CellSpec:
    return search_cell(4, groups=groups, attention=attention)


def draw(cell: CellSpec, seed: int, scale: float) -> dict[str, np.ndarray]:
    source = np.random.RandomState(seed)
    return {f"alpha.{kind}": scale * source.normal(size=cell.operation_groups.shape) for kind in CELL_TYPES}


def edge_weights(cell: CellSpec, alpha: np.ndarray, number: int) -> dict[str, float]:
    """α of an edge's operations but `none`, in the order of the list of operations."""
    constants, weights = dict(cell.attention), {}
    for group in cell.edges[number].groups:
        powers = {o: math.exp(alpha[number, cell.column(o)] + constants.get(o, 0.0)) for o in group}
        weights |= {o: power / sum(powers.values()) for o, power in powers.items()}
    return {o: weights[o] for o in DARTS if o in weights and o != NONE}


def literal_cell(cell: CellSpec, alpha: np.ndarray) -> tuple[tuple[tuple[str, int], ...], ...]:
    nodes, first = [], 0
    for inputs in range(2, cell.nodes + 2):
        weights = [edge_weights(cell, alpha, first + source) for source in range(inputs)]
        ranked = sorted(range(inputs), key=lambda source: -max(weights[source].values()))
        nodes.append(tuple((max(weights[s], key=weights[s].get), s) for s in sorted(ranked[:2])))
        first += inputs
    return tuple(nodes)


def by_logits(cell: CellSpec, alpha: np.ndarray) -> tuple[tuple[tuple[str, int], ...], ...]:
    """The same with α′ in place of α where operations are compared."""
    rows = {(e.source, e.target): row for e, row in zip(cell.edges, alpha, strict=True)}
    return tuple(
        tuple((DARTS[1 + int(np.argmax(rows[source, target][1:]))], source) for _, source in node)
        for target, node in enumerate(literal_cell(cell, alpha), start=2)
    )


@grouped
@pytest.mark.parametrize(
    ("scale", "attention"),
    [*((scale, ()) for scale in SCALES), (1e-3, ATTENTION)],
    ids=[*map(str, SCALES), "attention"],
)
def test_cells_are_those_of_the_released_rule(groups, scale, attention):
    cell = grouped_cell(groups, attention)
    same = 0
    for seed in range(DRAWS):
        values = draw(cell, seed, scale)
        genotype = derive(dict.fromkeys(CELL_TYPES, cell), values)
        literal = {kind: literal_cell(cell, values[f"alpha.{kind}"]) for kind in CELL_TYPES}
        same += (genotype.normal, genotype.reduce) == (literal["normal"], literal["reduce"])
    assert same == DRAWS


def test_logits_of_different_groups_say_something_else():
    """The draws tell α from α′: by α′ most cells would be others."""
    cell = grouped_cell("group-v2")
    alphas = [draw(cell, seed, 0.1)["alpha.normal"] for seed in range(DRAWS)]
    assert sum(by_logits(cell, alpha) == literal_cell(cell, alpha) for alpha in alphas) < DRAWS // 4


@scaled
@grouped
def test_the_cell_shown_in_the_operation_stage_its_skips_and_margins_follow_the_rule(groups, scale):
    cell = grouped_cell(groups)
    spec = small_network(cell)
    for seed in range(FEWER):
        values = draw(cell, seed, scale)
        stands = summarise_architecture(spec, values, Temperature(0.3, 1.0))  # without a topology, α is compared at 1
        for kind in CELL_TYPES:
            alpha = values[f"alpha.{kind}"]
            literal = literal_cell(cell, alpha)
            assert stands.genotype.cell(kind) == replace(stands.genotype, **{kind: literal}).cell(kind)
            skips = sum(operation == SKIP for node in literal for operation, _ in node)
            assert stands.metrics[f"skip_count_{kind}"] == skips
            gaps = []
            for target, node in enumerate(literal, start=2):
                for _, source in node:
                    edges = [(edge.source, edge.target) for edge in cell.edges]
                    weights = edge_weights(cell, alpha, edges.index((source, target)))
                    first, second = sorted(weights.values(), reverse=True)[:2]
                    gaps.append(math.log(first / second))
            assert stands.metrics[f"alpha_margin_{kind}"] == pytest.approx(min(gaps), rel=1e-6, abs=1e-14)


@grouped
def test_every_decision_names_the_rival_of_the_next_largest_weight(groups):
    cell = grouped_cell(groups)
    for seed in range(20):
        values = draw(cell, seed, 1.0)
        for decision in decisions(dict.fromkeys(CELL_TYPES, cell), values, CELL_TYPES):
            if decision.by != "alpha":
                continue
            number = [edge.name for edge in cell.edges].index(decision.place)
            weights = edge_weights(cell, values[f"alpha.{decision.cell}"], number)
            ranked = sorted(weights, key=weights.get, reverse=True)
            assert [decision.chosen, decision.rival] == ranked[:2]
            assert decision.margin == pytest.approx(math.log(weights[ranked[0]] / weights[ranked[1]]))


@scaled
@grouped
@pytest.mark.parametrize("count", [1, 2])
def test_what_is_retained_over_all_groups_is_of_the_largest_weights(groups, scale, count):
    cell = grouped_cell(groups)
    for seed in range(FEWER):
        alpha = draw(cell, seed, scale)["alpha.normal"]
        kept = retain(cell, alpha, f"top-{count}", Topology("k-edges"))
        gaps = []
        for number, edge in enumerate(kept.edges):
            weights = edge_weights(cell, alpha, number)
            ranked = sorted(weights, key=weights.get, reverse=True)
            assert set(edge.operations) == set(ranked[:count])
            gaps.append(math.log(weights[ranked[count - 1]] / weights[ranked[count]]))
        margin = retention_margin(cell, alpha, f"top-{count}")
        assert margin == pytest.approx(min(gaps), rel=1e-6, abs=1e-14)


@scaled
@grouped
def test_retention_by_group_is_the_largest_logit_of_each(groups, scale):
    """Within one softmax α′ and α rank alike."""
    cell = grouped_cell(groups)
    for seed in range(FEWER):
        alpha = draw(cell, seed, scale)["alpha.normal"]
        for number, edge in enumerate(retain(cell, alpha, "groups", Topology("k-edges")).edges):
            row = alpha[number]
            best = {max(group, key=lambda o: row[cell.column(o)]) for group in cell.edges[number].groups}
            assert set(edge.operations) == best


@scaled
@grouped
def test_early_stops_rank_convolutions_and_count_skips_by_the_rule(groups, scale):
    cell = grouped_cell(groups)
    spec = small_network(cell)
    for seed in range(FEWER):
        values = draw(cell, seed, scale)
        alpha = values["alpha.normal"]
        for number, order in enumerate(convolution_ranking(cell, alpha)):
            weights = edge_weights(cell, alpha, number)
            assert order == sorted((o for o in weights if o in DARTS[4:]), key=lambda o: -weights[o])
        skips = sum(operation == SKIP for node in literal_cell(cell, alpha) for operation, _ in node)
        stands = summarise_architecture(spec, values, Temperature())
        for limit in (1, 2, 3):
            reason = EarlyStop("skips", skips=limit).reason(stands.genotype, Stability())
            assert (reason is not None) == (skips >= limit)


@grouped
def test_equal_weights_of_different_groups_go_to_the_operation_listed_first(groups):
    """Also where the α′ of one group are all larger: a constant is nothing to a softmax."""
    cell = grouped_cell(groups)
    for raised in grouping(groups):
        alpha = np.zeros(cell.operation_groups.shape)
        alpha[:, [cell.column(o) for o in raised]] = 3.7
        values = {f"alpha.{kind}": alpha for kind in CELL_TYPES}
        genotype = derive(dict.fromkeys(CELL_TYPES, cell), values)
        weights = edge_weights(cell, np.zeros_like(alpha), 0)
        first = max(weights, key=weights.get)
        assert {operation for node in genotype.normal for operation, _ in node} == {first}


def test_where_a_topology_is_searched_weights_are_compared_at_its_temperature():
    """At a low temperature a group of two close weights and one of two distant ones change places."""
    operations = ("max_pool_3x3", "skip_connect", "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5")
    groups = (operations[:2], operations[2:])
    cell = search_cell(1, operations, groups, Topology("arbitrary"))
    alpha = np.zeros(cell.operation_groups.shape)
    alpha[:, cell.column("max_pool_3x3")] = 0.1
    alpha[:, cell.column("sep_conv_3x3")] = 0.2
    values = {f"alpha.{kind}": alpha for kind in CELL_TYPES}
    values |= {f"beta.{kind}": np.zeros(cell.combination_groups.shape) for kind in CELL_TYPES}
    for temperature, expected in ((1.0, "max_pool_3x3"), (0.05, "sep_conv_3x3")):
        genotype = derive(dict.fromkeys(CELL_TYPES, cell), values, Temperature(temperature, 1.0))
        assert {operation for operation, _ in genotype.normal[0]} == {expected}
