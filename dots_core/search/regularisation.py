"""Passive–aggressive regularisation: keeps output-side topologies from leaving a node without input (TopoNAS)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dots_core.errors import UsageError
from dots_core.search_space.cell import CellSpec
from dots_core.search_space.mixing import group_softmax, group_softmax_gradient


def passive_aggressive(
    cell: CellSpec, beta: NDArray[np.floating], temperature: float = 1.0
) -> tuple[float, NDArray[np.float64]]:
    """Return r(β) and its gradient with respect to β′.

    r(β) = Σ_j Π_{i<j} (max_b p_i(b) − max_{b∋j} p_i(b)) / max_b p_i(b) over intermediate nodes j and
    their predecessors i, where p_i(b) is the weight of combination b of node i's output edges
    (TopoNAS eq. 14, whose print is garbled: this is our reading). A node's term is 0 as soon as the
    most likely combination of one predecessor leads to it, and positive while none does.

    Parameters
    ----------
    cell : CellSpec
        With an output-side topology.
    beta : array β′, shape (combinations,)
    temperature : float
        That of β′.

    Returns
    -------
    float, array of shape (combinations,)

    Raises
    ------
    UsageError
        If the cell's topology is not on the output side: on the input side every node keeps an edge.
    """
    groups, matrix = cell.combination_groups, cell.matrix
    if groups is None or matrix is None or cell.topology.side != "output":
        raise UsageError("passive-aggressive regularisation is for output-side topologies; others are always valid")
    weights = group_softmax(np.asarray(beta, np.float64), groups, temperature)
    by_node = {int(matrix.groups[members[0]]): members for members in groups.members}
    total, gradient = 0.0, np.zeros_like(weights)
    for target in range(2, cell.nodes + 2):
        factors: list[float] = []
        parts: list[NDArray[np.float64]] = []
        for edge in cell.incoming(target):
            members = by_node[cell.edges[edge].source]
            best = int(members[np.argmax(weights[members])])
            holding = [int(c) for c in members if edge in matrix.combinations[c]]
            held = holding[int(np.argmax(weights[holding]))]
            ratio = weights[held] / weights[best]
            part = np.zeros_like(weights)
            if held != best:
                # d(1 − held/best)
                part[held] -= 1.0 / weights[best]
                part[best] += ratio / weights[best]
            factors.append(1.0 - ratio)
            parts.append(part)
        total += float(np.prod(factors))
        for number, part in enumerate(parts):
            gradient += np.prod(factors[:number] + factors[number + 1 :]) * part
    return total, group_softmax_gradient(weights, gradient, groups, temperature)
