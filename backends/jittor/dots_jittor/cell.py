"""A cell, computed source by source."""

from __future__ import annotations

import numpy as np

from dots_core import stacking
from dots_core.operations import OPERATIONS
from dots_core.stacking import StackedCell
from dots_jittor.arrays import Var, upload
from dots_jittor.stack import Pass, Stack
from dots_jittor.startup import jt


class Gains:
    """The weights γ_e·α_{e,o} of one type of cell, cut up as its families need them.

    Computed once a step and shared by all cells of the type.
    """

    def __init__(self, table: Var) -> None:
        self._flat = table.reshape((-1,))
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


class _Split(jt.Function):
    """Cut a tensor into equal parts along channels.

    Jittor's own gradient of a slice is a tensor of the whole size, mostly 0, for every part.
    """

    def __init__(self, parts: int) -> None:
        super().__init__()
        self._parts = parts

    def execute(self, x: Var) -> list[Var]:
        width = x.shape[1] // self._parts
        self._shape = (x.shape[0], width, *x.shape[2:])
        self._dtype = x.dtype
        return [x[:, part * width : (part + 1) * width] for part in range(self._parts)]

    def grad(self, *dys: Var | None) -> Var:
        return jt.concat([jt.zeros(self._shape, self._dtype) if dy is None else dy for dy in dys], 1)


class Source:
    """Everything that flows out of one node of a cell."""

    def __init__(self, source: stacking.Source) -> None:
        self.edges = source.edges
        self._separate = [(family, Stack(family.stack)) for family in source.separate]
        self._common = [(family, Stack(family.stack)) for family in source.common]
        self._common_edges = source.common_edges

    def __call__(self, run: Pass, x: Var, gains: Gains | None) -> list[tuple[int, Var]]:
        """Return (edge number, weighted output) pairs; an edge may appear more than once."""
        terms: dict[tuple[int, ...], list[Var]] = {}
        for family, stack in self._separate:
            gain = None if gains is None else gains.column(family.operation, family.edges)
            terms.setdefault(family.edges, []).append(stack(run, x, gain))
        outputs: list[tuple[int, Var]] = []
        families = [family for family, _ in self._common]
        basis = [stack(run, x) for _, stack in self._common]
        if basis and gains is not None:
            factors = gains.block(tuple(family.operation for family in families), self._common_edges)
            terms.setdefault(self._common_edges, []).append(run.ops.mix(factors, basis))
        else:
            outputs += [(e, y) for family, y in zip(families, basis, strict=True) for e in family.edges]
        for edges, summands in terms.items():
            total = run.ops.add(summands)
            parts = [total] if len(edges) == 1 else _Split(len(edges))(total)
            outputs += zip(edges, parts, strict=True)
        return outputs


class Cell:
    """One cell of a network."""

    def __init__(self, cell: StackedCell) -> None:
        self.kind = cell.layout.kind
        self._name = cell.layout.name
        self._cell = cell.cell
        self._preprocess = [Stack(stack) for stack in cell.preprocess]
        self._sources = [Source(source) for source in cell.sources]

    def __call__(self, run: Pass, before: tuple[Var, Var], gains: Gains | None, keep: Var | None) -> Var:
        """Run the cell.

        Parameters
        ----------
        before : two Vars
            Outputs of the two previous cells, c_{k−2} first.
        gains : Gains or None
            None: edges are added unweighted.
        keep : Var, shape (edges, N), optional
            Drop-path factors.
        """
        nodes = [
            run.keep(f"{self._name}.{number}", stack(run, before[number]))
            for number, stack in enumerate(self._preprocess)
        ]
        pending: dict[int, list[Var]] = {}
        for number, source in enumerate(self._sources):
            if number >= 2:
                nodes.append(run.keep(f"{self._name}.{number}", run.ops.add(pending.pop(number))))
            if not source.edges:
                continue
            for edge, y in source(run, nodes[number], gains):
                term = y if keep is None else y * keep[edge].reshape((-1, 1, 1, 1))
                pending.setdefault(self._cell.edges[edge].target, []).append(term)
        return run.keep(self._name, jt.concat([nodes[number] for number in self._cell.concat], 1))
