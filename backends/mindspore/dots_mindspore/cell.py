"""A cell, computed source by source."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from mindspore import Tensor, ops

from dots_core import stacking
from dots_core.stacking import StackedCell
from dots_mindspore.mixture import Gains
from dots_mindspore.runtime import Place
from dots_mindspore.stack import Pass, Stack


class Source:
    """Everything that flows out of one node of a cell."""

    def __init__(self, source: stacking.Source, channels: int, place: Place) -> None:
        self.edges = source.edges
        self._channels = channels
        self._separate = [(family, Stack(family.stack, place)) for family in source.separate]
        self._common = [(family, Stack(family.stack, place)) for family in source.common]
        self._common_edges = source.common_edges
        self._split = _splitter(channels, place)

    def __call__(self, run: Pass, x: Tensor, gains: Gains | None) -> list[tuple[int, Tensor]]:
        """Return (edge number, weighted output) pairs; an edge may appear more than once."""
        rectified: Tensor | None = None
        sums: dict[tuple[int, ...], Tensor] = {}
        for family, stack in self._separate:
            if stack.rectified and rectified is None:
                rectified = ops.relu(x)
            start = rectified if stack.rectified else x
            gain = None if gains is None else gains.channels(family.operation, family.edges, self._channels)
            y = stack(run, start, gain)
            sums[family.edges] = sums[family.edges] + y if family.edges in sums else y
        outputs: list[tuple[int, Tensor]] = []
        common = self._shared_outputs(run, x, gains)
        for edges, y in sums.items():
            outputs += zip(edges, self._split(y), strict=True)
        return outputs + common

    def _shared_outputs(self, run: Pass, x: Tensor, gains: Gains | None) -> list[tuple[int, Tensor]]:
        if not self._common:
            return []
        families = [family for family, _ in self._common]
        basis = [stack(run, x) for _, stack in self._common]
        if gains is None:
            return [(e, y) for family, y in zip(families, basis, strict=True) for e in family.edges]
        # One matrix product gives every edge its combination of the tensors they share.
        factors = gains.block(tuple(f.operation for f in families), self._common_edges)
        stacked = ops.reshape(ops.stack(basis), (len(basis), -1))
        mixed = ops.reshape(ops.matmul(factors, stacked), (len(self._common_edges), *basis[0].shape))
        return list(zip(self._common_edges, ops.unbind(mixed, 0), strict=True))


def _splitter(channels: int, place: Place) -> Callable[[Tensor], Sequence[Tensor]]:
    """Return a function that cuts (N, m·channels, H, W) into m tensors of (N, channels, H, W)."""
    if not place.choices.split_by_convolution:
        return lambda y: ops.split(y, channels, 1)
    select = ops.Conv2D(channels, 1)
    kernels: dict[int, list[Tensor]] = {}

    def split(y: Tensor) -> list[Tensor]:
        whole = y.shape[1]
        if whole == channels:
            return [y]
        if whole not in kernels:
            rows = np.eye(whole, dtype=np.float32).reshape(-1, channels, whole, 1, 1)
            kernels[whole] = [Tensor(row) for row in rows]
        return [select(y, kernel) for kernel in kernels[whole]]

    return split


class Cell:
    """One cell of a network."""

    def __init__(self, cell: StackedCell, place: Place) -> None:
        self.kind, self.name = cell.layout.kind, cell.layout.name
        self._cell = cell.cell
        self._preprocess = [Stack(stack, place) for stack in cell.preprocess]
        self._sources = [Source(source, cell.layout.channels, place) for source in cell.sources]

    def __call__(
        self, run: Pass, before: tuple[Tensor, Tensor], gains: Gains | None, keep: Sequence[Tensor] | None
    ) -> Tensor:
        """Run the cell.

        Parameters
        ----------
        before : two tensors
            Outputs of the two previous cells, c_{k−2} first.
        gains : Gains or None
            None: edges are added unweighted.
        keep : one tensor of shape (N, 1, 1, 1) an edge, optional
            Drop-path factors.
        """
        nodes = [
            run.passing(f"{self.name}.{number}", stack(run, ops.relu(x)))
            for number, (stack, x) in enumerate(zip(self._preprocess, before, strict=True))
        ]
        pending: dict[int, Tensor] = {}
        for number, source in enumerate(self._sources):
            if number >= 2:
                nodes.append(run.passing(f"{self.name}.{number}", pending.pop(number)))
            if not source.edges:
                continue
            for edge, y in source(run, nodes[number], gains):
                if keep is not None:
                    y = y * keep[edge]
                target = self._cell.edges[edge].target
                pending[target] = pending[target] + y if target in pending else y
        return run.passing(self.name, ops.concat([nodes[number] for number in self._cell.concat], 1))
