"""A cell, computed source by source."""

from __future__ import annotations

from dots_core.engine import stacking
from dots_core.engine.batch import Draw
from dots_core.engine.stacking import StackedCell
from dots_jittor.arrays import Var
from dots_jittor.branching import fork, split
from dots_jittor.edge_weights import EdgeWeights
from dots_jittor.stack import ForwardContext, Stack
from dots_jittor.startup import jt


class Source:
    """Everything that flows out of one node of a cell.

    Parameters
    ----------
    partial : int
        K of `dots_core.search_space.cell.CellSpec.partial`.
    alone : bool
        Whether every edge's operations are on their own, because samples leave some out.
    """

    def __init__(self, source: stacking.Source, partial: int, alone: bool) -> None:
        self.edges = source.edges
        self._partial, self._alone = partial, alone
        self._separate = [(family, Stack(family.stack)) for family in source.separate]
        self._common = [(family, Stack(family.stack)) for family in source.common]
        self._common_edges = source.common_edges
        self._bypass = None if source.bypass is None else Stack(source.bypass)

    def __call__(
        self, context: ForwardContext, x: Var, edge_weights: EdgeWeights | None, draw: Draw | None
    ) -> tuple[list[tuple[int, Var]], Var | None]:
        """Return (edge number, weighted output) pairs, where an edge may appear more than once, and what passes by."""
        passing = None
        if self._bypass is not None:
            through = x.shape[1] // self._partial
            x, rest = split(x, (through, x.shape[1] - through))
            passing = self._bypass(context, rest)
        if self._alone:
            assert edge_weights is not None
            return self._edge_by_edge(context, x, edge_weights, draw), passing
        return self._together(context, x, edge_weights), passing

    def _together(self, context: ForwardContext, x: Var, edge_weights: EdgeWeights | None) -> list[tuple[int, Var]]:
        terms: dict[tuple[int, ...], list[Var]] = {}
        for family, stack in self._separate:
            edge_weight = None if edge_weights is None else edge_weights.column(family.operation, family.edges)
            terms.setdefault(family.edges, []).append(stack(context, x, edge_weight))
        outputs: list[tuple[int, Var]] = []
        families = [family for family, _ in self._common]
        basis = [stack(context, x) for _, stack in self._common]
        if basis and edge_weights is not None:
            factors = edge_weights.block(tuple(family.operation for family in families), self._common_edges)
            terms.setdefault(self._common_edges, []).append(context.ops.mix(factors, basis))
        else:
            outputs += [(e, y) for family, y in zip(families, basis, strict=True) for e in family.edges]
        for edges, summands in terms.items():
            total = context.ops.add(summands)
            outputs += zip(edges, split(total, (total.shape[1] // len(edges),) * len(edges)), strict=True)
        return outputs

    def _edge_by_edge(
        self, context: ForwardContext, x: Var, edge_weights: EdgeWeights, draw: Draw | None
    ) -> list[tuple[int, Var]]:
        evaluated = [pair for pair in (*self._separate, *self._common) if pair[0].evaluated(draw)]
        terms: dict[int, list[Var]] = {}
        for (family, stack), copy in zip(evaluated, fork(context.ops, x, len(evaluated)), strict=True):
            (edge,) = family.edges
            edge_weight = edge_weights.column(family.operation, family.edges)
            shared = family.stack.shared
            y = (
                context.ops.mix(edge_weight.reshape((1, 1)), [stack(context, copy)])
                if shared
                else stack(context, copy, edge_weight)
            )
            terms.setdefault(edge, []).append(y)
        return [(edge, context.ops.add(summands)) for edge, summands in terms.items()]


class Cell:
    """One cell of a network."""

    def __init__(self, cell: StackedCell) -> None:
        self.kind = cell.layout.kind
        self._name = cell.layout.name
        self._layout = cell.layout
        self._cell = cell.cell
        self._preprocess = [Stack(stack) for stack in cell.preprocess]
        alone = cell.cell.sampling == "hard"
        self._sources = [Source(source, cell.cell.partial, alone) for source in cell.sources]

    def __call__(
        self,
        context: ForwardContext,
        before: tuple[Var, Var],
        edge_weights: EdgeWeights | None,
        keep: Var | None,
        draw: Draw | None,
    ) -> Var:
        """Run the cell.

        Parameters
        ----------
        before : two Vars
            Outputs of the two previous cells, c_{k−2} first.
        edge_weights : EdgeWeights or None
            None: edges are added unweighted.
        keep : Var, shape (edges, N), optional
            Drop-path factors.
        draw : Draw, optional
        """
        nodes = [
            context.keep(f"{self._name}.{number}", stack(context, before[number]))
            for number, stack in enumerate(self._preprocess)
        ]
        pending: dict[int, list[Var]] = {}
        passing: dict[int, list[tuple[int, Var]]] = {}
        for number, source in enumerate(self._sources):
            if number >= 2:
                node = self._node(
                    context, nodes[0].shape[0], pending.pop(number, []), passing.pop(number, []), edge_weights
                )
                nodes.append(context.keep(f"{self._name}.{number}", node))
            if not source.edges:
                continue
            outputs, rest = source(context, nodes[number], edge_weights, draw)
            for edge, y in outputs:
                pending.setdefault(self._cell.edges[edge].target, []).append(_kept(y, keep, edge))
            for edge in () if rest is None else source.edges:
                passing.setdefault(self._cell.edges[edge].target, []).append((edge, _kept(rest, keep, edge)))
        return context.keep(self._name, jt.concat([nodes[number] for number in self._cell.concat], 1))

    def _node(
        self,
        context: ForwardContext,
        samples: int,
        terms: list[Var],
        passing: list[tuple[int, Var]],
        edge_weights: EdgeWeights | None,
    ) -> Var:
        """An intermediate node, from what its edges bring."""
        if terms:
            mixed = context.ops.add(terms)
        else:
            # Samples chose `none` on every edge.
            channels = self._layout.channels // self._cell.partial
            mixed = context.constants.zeros((samples, channels, *self._layout.size))
            mixed = mixed.clone().start_grad() if context.trace else mixed
        if not passing:
            return mixed
        basis = [y for _, y in passing]
        factors = None if edge_weights is None else edge_weights.edges(tuple(edge for edge, _ in passing))
        rest = context.ops.add(basis) if factors is None else context.ops.mix(factors, basis)
        return context.ops.interleave(mixed, rest, self._cell.partial)


def _kept(y: Var, keep: Var | None, edge: int) -> Var:
    return y if keep is None else y * keep[edge].reshape((-1, 1, 1, 1))
