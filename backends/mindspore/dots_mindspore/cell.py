"""A cell, computed source by source."""

from __future__ import annotations

from collections.abc import Sequence

import mindspore as ms
from mindspore import Tensor, ops

from dots_core.engine import stacking
from dots_core.engine.stacking import StackedCell
from dots_mindspore.channels import shuffler, splitter
from dots_mindspore.mixture import EdgeWeights
from dots_mindspore.runtime import DeviceContext
from dots_mindspore.stack import ForwardContext, Stack

Weighted = list[tuple[int, Tensor]]
"""Edge numbers and weighted outputs; an edge may appear more than once."""


class Source:
    """Everything that flows out of one node of a cell."""

    def __init__(self, source: stacking.Source, cell: StackedCell, device_context: DeviceContext) -> None:
        channels, partial = cell.layout.channels, cell.cell.partial
        self.edges = source.edges
        self._through = channels // partial
        self._separate = [(family, Stack(family.stack, device_context)) for family in source.separate]
        self._common = [(family, Stack(family.stack, device_context)) for family in source.common]
        self._common_edges = source.common_edges
        # Families of hard samples are each of one edge, and share no results.
        self._sampled = cell.cell.sampling == "hard"
        self._split = splitter((self._through,), device_context)
        self._bypass: Stack | None = None
        if source.bypass is not None:
            self._bypass = Stack(source.bypass, device_context)
            self._part = splitter((self._through, channels - self._through), device_context)

    def __call__(
        self, context: ForwardContext, x: Tensor, edge_weights: EdgeWeights | None
    ) -> tuple[Weighted, Weighted]:
        """Return what flows into the edges' targets: of the mixed operations, and of the channels that pass by."""
        if self._bypass is None:
            return self._mixed(context, x, edge_weights), []
        x, beside = self._part(x)
        return self._mixed(context, x, edge_weights), self._passed(self._bypass(context, beside), edge_weights)

    def _mixed(self, context: ForwardContext, x: Tensor, edge_weights: EdgeWeights | None) -> Weighted:
        rectified: Tensor | None = None
        sums: dict[tuple[int, ...], Tensor] = {}
        for family, stack in self._separate:
            if edge_weights is not None and not edge_weights.evaluated(family):
                continue
            if stack.rectified and rectified is None:
                rectified = ops.relu(x)
            start = rectified if stack.rectified else x
            edge_weight = (
                None if edge_weights is None else edge_weights.channels(family.operation, family.edges, self._through)
            )
            y = stack(context, start, edge_weight)
            sums[family.edges] = sums[family.edges] + y if family.edges in sums else y
        outputs: Weighted = []
        common = self._shared_outputs(context, x, edge_weights)
        for edges, y in sums.items():
            outputs += zip(edges, self._split(y), strict=True)
        return outputs + common

    def _shared_outputs(self, context: ForwardContext, x: Tensor, edge_weights: EdgeWeights | None) -> Weighted:
        if not self._common:
            return []
        if edge_weights is not None and self._sampled:
            return [
                (family.edges[0], stack(context, x) * edge_weights.block((family.operation,), family.edges))
                for family, stack in self._common
                if edge_weights.evaluated(family)
            ]
        families = [family for family, _ in self._common]
        basis = [stack(context, x) for _, stack in self._common]
        if edge_weights is None:
            return [(e, y) for family, y in zip(families, basis, strict=True) for e in family.edges]
        # One matrix product gives every edge its combination of the tensors they share.
        factors = edge_weights.block(tuple(f.operation for f in families), self._common_edges)
        return list(zip(self._common_edges, _combined(factors, basis), strict=True))

    def _passed(self, y: Tensor, edge_weights: EdgeWeights | None) -> Weighted:
        gamma = None if edge_weights is None else edge_weights.shares(self.edges)
        if gamma is None:
            return [(e, y) for e in self.edges]
        return list(zip(self.edges, _combined(gamma, [y]), strict=True))


def _combined(factors: Tensor, basis: Sequence[Tensor]) -> Sequence[Tensor]:
    """Sums of tensors of one shape: one for each row of the factors, shape (sums, tensors)."""
    stacked = ops.reshape(ops.stack(basis), (len(basis), -1))
    mixed = ops.reshape(ops.matmul(factors, stacked), (factors.shape[0], *basis[0].shape))
    return ops.unbind(mixed, 0)


class Cell:
    """One cell of a network."""

    def __init__(self, cell: StackedCell, device_context: DeviceContext) -> None:
        self.kind, self.name = cell.layout.kind, cell.layout.name
        self._cell, self._layout = cell.cell, cell.layout
        self._preprocess = [Stack(stack, device_context) for stack in cell.preprocess]
        self._sources = [Source(source, cell, device_context) for source in cell.sources]
        self._shuffle = shuffler(cell.layout.channels, cell.cell.partial, device_context)

    def __call__(
        self,
        context: ForwardContext,
        before: tuple[Tensor, Tensor],
        edge_weights: EdgeWeights | None,
        keep: Sequence[Tensor] | None,
    ) -> Tensor:
        """Run the cell.

        Parameters
        ----------
        before : two tensors
            Outputs of the two previous cells, c_{k−2} first.
        edge_weights : EdgeWeights or None
            None: edges are added unweighted.
        keep : one tensor of shape (N, 1, 1, 1) an edge, optional
            Drop-path factors.
        """
        nodes = [
            context.passing(f"{self.name}.{number}", stack(context, ops.relu(x)))
            for number, (stack, x) in enumerate(zip(self._preprocess, before, strict=True))
        ]
        # Sums over the edges into each node: of the mixed operations, and of the channels that pass by.
        mixed: dict[int, Tensor] = {}
        passed: dict[int, Tensor] = {}
        for number, source in enumerate(self._sources):
            if number >= 2:
                node = self._node(before[0].shape[0], mixed.pop(number, None), passed.pop(number, None))
                nodes.append(context.passing(f"{self.name}.{number}", node))
            if not source.edges:
                continue
            for sums, weighted in zip((mixed, passed), source(context, nodes[number], edge_weights), strict=True):
                for edge, y in weighted:
                    if keep is not None:
                        y = y * keep[edge]
                    target = self._cell.edges[edge].target
                    sums[target] = sums[target] + y if target in sums else y
        return context.passing(self.name, ops.concat([nodes[number] for number in self._cell.concat], 1))

    def _node(self, samples: int, mixed: Tensor | None, passed: Tensor | None) -> Tensor:
        """An intermediate node from its two sums."""
        if mixed is None:
            # Every operation into the node is `none`.
            channels = self._layout.channels // self._cell.partial
            mixed = ops.zeros((samples, channels, *self._layout.size), ms.float32)
        return mixed if passed is None else self._shuffle(ops.concat([mixed, passed], 1))
