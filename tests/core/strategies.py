"""Random cells, genotypes and networks for the tests of the core."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dots_core.network.spec import NetworkSpec
from dots_core.search_space.cell import CellSpec, search_cell
from dots_core.search_space.edge import Edge
from dots_core.search_space.genotype import Genotype
from dots_core.search_space.mixing import MASKED, SAMPLINGS, SoftmaxGroups
from dots_core.search_space.operations import DARTS, NONE
from dots_core.search_space.operations.groupings import GROUPINGS
from dots_core.search_space.topology import Topology

quick = settings(max_examples=40, deadline=None, derandomize=True)
"""Few examples, the same in every run."""

DERIVABLE = tuple(o for o in DARTS if o != NONE)


@st.composite
def cell_fields(draw: st.DrawFn, pairs: bool = False, whole: bool = False) -> tuple[Any, tuple[int, ...]]:
    """The nodes of a derived cell, each with distinct sources, and its concat; see `genotypes`."""
    count = 4 if whole else draw(st.integers(1, 5))
    nodes = []
    for target in range(2, count + 2):
        sources = st.integers(0, target - 1)
        chosen = draw(st.lists(sources, min_size=2 if pairs else 1, max_size=2 if pairs else target, unique=True))
        nodes.append(tuple((draw(st.sampled_from(DERIVABLE)), source) for source in chosen))
    every = list(range(2, count + 2))
    some = st.lists(st.sampled_from(every), min_size=1, max_size=count, unique=True).map(sorted)
    return tuple(nodes), tuple(every if whole else draw(some))


@st.composite
def genotypes(draw: st.DrawFn, pairs: bool = False, whole: bool = False) -> Genotype:
    """Any valid genotype; ``pairs`` gives every node two edges, ``whole`` concatenates every node of four."""
    normal, normal_concat = draw(cell_fields(pairs, whole))
    reduce, reduce_concat = draw(cell_fields(pairs, whole))
    return Genotype(normal, normal_concat, reduce, reduce_concat)


DIALECTS = (
    "json",
    "nested",
    "flat",
    "weights",
    "targets",
    "nested-weights",
    "positional",
    "dictionary",
    "tuple",
    "nni1",
    "nni2",
)
"""The forms in which `written` writes genotypes."""

_NNI = {
    "max_pool_3x3": "maxpool",
    "avg_pool_3x3": "avgpool",
    "skip_connect": "skipconnect",
    "sep_conv_3x3": "sepconv3x3",
    "sep_conv_5x5": "sepconv5x5",
    "dil_conv_3x3": "dilconv3x3",
    "dil_conv_5x5": "dilconv5x5",
}


def written(genotype: Genotype, dialect: str, number: Callable[[int], str] = str) -> str | None:
    """Write a genotype in one of `DIALECTS`, as others' code does; None where the dialect cannot say it.

    ``number`` writes the number of a node.
    """
    if dialect == "json":
        return genotype.to_json()
    if dialect.startswith("nni"):
        return _written_for_nni(genotype, dialect)
    fields = {}
    for kind in ("normal", "reduce"):
        nodes = getattr(genotype, kind)
        concat = getattr(genotype, f"{kind}_concat")
        if dialect in ("flat", "weights"):
            leading = {source for node in nodes for _, source in node} | set(concat)
            if {len(node) for node in nodes} != {2} or not leading >= set(range(2, len(nodes) + 2)):
                return None
        fields[kind] = _written_nodes(nodes, dialect, number)
        fields[f"{kind}_concat"] = f"[{', '.join(map(number, concat))}]"
    if dialect == "positional":
        return f"Genotype({', '.join(fields.values())})"
    if dialect == "tuple":
        return f"({', '.join(fields.values())})"
    if dialect == "dictionary":
        return f"{{{', '.join(f'{name!r}: {value}' for name, value in fields.items())}}}"
    return f"Genotype({', '.join(f'{name}={value}' for name, value in fields.items())})"


def _written_nodes(nodes: Any, dialect: str, number: Callable[[int], str]) -> str:
    def edge(operation: str, source: int, target: int) -> str:
        if dialect == "targets":
            return f"({operation!r}, {number(target)}, {number(source)})"
        weight = ", 0.125" if "weights" in dialect else ""
        return f"({operation!r}, {number(source)}{weight})"

    lists = [[edge(o, s, target) for o, s in node] for target, node in enumerate(nodes, start=2)]
    if dialect in ("flat", "weights", "targets"):
        return f"[{', '.join(item for node in lists for item in node)}]"
    return f"[{', '.join('[' + ', '.join(node) + ']' for node in lists)}]"


def _written_for_nni(genotype: Genotype, dialect: str) -> str | None:
    record: dict[str, Any] = {}
    for kind in ("normal", "reduce"):
        nodes = getattr(genotype, kind)
        every = tuple(range(2, len(nodes) + 2))
        if getattr(genotype, f"{kind}_concat") != every or (dialect == "nni2" and len(nodes) != 4):
            return None
        for target, node in enumerate(nodes, start=2):
            for slot, (operation, source) in enumerate(node):
                if dialect == "nni1":
                    record[f"{kind}_n{target}_p{source}"] = _NNI[operation]
                else:
                    record[f"{kind}/op_{target}_{slot}"] = operation
                    record[f"{kind}/input_{target}_{slot}"] = [source]
            if dialect == "nni1":
                record[f"{kind}_n{target}_switch"] = [f"{kind}_n{target}_p{source}" for _, source in node]
    return json.dumps(record)


topologies = st.builds(
    Topology,
    space=st.sampled_from(["none", "k-edges", "arbitrary"]),
    edges_per_node=st.integers(1, 4),
    scaled=st.booleans(),
)


input_sides = st.builds(
    Topology,
    space=st.sampled_from(["none", "k-edges", "arbitrary", "edge-softmax", "edge-sigmoid", "fixed"]),
    edges_per_node=st.integers(1, 4),
    scaled=st.booleans(),
)
output_sides = st.builds(
    Topology,
    space=st.sampled_from(["k-edges", "arbitrary"]),
    edges_per_node=st.integers(1, 4),
    scaled=st.booleans(),
    side=st.just("output"),
)
every_topology = st.one_of(input_sides, output_sides)
"""Any topology space, with either side where it has two."""

attentions = st.lists(
    st.tuples(st.sampled_from(DARTS), st.floats(-1, 1)), max_size=4, unique_by=lambda pair: pair[0]
).map(tuple)


@st.composite
def method_cells(draw: st.DrawFn, topology: st.SearchStrategy[Topology] = every_topology) -> CellSpec:
    """The cell of any search method: any topology, with or without samples, partial channels and attention."""
    cell = draw(search_cells(draw(topology)))
    return replace(
        cell,
        sampling=draw(st.sampled_from(SAMPLINGS.names)),
        partial=draw(st.sampled_from([1, 2, 4])),
        attention=draw(attentions),
    )


@st.composite
def search_cells(draw: st.DrawFn, topology: Topology | None = None) -> CellSpec:
    """The cell of a search over random operations, grouped in any of the known ways."""
    operations = draw(st.lists(st.sampled_from(DERIVABLE), min_size=1, unique=True))
    if draw(st.booleans()):
        operations.append(NONE)
    ordered = tuple(o for o in DARTS if o in operations)
    groups = draw(st.sampled_from(list(GROUPINGS)))
    return search_cell(draw(st.integers(1, 4)), ordered, groups, topology or draw(topologies))


@st.composite
def sparse_cells(draw: st.DrawFn) -> CellSpec:
    """A mixed cell of which edges are missing and whose edges differ in their groups of operations."""
    count = draw(st.integers(1, 4))
    edges = []
    for target in range(2, count + 2):
        for source in sorted(draw(st.sets(st.integers(0, target - 1), min_size=1))):
            operations = draw(st.lists(st.sampled_from(DARTS), min_size=1, unique=True))
            cut = draw(st.integers(0, len(operations) - 1))
            groups = tuple(tuple(group) for group in (operations[:cut], operations[cut:]) if group)
            edges.append(Edge(source, target, groups))
    concat = draw(st.lists(st.integers(2, count + 1), min_size=1, unique=True))
    return CellSpec(count, tuple(edges), tuple(concat), draw(topologies))


@st.composite
def groups_and_logits(
    draw: st.DrawFn, dtype: type = np.float64, limit: float = 5.0
) -> tuple[SoftmaxGroups, np.ndarray]:
    """SoftmaxGroups with at least one entry that takes part, and logits of their shape."""
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=2, max_side=6))
    labels = draw(hnp.arrays(np.int64, shape, elements=st.sampled_from([MASKED, 0, 1, 2, 7])))
    labels.flat[draw(st.integers(0, labels.size - 1))] = 3
    width = 32 if dtype is np.float32 else 64
    bound = float(np.float32(limit))
    logits = draw(hnp.arrays(dtype, shape, elements=st.floats(-bound, bound, width=width)))
    return SoftmaxGroups(labels), logits


def small_network(cell: CellSpec | None = None, **changes: Any) -> NetworkSpec:
    """A supernet of three small cells."""
    cell = cell or search_cell(2, topology=Topology("k-edges"))
    fields = {"layers": 3, "channels": 4, "classes": 3, "input_shape": (3, 8, 8), **changes}
    return NetworkSpec(cell, cell, **fields)
