"""The weights of operations and edges, from α′ and β′ on the device."""

from __future__ import annotations

from collections.abc import Mapping

import mindspore as ms
import numpy as np
from mindspore import Tensor, ops

from dots_core.engine import Temperature
from dots_core.mixing import Blocks
from dots_core.operations import OPERATIONS
from dots_core.space import CellSpec


class BlockSoftmax:
    """Softmax within blocks of logits, on the device (see `dots_core.mixing`)."""

    def __init__(self, blocks: Blocks) -> None:
        self._gather = Tensor(blocks.gather.astype(np.int32))
        self._padding = Tensor(np.where(blocks.padding, -np.inf, 0.0).astype(np.float32))
        self._scatter = Tensor(blocks.scatter.astype(np.int32))
        self._mask = Tensor(blocks.mask.ravel().astype(np.float32))
        self._softmax = ops.Softmax(-1)

    def __call__(self, logits: Tensor, temperature: float) -> Tensor:
        rows = ops.gather(ops.reshape(logits, (-1,)), self._gather, 0) / temperature + self._padding
        weights = ops.reshape(self._softmax(rows), (-1,))
        return ops.reshape(ops.gather(weights, self._scatter, 0) * self._mask, logits.shape)


class Gains:
    """The weights γ_e·α_{e,o} of one type of cell, cut up as its families need them.

    Computed once a step and shared by all cells of the type.

    Parameters
    ----------
    table : Tensor, shape (edges, operations)
    indices : dict
        Small index tensors made so far; kept from step to step.
    """

    def __init__(self, table: Tensor, indices: dict[tuple[int, ...], Tensor]) -> None:
        self._flat = ops.reshape(table, (-1,))
        self._indices = indices
        self._cut: dict[tuple[int, ...], Tensor] = {}

    def channels(self, operation: int, edges: tuple[int, ...], channels: int) -> Tensor:
        """Weights of one operation on the given edges, once for each channel: shape (edges·channels,)."""
        places = [edge * len(OPERATIONS) + operation for edge in edges for _ in range(channels)]
        return self._gathered((operation, channels, *edges), places)

    def block(self, operations: tuple[int, ...], edges: tuple[int, ...]) -> Tensor:
        """Weights of several operations, 0 where an edge lacks one: shape (edges, operations)."""
        places = [edge * len(OPERATIONS) + operation for edge in edges for operation in operations]
        return ops.reshape(self._gathered((*operations, -1, *edges), places), (len(edges), len(operations)))

    def _gathered(self, key: tuple[int, ...], places: list[int]) -> Tensor:
        if key not in self._cut:
            if key not in self._indices:
                self._indices[key] = Tensor(places, ms.int32)
            self._cut[key] = ops.gather(self._flat, self._indices[key], 0)
        return self._cut[key]


class Mixture:
    """α = softmax(α′ / T_α) in blocks and γ = A · softmax(β′ / T_β) of one type of cell (DOTS eq. 2 and 5-8)."""

    def __init__(self, kind: str, cell: CellSpec) -> None:
        self._alpha_name, self._beta_name = f"alpha.{kind}", f"beta.{kind}"
        self._alpha = BlockSoftmax(cell.operation_blocks) if cell.mixed else None
        self._beta: BlockSoftmax | None = None
        if cell.matrix is not None and cell.combination_blocks is not None:
            self._beta = BlockSoftmax(cell.combination_blocks)
            self._shares = Tensor(cell.matrix.shares.astype(np.float32))
        self._indices: dict[tuple[int, ...], Tensor] = {}

    def gains(self, architecture: Mapping[str, Tensor], temperature: Temperature) -> Gains | None:
        """Return the edges' weights; None where edges are added unweighted."""
        if self._alpha is None:
            return None
        table = self._alpha(architecture[self._alpha_name], temperature.alpha)
        if self._beta is not None:
            chosen = self._beta(architecture[self._beta_name], temperature.beta)
            table = table * ops.matmul(self._shares, ops.reshape(chosen, (-1, 1)))
        return Gains(table, self._indices)
