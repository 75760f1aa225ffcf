"""A cell, computed source by source."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dots_core.engine import stacking
from dots_core.engine.stacking import StackedCell, StackedOperation
from dots_torch.mixture import EdgeWeights
from dots_torch.stack import ForwardContext, Stack, shuffled

Weighted = list[tuple[int, Tensor]]
"""Edge numbers and weighted outputs; an edge may appear more than once."""


class Source:
    """The mixed operations of all edges out of one node of a cell."""

    def __init__(self, source: stacking.Source) -> None:
        alone, common = source.separate, source.common
        # Edges that share results are combined by one matrix product; where none do (hard samples),
        # weighting the few results that are evaluated is less work.
        if all(len(family.edges) == 1 for family in common):
            alone, common = alone + common, ()
        self._alone = [(family, Stack(family.stack)) for family in alone]
        self._common = [(family, Stack(family.stack)) for family in common]
        self._common_edges = source.common_edges

    def __call__(self, context: ForwardContext, x: Tensor, edge_weights: EdgeWeights | None) -> Weighted:
        """Return what flows into the edges' targets."""
        rectified: Tensor | None = None
        sums: dict[tuple[int, ...], Tensor] = {}
        for family, stack in self._alone:
            if edge_weights is not None and not edge_weights.evaluated(family):
                continue
            if stack.rectified and rectified is None:
                rectified = F.relu(x)
            start = rectified if stack.rectified else x
            assert start is not None
            y = _weighted(context, family, stack, start, edge_weights)
            sums[family.edges] = sums[family.edges] + y if family.edges in sums else y
        outputs: Weighted = []
        for edges, y in sums.items():
            outputs += zip(edges, y.chunk(len(edges), 1), strict=True)
        return outputs + self._shared_outputs(context, x, edge_weights)

    def _shared_outputs(self, context: ForwardContext, x: Tensor, edge_weights: EdgeWeights | None) -> Weighted:
        pairs = [pair for pair in self._common if edge_weights is None or edge_weights.evaluated(pair[0])]
        if not pairs:
            return []
        basis = [stack(context, x) for _, stack in pairs]
        if edge_weights is None:
            return [(e, y) for (family, _), y in zip(pairs, basis, strict=True) for e in family.edges]
        # One matrix product gives every edge its combination of the tensors they share.
        factors = edge_weights.block(tuple(family.operation for family, _ in pairs), self._common_edges)
        last = basis[0].is_contiguous(memory_format=torch.channels_last)
        stacked = torch.stack([_flat(y, last) for y in basis])
        mixed = factors.to(stacked.dtype) @ stacked
        return [(e, _like(row, basis[0], last)) for e, row in zip(self._common_edges, mixed.unbind(0), strict=True)]


def _weighted(
    context: ForwardContext, family: StackedOperation, stack: Stack, x: Tensor, edge_weights: EdgeWeights | None
) -> Tensor:
    if edge_weights is None:
        return stack(context, x)
    edge_weight = edge_weights.column(family.operation, family.edges)
    if not family.stack.shared:
        return stack(context, x, edge_weight)
    y = stack(context, x)
    return y * edge_weight.to(y.dtype)


def _flat(x: Tensor, last: bool) -> Tensor:
    """All elements, channels last or first; without a copy where that is their order in memory."""
    return (x.permute(0, 2, 3, 1) if last else x).reshape(-1)


def _like(flat: Tensor, x: Tensor, last: bool) -> Tensor:
    """Undo `_flat` for a tensor of the same shape as ``x``."""
    n, c, h, w = x.shape
    return flat.view(n, h, w, c).permute(0, 3, 1, 2) if last else flat.view(n, c, h, w)


class Cell:
    """One cell of a network."""

    def __init__(self, cell: StackedCell) -> None:
        self.kind, self.name = cell.layout.kind, cell.layout.name
        self._cell, self._layout = cell.cell, cell.layout
        self._preprocess = [Stack(stack) for stack in cell.preprocess]
        self._sources = [Source(source) for source in cell.sources]
        self._bypasses = [None if source.bypass is None else Stack(source.bypass) for source in cell.sources]
        self._through = cell.layout.channels // cell.cell.partial

    def __call__(
        self,
        context: ForwardContext,
        before: tuple[Tensor, Tensor],
        edge_weights: EdgeWeights | None,
        keep: Tensor | None,
    ) -> Tensor:
        """Run the cell.

        Parameters
        ----------
        before : two tensors
            Outputs of the two previous cells, c_{k−2} first.
        edge_weights : EdgeWeights or None
            None: edges are added unweighted.
        keep : Tensor, shape (edges, N), optional
            Drop-path factors.
        """
        nodes = [
            context.passing(f"{self.name}.{number}", stack(context, F.relu(x)))
            for number, (stack, x) in enumerate(zip(self._preprocess, before, strict=True))
        ]
        # Sums over the edges into each node: of the mixed operations, and of the channels that pass by.
        mixed: dict[int, Tensor] = {}
        passed: dict[int, Tensor] = {}
        for number, source in enumerate(self._sources):
            if number >= 2:
                node = self._node(nodes[0], mixed.pop(number, None), passed.pop(number, None))
                nodes.append(context.passing(f"{self.name}.{number}", node))
            edges = self._cell.outgoing(number)
            if not edges:
                continue
            x, bypass = nodes[number], self._bypasses[number]
            if bypass is not None:
                # Both parts are copied: parts of a tensor are not dense, and most calls want that.
                split = x.split((self._through, x.shape[1] - self._through), 1)
                x, beside = (part.contiguous(memory_format=_format(x)) for part in split)
                y = bypass(context, beside)
                for edge in edges:
                    _add(passed, self._cell.edges[edge].target, y, _factor(edge_weights, keep, edge))
            for edge, y in source(context, x, edge_weights):
                _add(mixed, self._cell.edges[edge].target, y, None if keep is None else _by_sample(keep[edge]))
        return context.passing(self.name, torch.cat([nodes[number] for number in self._cell.concat], 1))

    def _node(self, like: Tensor, mixed: Tensor | None, passed: Tensor | None) -> Tensor:
        """An intermediate node from its two sums."""
        if mixed is None:
            # Every operation into the node is `none`.
            shape = (len(like), self._through, *self._layout.size)
            mixed = like.new_zeros(shape).contiguous(memory_format=_format(like))
        if passed is None:
            return mixed
        return shuffled((mixed, *passed.split(self._through, 1)))


def _factor(edge_weights: EdgeWeights | None, keep: Tensor | None, edge: int) -> Tensor | None:
    """γ times drop-path of an edge; None where that is 1."""
    gamma = None if edge_weights is None else edge_weights.edge(edge)
    if keep is None:
        return gamma
    kept = _by_sample(keep[edge])
    return kept if gamma is None else gamma * kept


def _by_sample(keep: Tensor) -> Tensor:
    return keep[:, None, None, None]


def _add(sums: dict[int, Tensor], target: int, y: Tensor, factor: Tensor | None) -> None:
    if factor is not None:
        y = y * factor.to(y.dtype)
    sums[target] = sums[target] + y if target in sums else y


def _format(x: Tensor) -> torch.memory_format:
    last = x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format
