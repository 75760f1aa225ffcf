"""Decisions: which operations an edge retains, and which cell is derived in the end."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from dots_core.errors import UsageError
from dots_core.genotype import Genotype, Node
from dots_core.mixing import block_softmax
from dots_core.operations import NONE, OPERATIONS
from dots_core.space import CELL_TYPES, CellSpec, Edge
from dots_core.topology import Topology

RETENTIONS = ("groups", "top-1", "top-2")

Architecture = Mapping[str, NDArray[np.floating]]


def retain(cell: CellSpec, alpha: NDArray[np.floating], rule: str, topology: Topology) -> CellSpec:
    """Prune a cell to the operations each edge retains after the operation search.

    Parameters
    ----------
    alpha : array α′, shape (edges, operations)
    rule : str
        ``"groups"``: the arg-max of each group (DOTS eq. 15-16); a group may retain ``none``.
        ``"top-1"``, ``"top-2"``: the best one or two over all operations but ``none`` (DOTS eq. 14,
        table 4b). Ties go to the operation listed first in `dots_core.operations.OPERATIONS`.
    topology : Topology
        What the pruned cell searches.

    Returns
    -------
    CellSpec
        Every edge holds its retained operations in one group. An edge whose groups all retain
        ``none`` keeps its best other operation beside it, so that it can be derived.
    """
    if rule not in RETENTIONS:
        raise UsageError(f"unknown retention '{rule}'; known: {', '.join(RETENTIONS)}")
    edges = []
    for number, edge in enumerate(cell.edges):
        ranked = _ranked(edge, alpha[number])
        others = [o for o in ranked if o != NONE]
        if rule == "groups":
            kept = [next(o for o in ranked if o in group) for group in edge.groups]
            if set(kept) == {NONE}:
                kept.append(others[0])
        else:
            kept = others[: int(rule[-1])]
        edges.append(Edge(edge.source, edge.target, (tuple(o for o in OPERATIONS if o in kept),)))
    return CellSpec(cell.nodes, tuple(edges), cell.concat, topology)


def derive(cells: Mapping[str, CellSpec], architecture: Architecture) -> Genotype:
    """Derive the genotype from the architecture weights of both cell types.

    Each edge takes the arg-max of α over its operations without ``none``; each node keeps its
    arg-max combination of edges. Where no topology was searched the DARTS policy decides: a
    node keeps the two incoming edges whose best operation other than ``none`` weighs most.

    Parameters
    ----------
    cells : mapping of ``"normal"`` and ``"reduce"`` to CellSpec
    architecture : mapping
        ``alpha.<cell type>`` and, where a topology was searched, ``beta.<cell type>``.
    """
    fields: dict[str, tuple[Node, ...]] = {}
    for kind in CELL_TYPES:
        cell = cells[kind]
        alpha = np.asarray(architecture[f"alpha.{kind}"])
        kept = _darts_edges(cell, alpha) if cell.matrix is None else _best_edges(cell, architecture[f"beta.{kind}"])
        nodes: list[Node] = []
        for target in range(2, cell.nodes + 2):
            numbers = [n for n in kept if cell.edges[n].target == target]
            nodes.append(tuple((_best_operation(cell.edges[n], alpha[n]), cell.edges[n].source) for n in numbers))
        fields[kind] = tuple(nodes)
    return Genotype(fields["normal"], cells["normal"].concat, fields["reduce"], cells["reduce"].concat)


def _ranked(edge: Edge, alpha: NDArray[np.floating]) -> list[str]:
    return sorted(edge.operations, key=lambda o: (-float(alpha[OPERATIONS.index(o)]), OPERATIONS.index(o)))


def _best_operation(edge: Edge, alpha: NDArray[np.floating]) -> str:
    return next(o for o in _ranked(edge, alpha) if o != NONE)


def _best_edges(cell: CellSpec, beta: NDArray[np.floating]) -> list[int]:
    assert cell.matrix is not None
    assert cell.combination_blocks is not None
    beta = np.asarray(beta)
    kept: list[int] = []
    for members in cell.combination_blocks.members:
        kept += cell.matrix.combinations[members[int(np.argmax(beta[members]))]]
    return sorted(kept)


def edge_strengths(cell: CellSpec, alpha: NDArray[np.floating]) -> list[float]:
    """Return how much each edge's best operation other than ``none`` weighs; the DARTS policy keeps the strongest.

    Parameters
    ----------
    alpha : array α′, shape (edges, operations)
    """
    weights = block_softmax(np.asarray(alpha, np.float64), cell.operation_blocks)
    return [
        max(float(weights[n, OPERATIONS.index(o)]) for o in edge.operations if o != NONE)
        for n, edge in enumerate(cell.edges)
    ]


def _darts_edges(cell: CellSpec, alpha: NDArray[np.floating]) -> list[int]:
    strength = edge_strengths(cell, alpha)
    kept: list[int] = []
    for target in range(2, cell.nodes + 2):
        kept += sorted(cell.incoming(target), key=lambda n: (-strength[n], n))[:2]
    return sorted(kept)
