"""The weights γ_e·α_{e,o} of one type of cell, cut up as its families need them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dots_core.search_space.mixing import SoftmaxGroups
from dots_core.search_space.operations import OPERATIONS
from dots_jittor.arrays import Var, upload
from dots_jittor.branching import fork, split
from dots_jittor.primitives import Primitives
from dots_jittor.startup import jt


class EdgeWeights:
    """Computed once a step and shared by all cells of the type.

    Parameters
    ----------
    table : Var, shape (edges, all operations)
        γ·α.
    gamma : Var, shape (edges,), optional
        None where γ is 1.
    """

    def __init__(self, table: Var, gamma: Var | None) -> None:
        self._flat, self._gamma = table.reshape((-1,)), gamma
        self._cut: dict[tuple[tuple[int, ...], tuple[int, ...]], Var] = {}

    def column(self, operation: int, edges: tuple[int, ...]) -> Var:
        """Weights of one operation on the given edges: shape (edges,)."""
        return self.block((operation,), edges).reshape((len(edges),))

    def block(self, operations: tuple[int, ...], edges: tuple[int, ...]) -> Var:
        """Weights of several operations, 0 where an edge lacks one: shape (edges, operations)."""
        key = (operations, edges)
        if key not in self._cut:
            index = np.array([e * len(OPERATIONS) + o for e in edges for o in operations], np.int32)
            self._cut[key] = self._flat[upload(index)].reshape((len(edges), len(operations)))
        return self._cut[key]

    def edges(self, edges: tuple[int, ...]) -> Var | None:
        """γ of the given edges, shape (1, edges); None where it is 1."""
        if self._gamma is None:
            return None
        key = ((), edges)
        if key not in self._cut:
            self._cut[key] = self._gamma[upload(np.array(edges, np.int32))].reshape((1, len(edges)))
        return self._cut[key]


class SampledEdgeWeights(EdgeWeights):
    """Of the chosen operations alone.

    What Jittor computes itself is the same whatever was chosen: another choice compiles nothing.

    Parameters
    ----------
    chosen : bool array, shape (edges, all operations)
        One operation of each group.
    cells : int
        How many cells read each weight, once each.
    """

    def __init__(
        self,
        ops: Primitives,
        table: Var,
        gamma: Var | None,
        chosen: NDArray[np.bool_],
        groups: SoftmaxGroups,
        cells: int,
    ) -> None:
        super().__init__(table, gamma)
        flat = chosen.ravel()
        index = np.array([members[np.argmax(flat[members])] for members in groups.members], np.int32)
        picked = self._flat[upload(index)].reshape((1, len(index)))
        parts = split(picked, (1,) * len(index))
        self._copies = {
            divmod(int(number), len(OPERATIONS)): list(fork(ops, part.reshape((1,)), cells))
            for number, part in zip(index, parts, strict=True)
        }

    def column(self, operation: int, edges: tuple[int, ...]) -> Var:
        (edge,) = edges
        return self._copies[edge, operation].pop()


class _Chosen(jt.Function):
    """1 for what was chosen and 0 for the rest on the way forward, the weights themselves on the way back."""

    def __init__(self, chosen: Var) -> None:
        super().__init__()
        self._chosen = chosen

    def execute(self, weights: Var) -> Var:
        return self._chosen

    def grad(self, dchosen: Var) -> Var:
        return dchosen


def straight_through(weights: Var, chosen: NDArray[np.bool_]) -> Var:
    """The weights of hard samples (`dots_core.engine.batch.Draw`), both of shape (edges, all operations)."""
    return _Chosen(upload(chosen.astype(str(weights.dtype))))(weights)
