"""The weights of operations and edges on an engine, from α′ and β′: the mathematics of mixing, for any framework.

α = softmax(α′ / T_α) in groups and γ = A · softmax(β′ / T_β) (DOTS eq. 2 and 5-8); hard samples are
straight-through (GDAS eq. 6-7): exactly 1 on the way forward, the softmax weight on the way back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dots_core.engine.batch import Draw
from dots_core.engine.stacking import StackedOperation
from dots_core.engine.tensors import Tensor, Tensors
from dots_core.search_space.cell import CellSpec
from dots_core.search_space.mixing import SoftmaxGroups, Temperature

Key = tuple[int, ...]


class GroupSoftmax:
    """Softmax within groups of logits (`dots_core.search_space.mixing.group_softmax`), on a device."""

    def __init__(self, groups: SoftmaxGroups, tensors: Tensors) -> None:
        self._tensors = tensors
        self._gather, self._scatter = tensors.indices(groups.gather), tensors.indices(groups.scatter)
        self._padding = tensors.upload(np.where(groups.padding, -np.inf, 0.0))
        self._mask = tensors.upload(groups.mask.ravel())
        self._offsets = None if groups.offsets is None else tensors.upload(groups.offsets)
        self._free = None if groups.free is None else tensors.upload(groups.free)

    def __call__(self, logits: Tensor, temperature: float, noise: NDArray[np.floating] | None = None) -> Tensor:
        """Return the softmax of (free·logits + offsets + noise) / temperature, 0 where masked."""
        shifted = logits if self._free is None else logits * self._free
        if self._offsets is not None:
            shifted = shifted + self._offsets
        tensors = self._tensors
        if noise is not None:
            shifted = shifted + tensors.upload(noise)
        rows = tensors.gather(shifted.reshape((-1,)), self._gather)
        weights = tensors.softmax(rows / tensors.number(temperature, rows) + self._padding)
        scattered = tensors.gather(weights.reshape((-1,)), self._scatter) * self._mask
        return scattered.reshape(tuple(logits.shape))


class EdgeWeights:
    """The weights of one type of cell in one pass, cut up as its stacked operations need them.

    Computed once a pass and shared by all cells of the type.

    Parameters
    ----------
    table : tensor, shape (edges, candidates)
        γ_e·α_{e,o}.
    gamma : tensor, shape (edges,), or None
        γ; None where it is 1.
    draw : Draw or None
        Says which operations are evaluated.
    indices : dict
        Indices made so far, kept from pass to pass: making them waits for the device.
    """

    def __init__(
        self, table: Tensor, gamma: Tensor | None, draw: Draw | None, tensors: Tensors, indices: dict[Key, Tensor]
    ) -> None:
        self._flat, self._gamma, self._draw = table.reshape((-1,)), gamma, draw
        self._candidates = table.shape[1]
        self._tensors, self._indices = tensors, indices
        self._cut: dict[tuple[bool, Key], Tensor] = {}

    def evaluated(self, operation: StackedOperation) -> bool:
        """Whether any edge's operation takes part in the pass."""
        return operation.evaluated(self._draw)

    def column(self, operation: int, edges: tuple[int, ...]) -> Tensor:
        """Weights of one operation on the given edges: shape (edges,)."""
        return self._gathered(tuple(edge * self._candidates + operation for edge in edges))

    def channels(self, operation: int, edges: tuple[int, ...], channels: int) -> Tensor:
        """Weights of one operation on the given edges, once for each channel: shape (edges·channels,)."""
        return self._gathered(tuple(edge * self._candidates + operation for edge in edges for _ in range(channels)))

    def block(self, operations: tuple[int, ...], edges: tuple[int, ...]) -> Tensor:
        """Weights of several operations, 0 where an edge lacks one: shape (edges, operations)."""
        places = tuple(edge * self._candidates + operation for edge in edges for operation in operations)
        return self._gathered(places).reshape((len(edges), len(operations)))

    def gamma(self, edges: tuple[int, ...]) -> Tensor | None:
        """γ of the given edges, shape (edges,); None where it is 1."""
        return None if self._gamma is None else self._gathered(edges, of_gamma=True)

    def _gathered(self, places: Key, of_gamma: bool = False) -> Tensor:
        key = (of_gamma, places)
        if key not in self._cut:
            if places not in self._indices:
                self._indices[places] = self._tensors.indices(np.array(places))
            self._cut[key] = self._tensors.gather(self._gamma if of_gamma else self._flat, self._indices[places])
        return self._cut[key]


class Mixture:
    """Makes the weights of one type of cell.

    Attributes
    ----------
    softmax : class
        `GroupSoftmax`, or a framework's own of the same parameters and call.
    """

    softmax: Any = GroupSoftmax

    def __init__(self, kind: str, cell: CellSpec, tensors: Tensors) -> None:
        self._kind, self._tensors = kind, tensors
        self._alpha: Any = self.softmax(cell.operation_groups, tensors) if cell.mixed else None
        self._beta: Any = None
        if cell.matrix is not None and cell.combination_groups is not None:
            self._beta = self.softmax(cell.combination_groups, tensors)
            self._shares = tensors.upload(cell.matrix.shares)
        self._ones = tensors.upload(np.ones((len(cell.edges), len(cell.candidates))))
        self._indices: dict[Key, Tensor] = {}

    def __call__(
        self, architecture: Mapping[str, Tensor], temperature: Temperature, draw: Draw | None
    ) -> EdgeWeights | None:
        """Return the weights of one pass; None where operations and edges are added unweighted."""
        if self._alpha is None and self._beta is None:
            return None
        table, gamma = self._ones, None
        if self._alpha is not None:
            table = self._operations(architecture[f"alpha.{self._kind}"], temperature.alpha, draw)
        if self._beta is not None:
            chances = self._beta(architecture[f"beta.{self._kind}"], temperature.beta)
            gamma = self._tensors.matvec(self._shares, chances)
            table = table * gamma.reshape((-1, 1))
        return self.cut_up(table, gamma, draw)

    def _operations(self, alpha: Tensor, temperature: float, draw: Draw | None) -> Tensor:
        weights = self._alpha(alpha, temperature, None if draw is None else draw.noise)
        return weights if draw is None or draw.chosen is None else self.chosen(weights, draw.chosen)

    def chosen(self, weights: Tensor, chosen: NDArray[np.bool_]) -> Tensor:
        """Return 1 for what was chosen and 0 for the rest, with the gradient of the softmax weights.

        All have the shape (edges, operations).
        """
        tensors = self._tensors
        one = tensors.number(1.0, weights)
        return tensors.upload(chosen) * (one + (weights - tensors.detached(weights)))

    def cut_up(self, table: Tensor, gamma: Tensor | None, draw: Draw | None) -> EdgeWeights:
        """Return what cells read of the table γ·α, shape (edges, candidates), and γ."""
        return EdgeWeights(table, gamma, draw, self._tensors, self._indices)
