"""Decisions: which operations an edge retains, and which cell is derived in the end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dots_core.errors import UsageError
from dots_core.search_space.cell import CELL_TYPES, CellSpec
from dots_core.search_space.edge import Edge
from dots_core.search_space.genotype import Genotype, Node
from dots_core.search_space.mixing import Temperature, group_scores, group_softmax
from dots_core.search_space.operations import NONE, in_order
from dots_core.search_space.registry import Registry
from dots_core.search_space.topology import Topology, strongest

Architecture = Mapping[str, NDArray[np.floating]]


class Retention(ABC):
    """Which operations an edge keeps for the topology search.

    Attributes
    ----------
    name : str
    about : str
        What it is and where it comes from.
    """

    name: str
    about: str

    @abstractmethod
    def rivals(self, edge: Edge) -> list[tuple[tuple[str, ...], int]]:
        """Return the operations that compete, and how many of them are kept, for each competition."""

    def refusal(self, candidates: Collection[str]) -> str | None:
        """Say what it lacks among a space's operations and what to do, to go on after its name; None if nothing."""
        return None

    def kept(self, edge: Edge, ranked: Sequence[str]) -> set[str]:
        """Return the operations that an edge keeps.

        Parameters
        ----------
        ranked : sequence of str
            The edge's operations, the largest α first.
        """
        return {o for group, count in self.rivals(edge) for o in [r for r in ranked if r in group][:count]}


class _Groups(Retention):
    name = "groups"
    about = "the arg-max of each group (DOTS eq. 15-16); a group may retain `none`"

    def rivals(self, edge: Edge) -> list[tuple[tuple[str, ...], int]]:
        return [(group, 1) for group in edge.groups]


class _Top(Retention):
    def __init__(self, count: int) -> None:
        self.name, self._count = f"top-{count}", count
        self.about = f"of all operations but `none` the {count} with the largest α (DOTS eq. 14, table 4b)"

    def rivals(self, edge: Edge) -> list[tuple[tuple[str, ...], int]]:
        return [(tuple(o for o in edge.operations if o != NONE), self._count)]

    def refusal(self, candidates: Collection[str]) -> str | None:
        if len(set(candidates) - {NONE}) >= self._count:
            return None
        return (
            f"keeps {self._count}, and space.operations and space.groups leave fewer than {self._count} operations "
            "other than none; add one"
        )


RETENTIONS: Registry[Retention] = Registry("retention", "dots.retentions", Retention)
"""All rules of retention; a package adds its own by an entry point of the group ``dots.retentions``."""

for _rule in (_Groups(), _Top(1), _Top(2)):
    RETENTIONS.register(_rule)


def retain(
    cell: CellSpec,
    alpha: NDArray[np.floating],
    rule: str,
    topology: Topology,
    temperature: Temperature | None = None,
) -> CellSpec:
    """Prune a cell to the operations each edge retains after the operation search.

    Parameters
    ----------
    alpha : array α′, shape (edges, candidates)
    rule : str
        The name of one of `RETENTIONS`. Ties go to the operation listed first in
        `dots_core.search_space.operations.OPERATIONS`.
    topology : Topology
        What the pruned cell searches.
    temperature : Temperature, optional
        As in `operation_scores`.

    Returns
    -------
    CellSpec
        Every edge holds its retained operations in one group, mixed by a softmax; operation attention
        goes on, sampling and partial channels end. An edge whose groups all retain
        ``none`` keeps its best other operation beside it, so that it can be derived.
    """
    edges = []
    scores = operation_scores(cell, alpha, temperature)
    for number, edge in enumerate(cell.edges):
        ranked = ranked_operations(cell, number, scores)
        kept = RETENTIONS[rule].kept(edge, ranked)
        if not kept or not kept <= set(edge.operations):
            raise UsageError(
                f"the retention '{rule}' keeps {', '.join(sorted(kept)) or 'nothing'} of edge {edge.name}, which has "
                f"{', '.join(edge.operations)}; mend its package, or choose another rule"
            )
        if kept == {NONE}:
            kept.add(best_operation(cell, number, scores))
        edges.append(Edge(edge.source, edge.target, (in_order(kept),)))
    return replace(cell, edges=tuple(edges), topology=topology, sampling="none", partial=1)


@dataclass(frozen=True)
class Repair:
    """An edge that was added because a node of the derived cell had none.

    Attributes
    ----------
    cell : str
        ``"normal"`` or ``"reduce"``.
    node : int
    edge : str
        Name of the edge that was added.
    """

    cell: str
    node: int
    edge: str

    def __str__(self) -> str:
        return f"node {self.node} of the {self.cell} cell ({self.edge} added)"


@dataclass(frozen=True)
class Derived:
    """What a search found.

    Attributes
    ----------
    genotype : Genotype
        Valid: every intermediate node has an input.
    repairs : tuple of Repair
        What made it valid; empty if it was.
    """

    genotype: Genotype
    repairs: tuple[Repair, ...]


def derive(
    cells: Mapping[str, CellSpec], architecture: Architecture, temperature: Temperature | None = None
) -> Genotype:
    """Return the genotype that `decide` finds."""
    return decide(cells, architecture, temperature).genotype


