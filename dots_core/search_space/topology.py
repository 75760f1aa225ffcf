"""Topology spaces as constant matrices: γ = A · softmax(β′ / T_β).

Edges compete in groups: the combinations of them that may be kept are listed, of a node's incoming
or outgoing edges, and column c of A holds the share that each edge gets when combination c is chosen.
A new space is a new function that returns A; no engine changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from dots_core.errors import UsageError, nearest
from dots_core.search_space.edge import Edge

SPACES = ("none", "fixed", "k-edges", "arbitrary", "edge-softmax", "edge-sigmoid")
SIDES = ("input", "output")


@dataclass(frozen=True)
class Topology:
    """A topology space.

    Attributes
    ----------
    space : str
        ``"none"``: γ ≡ 1, nothing is searched; the DARTS policy derives the edges. ``"fixed"``:
        γ ≡ 1 and every edge the cell has is kept (the path of eDARTS, §III-B). ``"k-edges"``: all
        subsets of ``edges_per_node`` edges of a node (DOTS eq. 5-8; 2 gives its pairs).
        ``"arbitrary"``: all non-empty subsets (DOTS eq. 11-13). ``"edge-softmax"``: a softmax over
        a node's single edges, the strongest are kept (the edge normalisation of PC-DARTS; DOTS table
        4a). ``"edge-sigmoid"``: γ = σ(β′/T) edge by edge, those above ½ are kept (DOTS table 4a,
        which prints no threshold; it is ours).
    edges_per_node : int
        k of ``"k-edges"``, and how many edges ``"none"`` and ``"edge-softmax"`` derive; a node with
        fewer edges keeps them all.
    scaled : bool
        Whether shares are scaled, or 1 (arXiv version of DOTS, eq. 9-11; TopoNAS eq. 6). On the
        input side an edge's share is 1/N(c), N(c) the size of the combination (DOTS, CVPR 2021,
        eq. 7 and 13). On the output side it is the inverse of the share of combinations that
        hold the edge, m/k or (2^m − 1)/2^(m−1) for m edges, so that γ is 1 where all
        combinations weigh the same (TopoNAS eq. 7-13).
    side : str
        Which edges of a node compete: the ``"input"`` edges of every intermediate node, or the
        ``"output"`` edges of every node (TopoNAS). On the output side, the last two nodes with
        output edges keep one edge in ``"k-edges"`` (TopoNAS §4.1).
    """

    space: str = "none"
    edges_per_node: int = 2
    scaled: bool = True
    side: str = "input"

    def __post_init__(self) -> None:
        if self.space not in SPACES:
            hint = nearest(self.space, SPACES)
            raise UsageError(f"unknown topology space '{self.space}'{hint}; known: {', '.join(SPACES)}")
        if self.side not in SIDES:
            raise UsageError(f"unknown side '{self.side}'{nearest(self.side, SIDES)}; known: {', '.join(SIDES)}")
        if self.edges_per_node < 1:
            raise UsageError(f"edges_per_node is {self.edges_per_node}; a node keeps at least one edge")
        if self.side == "output" and self.space not in ("k-edges", "arbitrary"):
            raise UsageError(
                f"the topology space '{self.space}' has no output side: only combinations of edges, "
                "'k-edges' and 'arbitrary', can compete among the edges out of a node"
            )

    @property
    def chooses(self) -> bool:
        """Whether the space lists combinations of edges of which one is derived for each group."""
        return self.space in ("k-edges", "arbitrary")


@dataclass(frozen=True, eq=False)
class TopologyMatrix:
    """A topology space written out for the edges of one cell.

    Attributes
    ----------
    shares : float64 array A, shape (edges, combinations)
    combinations : tuple of tuples of edge numbers, one a column of A
    groups : int64 array, shape (combinations,)
        The node whose edges compete, for each combination; softmax runs within a group. In
        ``"edge-sigmoid"`` it is the edge, which competes with its own absence.
    free : bool array, shape (combinations,)
        False where β′ is fixed at 0.
    """

    shares: NDArray[np.float64]
    combinations: tuple[tuple[int, ...], ...]
    groups: NDArray[np.int64]
    free: NDArray[np.bool_]


def topology_matrix(topology: Topology, edges: tuple[Edge, ...]) -> TopologyMatrix | None:
    """Write a topology space out for a cell's edges; None where nothing is searched."""
    if topology.space in ("none", "fixed"):
        return None
    if topology.space == "edge-sigmoid":
        return _edge_sigmoid(len(edges))
    columns: list[tuple[int, ...]] = []
    groups: list[int] = []
    shares: list[float] = []
    by_node: dict[int, list[int]] = {}
    for number, edge in enumerate(edges):
        by_node.setdefault(edge.target if topology.side == "input" else edge.source, []).append(number)
    last_two = sorted(by_node)[-2:]
    for node in sorted(by_node):
        competing = by_node[node]
        m = len(competing)
        if topology.space == "k-edges":
            single = topology.side == "output" and node in last_two
            sizes = [min(1 if single else topology.edges_per_node, m)]
        elif topology.space == "edge-softmax":
            sizes = [1]
        else:
            sizes = list(range(1, m + 1))
        for size in sizes:
            for chosen in combinations(competing, size):
                columns.append(chosen)
                groups.append(node)
                shares.append(_share(topology, size, m))
    matrix = np.zeros((len(edges), len(columns)))
    for number, chosen in enumerate(columns):
        matrix[list(chosen), number] = shares[number]
    return TopologyMatrix(matrix, tuple(columns), np.asarray(groups, np.int64), np.ones(len(columns), bool))


def _edge_sigmoid(edges: int) -> TopologyMatrix:
    """Each edge as a group of two: the edge, and nothing at a fixed logit of 0."""
    matrix = np.zeros((edges, 2 * edges))
    matrix[np.arange(edges), 2 * np.arange(edges)] = 1.0
    columns = tuple(combination for edge in range(edges) for combination in ((edge,), ()))
    return TopologyMatrix(matrix, columns, np.repeat(np.arange(edges), 2), np.tile([True, False], edges))


def _share(topology: Topology, size: int, competing: int) -> float:
    """Share of each edge of a combination of some size, of so many edges that compete."""
    if not topology.scaled:
        return 1.0
    if topology.side == "input":
        return 1.0 / size
    if topology.space == "k-edges":
        return competing / size
    return (2.0**competing - 1.0) / 2.0 ** (competing - 1)
