from __future__ import annotations

import copy
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import genotypes, method_cells, quick, search_cells, sparse_cells

from dots_core.errors import CorruptFile
from dots_core.plan.cell_records import cell_from_record, cell_to_record
from dots_core.search_space.cell import CellSpec, search_cell
from dots_core.search_space.edge import Edge
from dots_core.search_space.topology import Topology

CELL = CellSpec(
    2,
    (Edge(0, 2, (("none", "sep_conv_3x3"), ("skip_connect",))), Edge(2, 3, (("max_pool_3x3",),))),
    (2, 3),
    Topology("k-edges", 1, False),
)


@quick
@given(
    st.one_of(search_cells(), sparse_cells(), method_cells(), genotypes().map(lambda genotype: genotype.cell("normal")))
)
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


METHOD = CellSpec(
    1,
    (Edge(0, 2, (("skip_connect", "sep_conv_3x3"),)), Edge(1, 2, (("skip_connect",),))),
    (2,),
    Topology("arbitrary", side="output"),
    sampling="hard",
    partial=4,
    attention=(("sep_conv_3x3", 0.0006), ("dil_conv_5x5", -0.0006)),
)


def test_the_record_of_a_methods_cell_is_pinned():
    record = {
        "nodes": 1,
        "edges": [[0, 2, [["skip_connect", "sep_conv_3x3"]]], [1, 2, [["skip_connect"]]]],
        "concat": [2],
        "topology": {"space": "arbitrary", "edges_per_node": 2, "scaled": True, "side": "output"},
        "mixed": True,
        "sampling": "hard",
        "partial": 4,
        "attention": [["sep_conv_3x3", 0.0006], ["dil_conv_5x5", -0.0006]],
    }
    assert cell_from_record(record) == METHOD
    assert json.loads(json.dumps(cell_to_record(METHOD))) == record


@pytest.mark.parametrize("key", ["sampling", "partial", "attention"])
def test_what_a_cell_does_not_have_is_not_written(key):
    """Records of cells without it stay what they were, and are read as cells without it."""
    assert key not in cell_to_record(CELL)
    record = cell_to_record(METHOD)
    del record[key]
    read = cell_from_record(record)
    assert (getattr(read, key), replace(read, **{key: getattr(METHOD, key)})) == (getattr(CELL, key), METHOD)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("sampling",), "gumbel"),
        (("sampling",), None),
        (("partial",), 0),
        (("partial",), 1.5),
        (("partial",), "2"),
        (("partial",), True),
        (("partial",), float("inf")),
        (("attention",), None),
        (("attention",), 3),
        (("attention",), [["sep_conv_3x3"]]),
        (("attention",), [["sep_conv_3x4", 1.0]]),
        (("attention",), [["sep_conv_3x3", 1.0], ["sep_conv_3x3", 1.0]]),
        (("attention", 0, 1), "0.1"),
        (("attention", 0, 1), float("nan")),
        (("attention", 0, 1), 10**400),
        (("topology", "side"), "left"),
        (("topology", "space"), "edge-softmax"),
        (("mixed",), False),
    ],
    ids=str,
)
def test_damaged_records_of_methods_cells_are_refused(path, value):
    record = json.loads(json.dumps(cell_to_record(METHOD)))
    inner = record
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    with pytest.raises(CorruptFile, match="a cell's record is damaged"):
        cell_from_record(record)


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
