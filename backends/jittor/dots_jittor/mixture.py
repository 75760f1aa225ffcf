"""Where Jittor makes the weights of operations and edges in a way of its own (`dots_core.engine.mixture`)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dots_core.engine.batch import Draw
from dots_core.engine.mixture import EdgeWeights, Key, Mixture
from dots_core.engine.tensors import Tensors
from dots_core.search_space.cell import CellSpec
from dots_core.search_space.mixing import SoftmaxGroups
from dots_jittor import native
from dots_jittor.arrays import Var, upload
from dots_jittor.branching import fork, split
from dots_jittor.primitives import Primitives
from dots_jittor.startup import jt


class NativeSoftmax:
    """Softmax within groups, by a kernel."""

    def __init__(self, groups: SoftmaxGroups, tensors: Tensors) -> None:
        self._groups = groups

    def __call__(self, logits: Var, temperature: float, noise: NDArray[np.floating] | None = None) -> Var:
        return native.group_softmax(logits, self._groups, temperature, noise)


class JittorMixture(Mixture):
    """Makes the weights of one type of cell.

    Parameters
    ----------
    cells : int
        How many cells of the type the network has: each reads each weight once.
    """

    def __init__(self, kind: str, cell: CellSpec, tensors: Tensors, ops: Primitives, cells: int) -> None:
        self.softmax = NativeSoftmax if ops is native else self.softmax
        super().__init__(kind, cell, tensors)
        self._cell, self._ops, self._cells = cell, ops, cells

    def chosen(self, weights: Var, chosen: NDArray[np.bool_]) -> Var:
        return _Chosen(self._tensors.upload(chosen))(weights)

    def cut_up(self, table: Var, gamma: Var | None, draw: Draw | None) -> EdgeWeights:
        if draw is None or draw.chosen is None:
            return super().cut_up(table, gamma, draw)
        given = (table, gamma, draw, self._tensors, self._indices)
        return SampledEdgeWeights(*given, ops=self._ops, groups=self._cell.operation_groups, cells=self._cells)


class SampledEdgeWeights(EdgeWeights):
    """Of the chosen operations alone.

    What Jittor computes itself is the same whatever was chosen: another choice compiles nothing.
    """

    def __init__(
        self,
        table: Var,
        gamma: Var | None,
        draw: Draw,
        tensors: Tensors,
        indices: dict[Key, Any],
        *,
        ops: Primitives,
        groups: SoftmaxGroups,
        cells: int,
    ) -> None:
        super().__init__(table, gamma, draw, tensors, indices)
        assert draw.chosen is not None
        flat = draw.chosen.ravel()
        index = np.array([members[np.argmax(flat[members])] for members in groups.members], np.int32)
        picked = self._flat[upload(index)].reshape((1, len(index)))  # γ·α of what was chosen, one a group
        parts = split(picked, (1,) * len(index))
        self._copies = {
            divmod(int(number), groups.shape[1]): list(fork(ops, part.reshape((1,)), cells))
            for number, part in zip(index, parts, strict=True)
        }

    def column(self, operation: int, edges: tuple[int, ...]) -> Var:
        # Shape (1,); each cell takes a copy of its own.
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
