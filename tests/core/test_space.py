from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from strategies import quick, search_cells, sparse_cells

from dots_core.errors import UsageError
from dots_core.search_space.cell import CellSpec, search_cell
from dots_core.search_space.edge import Edge
from dots_core.search_space.mixing import MASKED
from dots_core.search_space.operations import DARTS
from dots_core.search_space.topology import Topology

SEP = (("sep_conv_3x3",),)


def test_the_default_cell_has_fourteen_edges():
    cell = search_cell()
    assert [(e.source, e.target) for e in cell.edges] == [(i, j) for j in (2, 3, 4, 5) for i in range(j)]
    assert len(cell.edges) == 14
    assert cell.concat == (2, 3, 4, 5)
    assert all(edge.operations == DARTS for edge in cell.edges)
    assert cell.mixed
    assert cell.topology == Topology("none")
    assert cell.edges[5].name == "0-4"


@quick
@given(sparse_cells())
def test_blocks_of_alpha_are_the_groups(cell):
    labels = cell.operation_groups.labels
    assert labels.shape == (len(cell.edges), len({o for edge in cell.edges for o in edge.operations}))
    groups = {}
    for (row, column), label in np.ndenumerate(labels):
        if label != MASKED:
            groups.setdefault(label, set()).add((row, cell.candidates[column]))
    expected = [{(row, o) for o in group} for row, edge in enumerate(cell.edges) for group in edge.groups]
    assert sorted(map(sorted, groups.values())) == sorted(map(sorted, expected))


@quick
@given(search_cells(Topology("k-edges")))
def test_blocks_of_beta_are_the_nodes(cell):
    members = cell.combination_groups.members
    assert len(members) == cell.nodes
    for node, columns in enumerate(members, start=2):
        ends = {cell.edges[edge].target for column in columns for edge in cell.matrix.combinations[column]}
        assert ends == {node}


@quick
@given(sparse_cells())
def test_incoming_and_outgoing(cell):
    for node in range(cell.nodes + 2):
        assert [cell.edges[n].target for n in cell.incoming(node)] == [e.target for e in cell.edges if e.target == node]
        assert [cell.edges[n].source for n in cell.outgoing(node)] == [e.source for e in cell.edges if e.source == node]


def test_operations_of_an_edge_stand_in_canonical_order():
    edge = Edge(0, 2, (("sep_conv_3x3", "none"), ("max_pool_3x3",)))
    assert edge.operations == ("none", "max_pool_3x3", "sep_conv_3x3")


@pytest.mark.parametrize(
    ("nodes", "edges", "concat", "mixed", "message"),
    [
        (0, (), (2,), True, "at least one intermediate node"),
        (1, (Edge(0, 2, SEP),), (), True, "concat"),
        (1, (Edge(0, 2, SEP),), (1,), True, "concat"),
        (1, (Edge(0, 2, SEP),), (3,), True, "concat"),
        (1, (Edge(2, 2, SEP),), (2,), True, "2-2 does not lead forward"),
        (1, (Edge(0, 1, SEP),), (2,), True, "0-1 does not lead forward"),
        (1, (Edge(0, 3, SEP),), (2,), True, "0-3 does not lead forward"),
        (1, (Edge(-1, 2, SEP),), (2,), True, "-1-2 does not lead forward"),
        (1, (Edge(0, 2, SEP), Edge(0, 2, SEP)), (2,), True, "0-2 appears twice"),
        (1, (Edge(0, 2, ()),), (2,), True, "no operation"),
        (1, (Edge(0, 2, (("sep_conv_3x3",), ("sep_conv_3x3",))),), (2,), True, "named twice"),
        (1, (Edge(0, 2, (("sep_conv_3x3", "sep_conv3x3"),)),), (2,), True, "did you mean 'sep_conv_3x3'"),
        (1, (Edge(0, 2, (("none",),)),), (2,), False, "other than 'none'"),
        (1, (Edge(0, 2, (("sep_conv_3x3", "skip_connect"),)),), (2,), False, "one operation"),
        (2, (Edge(0, 2, SEP),), (2,), True, "node 3 has no incoming edge"),
        (1, (Edge(1, 2, SEP), Edge(0, 2, SEP)), (2,), True, "sorted"),
        (2, (Edge(0, 3, SEP), Edge(0, 2, SEP)), (2,), True, "sorted"),
    ],
)
def test_impossible_cells_are_refused(nodes, edges, concat, mixed, message):
    with pytest.raises(UsageError, match=message):
        CellSpec(nodes, edges, concat, mixed=mixed)


def test_a_search_may_name_its_edges():
    cell = search_cell(2, edges=((0, 2), (2, 3)))
    assert [(e.source, e.target) for e in cell.edges] == [(0, 2), (2, 3)]
    assert all(edge.operations == DARTS for edge in cell.edges)
    with pytest.raises(UsageError, match="node 3 has no incoming edge"):
        search_cell(2, edges=((0, 2),))


def test_impossible_searches_are_refused():
    with pytest.raises(UsageError, match="other than 'none'"):
        search_cell(operations=("none",))
    with pytest.raises(UsageError, match="unknown grouping 'groups'"):
        search_cell(groups="groups")
    with pytest.raises(UsageError, match="unknown operation"):
        search_cell(operations=("sep_conv_7x7",))
    with pytest.raises(UsageError, match="at least one intermediate node"):
        search_cell(0)