def decide(
    cells: Mapping[str, CellSpec], architecture: Architecture, temperature: Temperature | None = None
) -> Derived:
    """Derive the genotype from the architecture weights of both cell types.

    Each edge takes the arg-max of α over its operations without ``none``, whatever their groups. Edges are
    kept as the cell's topology space says (`dots_core.search_space.topology.TopologySpace.kept`): the arg-max
    combination of each group of edges that compete; where no topology was searched, by the DARTS policy: a
    node keeps the two incoming edges whose best operation other than ``none`` weighs most.

    Choices among a node's output edges, and edges each on its own, can leave a node without input.
    Such a node gets the incoming edge with the largest γ times weight of its best operation; among
    equals the one from the earliest node. TopoNAS and DOTS name no repair; this rule is ours.

    Parameters
    ----------
    cells : mapping of ``"normal"`` and ``"reduce"`` to CellSpec
    architecture : mapping
        ``alpha.<cell type>`` and, where a topology was searched, ``beta.<cell type>``.
    temperature : Temperature, optional
        At which operations' and edges' weights are compared (`edge_strengths`); 1 if not given.
    """
    temperature = temperature or Temperature()
    fields: dict[str, tuple[Node, ...]] = {}
    repairs: list[Repair] = []
    for kind in CELL_TYPES:
        cell = cells[kind]
        alpha = np.asarray(architecture[f"alpha.{kind}"])
        beta = architecture.get(f"beta.{kind}")
        strengths = edge_strengths(cell, alpha, beta, temperature)
        kept = cell.topology.kind.kept(cell.topology, cell.edges, cell.matrix, strengths, beta)
        if not set(kept) <= set(range(len(cell.edges))):
            raise UsageError(
                f"the topology space '{cell.topology.space}' keeps the edges {sorted(set(kept))} of a cell whose edges "
                f"are numbered 0 to {len(cell.edges) - 1}; mend its package, or choose another space"
            )
        scores = operation_scores(cell, alpha, temperature)
        nodes: list[Node] = []
        for target in range(2, cell.nodes + 2):
            numbers = [n for n in kept if cell.edges[n].target == target]
            if not numbers:
                numbers = strongest(cell.edges, target, strengths, 1)
                repairs.append(Repair(kind, target, cell.edges[numbers[0]].name))
            nodes.append(tuple((best_operation(cell, n, scores), cell.edges[n].source) for n in numbers))
        fields[kind] = tuple(nodes)
    genotype = Genotype(fields["normal"], cells["normal"].concat, fields["reduce"], cells["reduce"].concat)
    return Derived(genotype, tuple(repairs))


def operation_scores(
    cell: CellSpec, alpha: NDArray[np.floating], temperature: Temperature | None = None
) -> NDArray[np.float64]:
    """Return what the operations of an edge are compared by: T·ln α, α being the softmax within each group.

    α′ says nothing across groups, since each softmax takes a constant of its own away; α does, and so
    ranks the released DOTS code. Within a group the scores differ as α′ (with operation attention) does.

    Parameters
    ----------
    alpha : array α′, shape (edges, candidates)
    temperature : Temperature, optional
        As in `edge_strengths`.

    Returns
    -------
    float64 array of that shape, −inf where an operation is absent
    """
    return group_scores(np.asarray(alpha), cell.operation_groups, _alpha_temperature(cell, temperature))


def ranked_operations(cell: CellSpec, edge: int, scores: NDArray[np.floating]) -> list[str]:
    """Return the operations of the edge of a number, the largest score first, ties in canonical order.

    Parameters
    ----------
    scores : float array, shape (edges, candidates)
    """
    row = scores[edge]
    return sorted(cell.edges[edge].operations, key=lambda o: -float(row[cell.column(o)]))


def best_operation(cell: CellSpec, edge: int, scores: NDArray[np.floating]) -> str:
    """Return the first of `ranked_operations` other than ``none``; ``scores`` has shape (edges, candidates)."""
    return next(o for o in ranked_operations(cell, edge, scores) if o != NONE)


def _alpha_temperature(cell: CellSpec, temperature: Temperature | None) -> float:
    return 1.0 if cell.matrix is None or temperature is None else temperature.alpha


def edge_strengths(
    cell: CellSpec,
    alpha: NDArray[np.floating],
    beta: NDArray[np.floating] | None = None,
    temperature: Temperature | None = None,
) -> list[float]:
    """Return how much each edge's best operation other than ``none`` weighs, times γ where a topology is searched.

    The DARTS policy keeps the strongest edges; with γ, an edge softmax does (PC-DARTS §3.3).

    Parameters
    ----------
    alpha : array α′, shape (edges, candidates)
    beta : array β′, shape (combinations,), optional
    temperature : Temperature, optional
        1 if not given. Where no topology is searched α is taken at 1, as DARTS does.
    """
    temperature = temperature or Temperature()
    weights = group_softmax(np.asarray(alpha, np.float64), cell.operation_groups, _alpha_temperature(cell, temperature))
    shares = np.ones(len(cell.edges))
    if cell.matrix is not None and cell.combination_groups is not None and beta is not None:
        chosen = group_softmax(np.asarray(beta, np.float64), cell.combination_groups, temperature.beta)
        shares = cell.matrix.shares @ chosen
    return [
        float(shares[n]) * max(float(weights[n, cell.column(o)]) for o in edge.operations if o != NONE)
        for n, edge in enumerate(cell.edges)
    ]
