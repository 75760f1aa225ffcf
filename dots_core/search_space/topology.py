"""Topology spaces as constant matrices: γ = A · softmax(β′ / T_β).

Edges compete in groups: the combinations of them that may be kept are listed, of a node's incoming
or outgoing edges, and column c of A holds the share that each edge gets when combination c is chosen.
A new space is an object that returns A and says which edges it keeps; no engine changes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

from dots_core.errors import UsageError, nearest
from dots_core.search_space.edge import Edge
from dots_core.search_space.registry import Registry

SIDES = ("input", "output")


@dataclass(frozen=True)
class Topology:
    """A topology space.

    Attributes
    ----------
    space : str
        The name of one of `TOPOLOGY_SPACES`.
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
        space = TOPOLOGY_SPACES[self.space]
        if self.side not in SIDES:
            raise UsageError(f"unknown side '{self.side}'{nearest(self.side, SIDES)}; known: {', '.join(SIDES)}")
        if self.edges_per_node < 1:
            raise UsageError(f"edges_per_node is {self.edges_per_node}; a node keeps at least one edge")
        if self.side not in space.sides:
            others = ", ".join(f"'{each.name}'" for each in TOPOLOGY_SPACES if self.side in each.sides)
            raise UsageError(
                f"the topology space '{self.space}' has no {self.side} side; take the side "
                f"'{space.sides[0]}', or a space that has one: {others}"
            )

    @property
    def kind(self) -> TopologySpace:
        """The space itself."""
        return TOPOLOGY_SPACES[self.space]


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


class TopologySpace(ABC):
    """One way in which the edges of a cell compete. All that depends on which it is stands here.

    Attributes
    ----------
    name : str
    about : str
        What it is and where it comes from, for tables.
    searched : bool
        Whether there is β to be learned.
    sides : tuple of str
        Which of `SIDES` it can be on.
    chooses : bool
        Whether one combination of edges is derived for each group of edges that compete.
    alone : bool
        Whether each edge competes with its own absence.
    """

    name: str
    about: str
    searched: bool = True
    sides: tuple[str, ...] = ("input",)
    chooses: bool = False
    alone: bool = False

    @abstractmethod
    def matrix(self, topology: Topology, edges: tuple[Edge, ...]) -> TopologyMatrix | None:
        """Write the space out for a cell's edges; None where nothing is searched."""

    @abstractmethod
    def kept(
        self,
        topology: Topology,
        edges: tuple[Edge, ...],
        matrix: TopologyMatrix | None,
        strengths: Sequence[float],
        beta: NDArray[np.floating] | None,
    ) -> list[int]:
        """Return the numbers of the edges that are kept, ascending; a node may be left without.

        Parameters
        ----------
        matrix : TopologyMatrix or None
            What `matrix` gave for these edges.
        strengths : sequence of float
            How much each edge weighs (`dots_core.search_space.derivation.edge_strengths`).
        beta : array β′, shape (combinations,), or None where nothing is searched
        """

    @property
    def decides_by_beta(self) -> bool:
        """Whether β alone decides on edges, and not how much they weigh."""
        return self.chooses or self.alone

    def chosen(self, members: NDArray[np.int64], beta: NDArray[np.floating]) -> int:
        """Return which of ``members``, a group's combinations, is chosen; ``beta`` has shape (combinations,)."""
        return int(members[int(np.argmax(beta[members]))])

    def combination_name(self, topology: Topology, edges: Sequence[Edge]) -> str:
        """Return a combination's edges by their other ends, for example ``"0,1"``."""
        return ",".join(str(e.target if topology.side == "output" else e.source) for e in edges)

    def place(self, group: int, edges: tuple[Edge, ...]) -> str:
        """Return whose edges a group is of: the node, or the edge that is kept or not by itself."""
        return str(group)


def written_out(topology: Topology, edges: tuple[Edge, ...]) -> TopologyMatrix | None:
    """Return a topology space written out for a cell's edges; None where nothing is searched.

    Raises
    ------
    UsageError
        If what the space gives does not fit the edges, or itself.
    """
    space = topology.kind
    found = space.matrix(topology, edges)
    problem = _misfit(found, len(edges), space.searched)
    if problem:
        raise UsageError(f"the topology space '{space.name}' {problem}; mend its package, or choose another space")
    return found


