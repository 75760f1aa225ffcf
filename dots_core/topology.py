"""Topology spaces as constant matrices: γ = A · softmax(β′ / T_β).

A cell's edges compete within a node: the combinations of incoming edges a node may keep are
listed, and column c of A holds the share that each edge gets when combination c is chosen.
A new space is a new function that returns A; no engine changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dots_core.errors import UsageError, nearest

if TYPE_CHECKING:
    from dots_core.space import Edge

SPACES = ("none", "k-edges", "arbitrary")


@dataclass(frozen=True)
class Topology:
    """A topology space.

    Attributes
    ----------
    space : str
        ``"none"``: γ ≡ 1, nothing is searched (DARTS). ``"k-edges"``: all subsets of
        ``edges_per_node`` incoming edges of a node (DOTS eq. 5-8; 2 gives its pairs).
        ``"arbitrary"``: all non-empty subsets (DOTS eq. 11-13).
    edges_per_node : int
        k of ``"k-edges"``; a node with fewer incoming edges keeps them all.
    scaled : bool
        Whether an edge's share is 1/N(c), N(c) the size of the combination (DOTS, CVPR 2021,
        eq. 7 and 13), or 1 (arXiv version of DOTS, eq. 9-11; TopoNAS eq. 6).
    """

    space: str = "none"
    edges_per_node: int = 2
    scaled: bool = True

    def __post_init__(self) -> None:
        if self.space not in SPACES:
            hint = nearest(self.space, SPACES)
            raise UsageError(f"unknown topology space '{self.space}'{hint}; known: {', '.join(SPACES)}")
        if self.edges_per_node < 1:
            raise UsageError(f"edges_per_node is {self.edges_per_node}; a node keeps at least one edge")


@dataclass(frozen=True, eq=False)
class TopologyMatrix:
    """A topology space written out for the edges of one cell.

    Attributes
    ----------
    shares : float64 array A, shape (edges, combinations)
    combinations : tuple of tuples of edge numbers, one a column of A
    groups : int64 array, shape (combinations,)
        The competing group (a node) each combination belongs to; softmax runs within a group.
    """

    shares: NDArray[np.float64]
    combinations: tuple[tuple[int, ...], ...]
    groups: NDArray[np.int64]


def topology_matrix(topology: Topology, edges: tuple[Edge, ...]) -> TopologyMatrix | None:
    """Write a topology space out for a cell's edges; None where nothing is searched."""
    if topology.space == "none":
        return None
    columns: list[tuple[int, ...]] = []
    groups: list[int] = []
    for target in sorted({edge.target for edge in edges}):
        incoming = [number for number, edge in enumerate(edges) if edge.target == target]
        if topology.space == "k-edges":
            sizes = [min(topology.edges_per_node, len(incoming))]
        else:
            sizes = list(range(1, len(incoming) + 1))
        for size in sizes:
            for chosen in combinations(incoming, size):
                columns.append(chosen)
                groups.append(target)
    shares = np.zeros((len(edges), len(columns)))
    for number, chosen in enumerate(columns):
        shares[list(chosen), number] = 1.0 / len(chosen) if topology.scaled else 1.0
    return TopologyMatrix(shares, tuple(columns), np.asarray(groups, np.int64))
