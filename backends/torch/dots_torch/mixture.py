"""Weights of operations and edges on a device: α, γ, and what each family of a cell needs of them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from dots_core.engine.batch import Draw
from dots_core.engine.stacking import StackedOperation
from dots_core.search_space.cell import CellSpec
from dots_core.search_space.mixing import SoftmaxGroups, Temperature
from dots_core.search_space.operations import OPERATIONS
from dots_torch.runtime import DeviceContext


class GroupSoftmax:
    """Softmax within groups of logits, on a device (see `dots_core.search_space.mixing`)."""

    def __init__(self, groups: SoftmaxGroups, device: torch.device, dtype: torch.dtype) -> None:
        self._gather = torch.from_numpy(groups.gather).to(device)
        self._padding = torch.from_numpy(groups.padding).to(device)
        self._scatter = torch.from_numpy(groups.scatter).to(device)
        self._mask = torch.from_numpy(groups.mask.ravel()).to(device, dtype)
        self._offsets = None if groups.offsets is None else torch.from_numpy(groups.offsets).to(device, dtype)
        self._free = None if groups.free is None else torch.from_numpy(groups.free).to(device, dtype)

    def __call__(self, logits: Tensor, temperature: float, noise: Tensor | None = None) -> Tensor:
        """Return the softmax of (free·logits + offsets + noise) / temperature, 0 where masked."""
        shifted = logits if self._free is None else logits * self._free
        if self._offsets is not None:
            shifted = shifted + self._offsets
        if noise is not None:
            shifted = shifted + noise
        rows = shifted.reshape(-1).index_select(0, self._gather.reshape(-1)).view_as(self._gather) / temperature
        weights = torch.softmax(rows.masked_fill(self._padding, -torch.inf), -1)
        return (weights.reshape(-1).index_select(0, self._scatter) * self._mask).view_as(logits)


class EdgeWeights:
    """The weights of one type of cell in one pass, cut up as its families need them.

    Computed once a pass and shared by all cells of the type.

    Parameters
    ----------
    table : Tensor, shape (edges, all operations)
        γ_e·α_{e,o}.
    gamma : Tensor, shape (edges,), or None
        γ; None where it is 1.
    draw : Draw or None
        Says which operations are evaluated.
    """

    def __init__(self, table: Tensor, gamma: Tensor | None = None, draw: Draw | None = None) -> None:
        self._table, self._draw = table, draw
        self._flat = table.reshape(-1)
        self._gamma = None if gamma is None else gamma.unbind()
        self._cut: dict[tuple[int, ...], Tensor] = {}

    def evaluated(self, family: StackedOperation) -> bool:
        """Whether any operation of a family takes part in the pass."""
        return family.evaluated(self._draw)

    def edge(self, number: int) -> Tensor | None:
        """γ of an edge, shape (); None where it is 1."""
        return None if self._gamma is None else self._gamma[number]

    def column(self, operation: int, edges: tuple[int, ...]) -> Tensor:
        """Weights of one operation on the given edges: shape (edges,)."""
        key = (operation, *edges)
        if key not in self._cut:
            index = [edge * len(OPERATIONS) + operation for edge in edges]
            self._cut[key] = self._flat.index_select(0, _index(index, self._table.device))
        return self._cut[key]

    def block(self, operations: tuple[int, ...], edges: tuple[int, ...]) -> Tensor:
        """Weights of several operations, 0 where an edge lacks one: shape (edges, operations)."""
        key = (-1, *operations, -1, *edges)
        if key not in self._cut:
            rows = self._table.index_select(0, _index(list(edges), self._table.device))
            self._cut[key] = rows.index_select(1, _index(list(operations), self._table.device))
        return self._cut[key]


_INDICES: dict[tuple[tuple[int, ...], torch.device], Tensor] = {}


def _index(values: list[int], device: torch.device) -> Tensor:
    """A small index tensor, made once: making one on every step would wait for the device."""
    key = (tuple(values), device)
    if key not in _INDICES:
        _INDICES[key] = torch.tensor(values, dtype=torch.int64, device=device)
    return _INDICES[key]


class Mixture:
    """α and γ of one type of cell: α = softmax(α′ / T_α) in groups, γ = A · softmax(β′ / T_β) (DOTS eq. 2, 5-8)."""

    def __init__(self, kind: str, cell: CellSpec, device_context: DeviceContext) -> None:
        self._alpha_name, self._beta_name = f"alpha.{kind}", f"beta.{kind}"
        self._device_context = device_context
        device, dtype = device_context.device, device_context.dtype
        self._ones = torch.ones((len(cell.edges), len(OPERATIONS)), device=device, dtype=dtype)
        self._alpha = GroupSoftmax(cell.operation_groups, device, dtype) if cell.mixed else None
        self._beta: GroupSoftmax | None = None
        if cell.matrix is not None and cell.combination_groups is not None:
            self._beta = GroupSoftmax(cell.combination_groups, device, dtype)
            self._shares = torch.from_numpy(cell.matrix.shares).to(device, dtype)

    def __call__(
        self, architecture: Mapping[str, Tensor], temperature: Temperature, draw: Draw | None
    ) -> EdgeWeights | None:
        """Return the weights of one pass; None where operations and edges are added unweighted."""
        if self._alpha is None and self._beta is None:
            return None
        table, gamma = self._ones, None
        if self._alpha is not None:
            table = self._operations(self._alpha, architecture[self._alpha_name], temperature.alpha, draw)
        if self._beta is not None:
            gamma = self._shares @ self._beta(architecture[self._beta_name], temperature.beta)
            table = table * gamma[:, None]
        return EdgeWeights(table, gamma, draw)

    def _operations(self, softmax: GroupSoftmax, alpha: Tensor, temperature: float, draw: Draw | None) -> Tensor:
        p = self._device_context
        weights = softmax(alpha, temperature, None if draw is None else p.upload(draw.noise).to(p.dtype))
        if draw is None or draw.chosen is None:
            return weights
        # Straight-through (GDAS eq. 6-7): exactly 1 on the way forward, the softmax weight on the way back.
        return p.upload(draw.chosen).to(p.dtype) * (1 + (weights - weights.detach()))