def _misfit(matrix: TopologyMatrix | None, edges: int, searched: bool) -> str | None:
    if matrix is None:
        return "says that β is searched, but has no matrix A" if searched else None
    if not searched:
        return "says that nothing is searched, but has a matrix A"
    count = len(matrix.combinations)
    shapes = {"shares": (edges, count), "groups": (count,), "free": (count,)}
    for name, wanted in shapes.items():
        shape = np.shape(getattr(matrix, name))
        if shape != wanted or not count:
            return f"has {name} of shape {shape} for {edges} edges and {count} combinations, not {wanted}"
    if not np.isfinite(matrix.shares).all():
        return "has shares that are no numbers"
    if np.min(matrix.groups) < 0:
        return "has groups below 0"
    if any(not 0 <= edge < edges for combination in matrix.combinations for edge in combination):
        return f"has combinations of edges that there are not; they are numbered 0 to {edges - 1}"
    return None


TOPOLOGY_SPACES: Registry[TopologySpace] = Registry("topology space", "dots.topologies", TopologySpace)
"""All topology spaces; a package adds its own by an entry point of the group ``dots.topologies``."""


def strongest(edges: tuple[Edge, ...], target: int, strengths: Sequence[float], count: int) -> list[int]:
    """Return the numbers of a node's strongest incoming edges, ascending; of equals the first."""
    incoming = [number for number, edge in enumerate(edges) if edge.target == target]
    return sorted(sorted(incoming, key=lambda n: (-strengths[n], n))[:count])


class _Strongest(TopologySpace):
    """Every node keeps its strongest edges."""

    def kept(
        self,
        topology: Topology,
        edges: tuple[Edge, ...],
        matrix: TopologyMatrix | None,
        strengths: Sequence[float],
        beta: NDArray[np.floating] | None,
    ) -> list[int]:
        found: list[int] = []
        for target in sorted({edge.target for edge in edges}):
            found += strongest(edges, target, strengths, topology.edges_per_node)
        return sorted(found)


class _None(_Strongest):
    name = "none"
    about = "γ ≡ 1, nothing is searched; a node keeps the edges whose best operation weighs most (the DARTS policy)"
    searched = False

    def matrix(self, topology: Topology, edges: tuple[Edge, ...]) -> None:
        return None


class _Fixed(TopologySpace):
    name = "fixed"
    about = "γ ≡ 1, and every edge the cell has is kept (the path of eDARTS, §III-B)"
    searched = False

    def matrix(self, topology: Topology, edges: tuple[Edge, ...]) -> None:
        return None

    def kept(
        self,
        topology: Topology,
        edges: tuple[Edge, ...],
        matrix: TopologyMatrix | None,
        strengths: Sequence[float],
        beta: NDArray[np.floating] | None,
    ) -> list[int]:
        return list(range(len(edges)))


class _Chosen(TopologySpace):
    """Of each group of combinations one is chosen, and the edges it holds are kept."""

    def kept(
        self,
        topology: Topology,
        edges: tuple[Edge, ...],
        matrix: TopologyMatrix | None,
        strengths: Sequence[float],
        beta: NDArray[np.floating] | None,
    ) -> list[int]:
        assert matrix is not None
        assert beta is not None
        beta = np.asarray(beta)
        found: set[int] = set()  # an edge may be held by several groups' choices
        for group in np.unique(matrix.groups):
            found.update(matrix.combinations[self.chosen(np.flatnonzero(matrix.groups == group), beta)])
        return sorted(found)


