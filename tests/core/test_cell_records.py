from __future__ import annotations

import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import genotypes, quick, search_cells, sparse_cells

from dots_core.cell_records import cell_from_record, cell_to_record
from dots_core.errors import CorruptFile
from dots_core.space import CellSpec, Edge, search_cell
from dots_core.topology import Topology

CELL = CellSpec(
    2,
    (Edge(0, 2, (("none", "sep_conv_3x3"), ("skip_connect",))), Edge(2, 3, (("max_pool_3x3",),))),
    (2, 3),
    Topology("k-edges", 1, False),
)


@quick
@given(st.one_of(search_cells(), sparse_cells(), genotypes().map(lambda genotype: genotype.cell("normal"))))
def test_round_trip_through_json(cell):
    assert cell_from_record(json.loads(json.dumps(cell_to_record(cell)))) == cell


def test_the_record_is_pinned():
    """Checkpoints of any release stay readable."""
    record = {
        "nodes": 2,
        "edges": [[0, 2, [["none", "sep_conv_3x3"], ["skip_connect"]]], [2, 3, [["max_pool_3x3"]]]],
        "concat": [2, 3],
        "topology": {"space": "k-edges", "edges_per_node": 1, "scaled": False},
        "mixed": True,
    }
    assert cell_from_record(record) == CELL
    assert json.loads(json.dumps(cell_to_record(CELL))) == record


@pytest.mark.parametrize("key", ["nodes", "edges", "concat", "topology", "mixed"])
def test_missing_keys_are_refused(key):
    record = cell_to_record(CELL)
    del record[key]
    with pytest.raises(CorruptFile, match=f"record is damaged.*{key}"):
        cell_from_record(record)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("nodes",), 3),
        (("nodes",), 0),
        (("nodes",), "two"),
        (("nodes",), None),
        (("edges",), None),
        (("edges",), []),
        (("edges", 0), [0, 2]),
        (("edges", 0, 0), 2),
        (("edges", 0, 0), "0"),
        (("edges", 0, 1), 1),
        (("edges", 0, 2), [["sep_conv_3x4"]]),
        (("edges", 0, 2), [["none", "none"]]),
        (("edges", 0, 2), []),
        (("edges", 0, 2), "none"),
        (("edges", 0, 2), [[["none"]]]),
        (("edges", 1, 0), 0.5),
        (("concat",), [4]),
        (("concat",), []),
        (("concat",), 2),
        (("concat",), ["2"]),
        (("topology",), None),
        (("topology",), {"space": "pairs"}),
        (("topology", "space"), ["none"]),
        (("topology", "more"), 1),
        (("topology", "edges_per_node"), 0),
        (("topology", "edges_per_node"), "2"),
        (("topology", "edges_per_node"), 1.5),
        (("mixed",), False),
    ],
    ids=str,
)
def test_damaged_records_are_refused(path, value):
    record = copy.deepcopy(json.loads(json.dumps(cell_to_record(CELL))))
    inner = record
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    with pytest.raises(CorruptFile, match="a cell's record is damaged"):
        cell_from_record(record)


@pytest.mark.parametrize("record", [None, [], "x", 3, {}, [1]], ids=str)
def test_other_records_are_refused(record):
    with pytest.raises(CorruptFile, match="a cell's record is damaged"):
        cell_from_record(record)


def test_a_default_search_cell_survives():
    cell = search_cell(groups="group-v2", topology=Topology("arbitrary"))
    assert cell_from_record(cell_to_record(cell)) == cell
