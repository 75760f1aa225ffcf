"""Cells as data: nodes, edges, the operations each edge may hold, and the architecture weights that mix them.

A cell has input nodes 0 and 1, intermediate nodes 2 … n+1 and an output, the channel
concatenation of some of them. The same type describes the cell that is searched, the cell
pruned to its retained operations, and the derived cell: they differ in how many operations
stand on an edge.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from dots_core import bounds
from dots_core.errors import UsageError
from dots_core.search_space.edge import Edge
from dots_core.search_space.mixing import MASKED, SAMPLINGS, Sampling, SoftmaxGroups
from dots_core.search_space.operations import DARTS, NONE, check_operations, in_order
from dots_core.search_space.operations.groupings import grouping
from dots_core.search_space.topology import Topology, TopologyMatrix, written_out

CELL_TYPES = ("normal", "reduce")


@dataclass(frozen=True)
class CellSpec:
    """One type of cell.

    Attributes
    ----------
    nodes : int
        Number of intermediate nodes.
    edges : tuple of Edge
        Sorted by target, then source.
    concat : tuple of int
        The nodes whose outputs are concatenated.
    topology : Topology
        The space of edge combinations that is searched.
    mixed : bool
        Whether operations are weighted by α. A derived cell's are not: it adds its edges unweighted.
    sampling : str
        The name of one of `dots_core.search_space.mixing.SAMPLINGS`.
    partial : int
        K: the first 1/K of the channels pass through the operations, the others pass by, and
        channels are shuffled at every node (PC-DARTS). 1 is no partial connection.
    attention : tuple of (operation, constant)
        Constants added to α′ (operation attention: eDARTS §III-A).
    """

    nodes: int
    edges: tuple[Edge, ...]
    concat: tuple[int, ...]
    topology: Topology = field(default_factory=Topology)
    mixed: bool = True
    sampling: str = "none"
    partial: int = 1
    attention: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        SAMPLINGS[self.sampling]
        if self.partial < 1:
            raise UsageError(f"partial is {self.partial}; 1 part of the channels in K passes, K at least 1")
        check_operations(tuple(operation for operation, _ in self.attention))
        if not self.mixed and (self.drawn.draws or self.partial > 1 or self.attention):
            raise UsageError(
                "a derived cell mixes no operations: sampling, partial channels and attention do not go with it"
            )
        if self.nodes < 1:
            raise UsageError(f"a cell needs at least one intermediate node, not {self.nodes}")
        most = bounds.SEARCHED_NODES if self.mixed else bounds.NODES
        if self.nodes > most:
            raise UsageError(f"a cell of {self.nodes} nodes is beyond what can be meant; give up to {most}")
        if len(set(self.concat)) != len(self.concat):
            raise UsageError(f"concat {self.concat} names a node twice")
        if not self.concat or any(not 2 <= node < self.nodes + 2 for node in self.concat):
            raise UsageError(f"concat {self.concat} must name intermediate nodes, 2 to {self.nodes + 1}")
        seen: set[tuple[int, int]] = set()
        for edge in self.edges:
            if not 0 <= edge.source < edge.target < self.nodes + 2 or edge.target < 2:
                raise UsageError(f"edge {edge.name} does not lead forward into an intermediate node")
            if (edge.source, edge.target) in seen:
                raise UsageError(f"edge {edge.name} appears twice in one cell")
            seen.add((edge.source, edge.target))
            if not edge.operations:
                raise UsageError(f"edge {edge.name} has no operation")
            check_operations(tuple(o for group in edge.groups for o in group))
            if not self.mixed and (len(edge.operations) != 1 or edge.operations == (NONE,)):
                raise UsageError(f"edge {edge.name} of a derived cell must hold one operation other than 'none'")
        missing = [node for node in range(2, self.nodes + 2) if not any(e.target == node for e in self.edges)]
        if missing:
            raise UsageError(f"node {missing[0]} has no incoming edge")
        if list(self.edges) != sorted(self.edges, key=lambda e: (e.target, e.source)):
            raise UsageError("a cell's edges must be sorted by target, then source")

    @property
    def drawn(self) -> Sampling:
        """The sampling itself."""
        return SAMPLINGS[self.sampling]

    @cached_property
    def candidates(self) -> tuple[str, ...]:
        """The operations that stand on any edge, in canonical order.

        They are the columns of α (`dots_core.search_space.operations.in_order`).
        """
        return in_order(operation for edge in self.edges for group in edge.groups for operation in group)

    def column(self, operation: str) -> int:
        """Return a candidate's column of α."""
        return self.candidates.index(operation)

    @cached_property
    def operation_groups(self) -> SoftmaxGroups:
        """Softmax groups of α′, whose shape is (edges, candidates): one for each group of an edge."""
        labels = np.full((len(self.edges), len(self.candidates)), MASKED, np.int64)
        number = 0
        for row, edge in enumerate(self.edges):
            for group in edge.groups:
                labels[row, [self.column(o) for o in group]] = number
                number += 1
        if not self.attention:
            return SoftmaxGroups(labels)
        offsets = np.zeros(labels.shape)
        for operation, constant in self.attention:
            if operation in self.candidates:
                offsets[:, self.column(operation)] = constant
        return SoftmaxGroups(labels, np.where(labels == MASKED, 0.0, offsets))

    @cached_property
    def matrix(self) -> TopologyMatrix | None:
        """The topology's matrix A, or None where γ ≡ 1."""
        return written_out(self.topology, self.edges)

    @cached_property
    def combination_groups(self) -> SoftmaxGroups | None:
        """Softmax groups of β′, shape (combinations,): one for each group of edges that compete."""
        if self.matrix is None:
            return None
        free = self.matrix.free
        return SoftmaxGroups(self.matrix.groups, free=None if free.all() else free)

    def outgoing(self, node: int) -> tuple[int, ...]:
        """Numbers of the edges out of a node."""
        return tuple(number for number, edge in enumerate(self.edges) if edge.source == node)

    def incoming(self, node: int) -> tuple[int, ...]:
        """Numbers of the edges into a node."""
        return tuple(number for number, edge in enumerate(self.edges) if edge.target == node)


def search_cell(
    nodes: int = 4,
    operations: tuple[str, ...] = DARTS,
    groups: str | tuple[tuple[str, ...], ...] = "single",
    topology: Topology | None = None,
    edges: tuple[tuple[int, int], ...] | None = None,
    sampling: str = "none",
    partial: int = 1,
    attention: tuple[tuple[str, float], ...] = (),
) -> CellSpec:
    """Build the cell in which every node hears every node before it and every edge holds every operation.

    Parameters
    ----------
    nodes : int
        Number of intermediate nodes.
    operations : tuple of str
        The candidate operations.
    groups : str or tuple of groups
        A name in `dots_core.search_space.operations.groupings.GROUPINGS`, or disjoint groups of the operations.
    edges : tuple of (source, target), optional
        The edges that exist; None for all.
    topology, sampling, partial, attention
        As `CellSpec` has them.
    """
    partition = grouping(groups, tuple(operations))
    if not any(o != NONE for group in partition for o in group):
        raise UsageError("the search space needs at least one operation other than 'none'")
    pairs = edges if edges is not None else tuple((i, j) for j in range(2, nodes + 2) for i in range(j))
    built = tuple(Edge(i, j, partition) for i, j in sorted(pairs, key=lambda pair: (pair[1], pair[0])))
    return CellSpec(
        nodes,
        built,
        tuple(range(2, nodes + 2)),
        topology or Topology(),
        sampling=sampling,
        partial=partial,
        attention=tuple(attention),
    )
