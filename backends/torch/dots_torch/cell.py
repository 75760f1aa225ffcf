"""A cell, computed source by source."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dots_core import stacking
from dots_core.operations import OPERATIONS
from dots_core.stacking import StackedCell
from dots_torch.stack import Pass, Stack


class Gains:
    """The weights γ_e·α_{e,o} of one type of cell, cut up as its families need them.

    Computed once a step and shared by all cells of the type.
    """

    def __init__(self, table: Tensor) -> None:
        self._table = table
        self._cut: dict[tuple[int, ...], Tensor] = {}

    def column(self, operation: int, edges: tuple[int, ...]) -> Tensor:
        """Weights of one operation on the given edges: shape (edges,)."""
        key = (operation, *edges)
        if key not in self._cut:
            index = [edge * len(OPERATIONS) + operation for edge in edges]
            self._cut[key] = self._table.reshape(-1).index_select(0, _index(index, self._table.device))
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


class Source:
    """Everything that flows out of one node of a cell."""

    def __init__(self, source: stacking.Source) -> None:
        self.edges = source.edges
        self._separate = [(family, Stack(family.stack)) for family in source.separate]
        self._common = [(family, Stack(family.stack)) for family in source.common]
        self._common_edges = source.common_edges

    def __call__(self, run: Pass, x: Tensor, gains: Gains | None) -> list[tuple[int, Tensor]]:
        """Return (edge number, weighted output) pairs; an edge may appear more than once."""
        rectified: Tensor | None = None
        sums: dict[tuple[int, ...], Tensor] = {}
        for family, stack in self._separate:
            if stack.rectified and rectified is None:
                rectified = F.relu(x)
            start = rectified if stack.rectified else x
            assert start is not None
            gain = None if gains is None else gains.column(family.operation, family.edges)
            y = stack(run, start, gain)
            sums[family.edges] = sums[family.edges] + y if family.edges in sums else y
        outputs: list[tuple[int, Tensor]] = []
        for edges, y in sums.items():
            outputs += zip(edges, y.chunk(len(edges), 1), strict=True)
        return outputs + self._shared_outputs(run, x, gains)

    def _shared_outputs(self, run: Pass, x: Tensor, gains: Gains | None) -> list[tuple[int, Tensor]]:
        if not self._common:
            return []
        families = [family for family, _ in self._common]
        basis = [stack(run, x) for _, stack in self._common]
        if gains is None:
            return [(e, y) for family, y in zip(families, basis, strict=True) for e in family.edges]
        # One matrix product gives every edge its combination of the tensors they share.
        factors = gains.block(tuple(f.operation for f in families), self._common_edges)
        stacked = torch.stack([_flat(y) for y in basis])
        mixed = factors.to(stacked.dtype) @ stacked
        return [(e, _like(row, basis[0])) for e, row in zip(self._common_edges, mixed.unbind(0), strict=True)]


def _flat(x: Tensor) -> Tensor:
    """All elements in memory order, without a copy."""
    if x.is_contiguous(memory_format=torch.channels_last):
        return x.permute(0, 2, 3, 1).reshape(-1)
    return x.reshape(-1)


def _like(flat: Tensor, x: Tensor) -> Tensor:
    """Undo `_flat` for a tensor of the same shape and format as ``x``."""
    n, c, h, w = x.shape
    if x.is_contiguous(memory_format=torch.channels_last):
        return flat.view(n, h, w, c).permute(0, 3, 1, 2)
    return flat.view(n, c, h, w)


class Cell:
    """One cell of a network."""

    def __init__(self, cell: StackedCell) -> None:
        self.kind, self.name = cell.layout.kind, cell.layout.name
        self._cell = cell.cell
        self._preprocess = [Stack(stack) for stack in cell.preprocess]
        self.sources = [Source(source) for source in cell.sources]

    def __call__(self, run: Pass, before: tuple[Tensor, Tensor], gains: Gains | None, keep: Tensor | None) -> Tensor:
        """Run the cell.

        Parameters
        ----------
        before : two tensors
            Outputs of the two previous cells, c_{k−2} first.
        gains : Gains or None
            None: edges are added unweighted.
        keep : Tensor, shape (edges, N), optional
            Drop-path factors.
        """
        nodes = [
            run.passing(f"{self.name}.{number}", stack(run, F.relu(x)))
            for number, (stack, x) in enumerate(zip(self._preprocess, before, strict=True))
        ]
        pending: dict[int, Tensor] = {}
        for number, source in enumerate(self.sources):
            if number >= 2:
                nodes.append(run.passing(f"{self.name}.{number}", pending.pop(number)))
            if not source.edges:
                continue
            for edge, y in source(run, nodes[number], gains):
                if keep is not None:
                    y = y * keep[edge].to(y.dtype)[:, None, None, None]
                target = self._cell.edges[edge].target
                pending[target] = pending[target] + y if target in pending else y
        return run.passing(self.name, torch.cat([nodes[number] for number in self._cell.concat], 1))