class Combinations(_Chosen):
    """Subsets of the edges that compete, of some sizes."""

    sides = SIDES
    chooses = True

    @abstractmethod
    def sizes(self, topology: Topology, competing: int, last: bool) -> Sequence[int]:
        """Return how many edges a combination may hold, of so many that compete.

        Parameters
        ----------
        last : bool
            Whether they are of the last two nodes with edges that compete.
        """

    def matrix(self, topology: Topology, edges: tuple[Edge, ...]) -> TopologyMatrix:
        columns: list[tuple[int, ...]] = []
        groups: list[int] = []
        shares: list[float] = []
        by_node: dict[int, list[int]] = {}
        for number, edge in enumerate(edges):
            by_node.setdefault(edge.target if topology.side == "input" else edge.source, []).append(number)
        last_two = sorted(by_node)[-2:]
        for node in sorted(by_node):
            m = len(by_node[node])
            sizes = self.sizes(topology, m, node in last_two)
            for size in sizes:
                for combination in combinations(by_node[node], size):
                    columns.append(combination)
                    groups.append(node)
                    shares.append(_share(topology, size, sizes, m))
        matrix = np.zeros((len(edges), len(columns)))
        for number, combination in enumerate(columns):
            matrix[list(combination), number] = shares[number]
        return TopologyMatrix(matrix, tuple(columns), np.asarray(groups, np.int64), np.ones(len(columns), bool))


def _share(topology: Topology, size: int, sizes: Sequence[int], competing: int) -> float:
    """Share of each edge of a combination of some size, of so many edges that compete (`Topology.scaled`)."""
    if not topology.scaled:
        return 1.0
    if topology.side == "input":
        return 1.0 / size
    holding = sum(comb(competing - 1, each - 1) for each in sizes)
    return sum(comb(competing, each) for each in sizes) / holding


class _KEdges(Combinations):
    name = "k-edges"
    about = "all subsets of edges_per_node edges of a node (DOTS eq. 5-8; 2 gives its pairs)"

    def sizes(self, topology: Topology, competing: int, last: bool) -> Sequence[int]:
        single = topology.side == "output" and last
        return (min(1 if single else topology.edges_per_node, competing),)


class _Arbitrary(Combinations):
    name = "arbitrary"
    about = "all non-empty subsets of a node's edges (DOTS eq. 11-13)"

    def sizes(self, topology: Topology, competing: int, last: bool) -> Sequence[int]:
        return range(1, competing + 1)


class _EdgeSoftmax(_Strongest):
    name = "edge-softmax"
    about = (
        "a softmax over a node's single edges, the strongest are kept "
        "(the edge normalisation of PC-DARTS; DOTS table 4a)"
    )

    def matrix(self, topology: Topology, edges: tuple[Edge, ...]) -> TopologyMatrix:
        by_target = sorted(range(len(edges)), key=lambda n: (edges[n].target, n))
        matrix = np.zeros((len(edges), len(edges)))
        matrix[by_target, np.arange(len(edges))] = 1.0
        columns = tuple((number,) for number in by_target)
        groups = np.array([edges[number].target for number in by_target], np.int64)
        return TopologyMatrix(matrix, columns, groups, np.ones(len(edges), bool))


class _EdgeSigmoid(_Chosen):
    name = "edge-sigmoid"
    about = "γ = σ(β′/T) edge by edge, those above ½ are kept (DOTS table 4a, which prints no threshold; it is ours)"
    alone = True

    def matrix(self, topology: Topology, edges: tuple[Edge, ...]) -> TopologyMatrix:
        # Each edge as a group of two: the edge, and nothing at a fixed logit of 0.
        count = len(edges)
        matrix = np.zeros((count, 2 * count))
        matrix[np.arange(count), 2 * np.arange(count)] = 1.0
        columns = tuple(combination for edge in range(count) for combination in ((edge,), ()))
        return TopologyMatrix(matrix, columns, np.repeat(np.arange(count), 2), np.tile([True, False], count))

    def chosen(self, members: NDArray[np.int64], beta: NDArray[np.floating]) -> int:
        # An edge of weight ½, a tie, is dropped.
        return int(members[0] if float(beta[members[0]]) > 0 else members[1])

    def combination_name(self, topology: Topology, edges: Sequence[Edge]) -> str:
        return "kept" if edges else "dropped"

    def place(self, group: int, edges: tuple[Edge, ...]) -> str:
        return edges[group].name


for _space in (_None(), _Fixed(), _KEdges(), _Arbitrary(), _EdgeSoftmax(), _EdgeSigmoid()):
    TOPOLOGY_SPACES.register(_space)
