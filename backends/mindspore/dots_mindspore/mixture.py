"""The weights of operations and edges, from α′ and β′ on the device."""

from __future__ import annotations

from collections.abc import Mapping

import mindspore as ms
import numpy as np
from mindspore import Tensor, ops

from dots_core.engine.batch import Draw
from dots_core.engine.stacking import StackedOperation
from dots_core.search_space.cell import CellSpec
from dots_core.search_space.mixing import SoftmaxGroups, Temperature
from dots_core.search_space.operations import OPERATIONS
from dots_mindspore.runtime import upload


class GroupSoftmax:
    """Softmax within groups of logits, on the device (see `dots_core.search_space.mixing`)."""

    def __init__(self, groups: SoftmaxGroups) -> None:
        self._gather = Tensor(groups.gather.astype(np.int32))
        self._padding = Tensor(np.where(groups.padding, -np.inf, 0.0).astype(np.float32))
        self._scatter = Tensor(groups.scatter.astype(np.int32))
        self._mask = Tensor(groups.mask.ravel().astype(np.float32))
        self._offsets = None if groups.offsets is None else Tensor(groups.offsets.astype(np.float32))
        self._free = None if groups.free is None else Tensor(groups.free.astype(np.float32))
        self._softmax = ops.Softmax(-1)

    def __call__(self, logits: Tensor, temperature: float, noise: Tensor | None = None) -> Tensor:
        """Return the softmax of (free·logits + offsets + noise) / temperature, 0 where masked."""
        shifted = logits if self._free is None else logits * self._free
        if self._offsets is not None:
            shifted = shifted + self._offsets
        if noise is not None:
            shifted = shifted + noise
        rows = ops.gather(ops.reshape(shifted, (-1,)), self._gather, 0) / temperature + self._padding
        weights = ops.reshape(self._softmax(rows), (-1,))
        return ops.reshape(ops.gather(weights, self._scatter, 0) * self._mask, logits.shape)


class EdgeWeights:
    """The weights of one type of cell in one pass, cut up as its families need them.

    Computed once a pass and shared by all cells of the type.

    Parameters
    ----------
    table : Tensor, shape (edges, all operations)
        γ_e·α_{e,o}.
    gamma : Tensor, shape (edges, 1), or None
        γ; None where it is 1.
    draw : Draw or None
        Says which operations are evaluated.
    indices : dict
        Small index tensors made so far; kept from pass to pass.
    """

    def __init__(
        self, table: Tensor, gamma: Tensor | None, draw: Draw | None, indices: dict[tuple[int, ...], Tensor]
    ) -> None:
        self._flat = ops.reshape(table, (-1,))
        self._gamma, self._draw = gamma, draw
        self._indices = indices
        self._cut: dict[tuple[int, ...], Tensor] = {}

    def evaluated(self, family: StackedOperation) -> bool:
        """Whether any operation of a family takes part in the pass."""
        return family.evaluated(self._draw)

    def shares(self, edges: tuple[int, ...]) -> Tensor | None:
        """γ of the given edges, shape (edges, 1); None where it is 1."""
        if self._gamma is None:
            return None
        return ops.reshape(self._gathered((-2, *edges), list(edges), self._gamma), (len(edges), 1))

    def channels(self, operation: int, edges: tuple[int, ...], channels: int) -> Tensor:
        """Weights of one operation on the given edges, once for each channel: shape (edges·channels,)."""
        places = [edge * len(OPERATIONS) + operation for edge in edges for _ in range(channels)]
        return self._gathered((operation, channels, *edges), places)

    def block(self, operations: tuple[int, ...], edges: tuple[int, ...]) -> Tensor:
        """Weights of several operations, 0 where an edge lacks one: shape (edges, operations)."""
        places = [edge * len(OPERATIONS) + operation for edge in edges for operation in operations]
        return ops.reshape(self._gathered((*operations, -1, *edges), places), (len(edges), len(operations)))

    def _gathered(self, key: tuple[int, ...], places: list[int], table: Tensor | None = None) -> Tensor:
        if key not in self._cut:
            if key not in self._indices:
                self._indices[key] = Tensor(places, ms.int32)
            self._cut[key] = ops.gather(self._flat if table is None else table, self._indices[key], 0)
        return self._cut[key]


class Mixture:
    """α = softmax(α′ / T_α) in groups and γ = A · softmax(β′ / T_β) of one type of cell (DOTS eq. 2 and 5-8)."""

    def __init__(self, kind: str, cell: CellSpec) -> None:
        self._alpha_name, self._beta_name = f"alpha.{kind}", f"beta.{kind}"
        self._alpha = GroupSoftmax(cell.operation_groups) if cell.mixed else None
        self._beta: GroupSoftmax | None = None
        if cell.matrix is not None and cell.combination_groups is not None:
            self._beta = GroupSoftmax(cell.combination_groups)
            self._shares = Tensor(cell.matrix.shares.astype(np.float32))
        self._ones = Tensor(np.ones((len(cell.edges), len(OPERATIONS)), np.float32))
        self._indices: dict[tuple[int, ...], Tensor] = {}

    def edge_weights(
        self, architecture: Mapping[str, Tensor], temperature: Temperature, draw: Draw | None
    ) -> EdgeWeights | None:
        """Return the weights of one pass; None where operations and edges are added unweighted."""
        if self._alpha is None and self._beta is None:
            return None
        table, gamma = self._ones, None
        if self._alpha is not None:
            table = _operations(self._alpha, architecture[self._alpha_name], temperature.alpha, draw)
        if self._beta is not None:
            chosen = self._beta(architecture[self._beta_name], temperature.beta)
            gamma = ops.matmul(self._shares, ops.reshape(chosen, (-1, 1)))
            table = table * gamma
        return EdgeWeights(table, gamma, draw, self._indices)


def _operations(softmax: GroupSoftmax, alpha: Tensor, temperature: float, draw: Draw | None) -> Tensor:
    if draw is None:
        return softmax(alpha, temperature)
    weights = softmax(alpha, temperature, upload(np.asarray(draw.noise, np.float32)))
    if draw.chosen is None:
        return weights
    # Straight-through (GDAS eq. 6-7): exactly 1 on the way forward, the softmax weight on the way back.
    return upload(draw.chosen.astype(np.float32)) * (1.0 + (weights - ops.stop_gradient(weights)))
