"""A cell, computed source by source."""

from __future__ import annotations

from dots_core.engine import stacking
from dots_core.engine.batch import Draw
from dots_core.engine.stacking import StackedCell
from dots_jittor.arrays import Var
from dots_jittor.branching import fork, split
from dots_jittor.gains import Gains
from dots_jittor.stack import Pass, Stack
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
        self, run: Pass, x: Var, gains: Gains | None, draw: Draw | None
    ) -> tuple[list[tuple[int, Var]], Var | None]:
        """Return (edge number, weighted output) pairs, where an edge may appear more than once, and what passes by."""
        passing = None
        if self._bypass is not None:
            through = x.shape[1] // self._partial
            x, rest = split(x, (through, x.shape[1] - through))
            passing = self._bypass(run, rest)
        if self._alone:
            assert gains is not None
            return self._edge_by_edge(run, x, gains, draw), passing
        return self._together(run, x, gains), passing

    def _together(self, run: Pass, x: Var, gains: Gains | None) -> list[tuple[int, Var]]:
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
            outputs += zip(edges, split(total, (total.shape[1] // len(edges),) * len(edges)), strict=True)
        return outputs

    def _edge_by_edge(self, run: Pass, x: Var, gains: Gains, draw: Draw | None) -> list[tuple[int, Var]]:
        evaluated = [pair for pair in (*self._separate, *self._common) if pair[0].evaluated(draw)]
        terms: dict[int, list[Var]] = {}
        for (family, stack), copy in zip(evaluated, fork(run.ops, x, len(evaluated)), strict=True):
            (edge,) = family.edges
            gain = gains.column(family.operation, family.edges)
            shared = family.stack.shared
            y = run.ops.mix(gain.reshape((1, 1)), [stack(run, copy)]) if shared else stack(run, copy, gain)
            terms.setdefault(edge, []).append(y)
        return [(edge, run.ops.add(summands)) for edge, summands in terms.items()]


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
        self, run: Pass, before: tuple[Var, Var], gains: Gains | None, keep: Var | None, draw: Draw | None
    ) -> Var:
        """Run the cell.

        Parameters
        ----------
        before : two Vars
            Outputs of the two previous cells, c_{k−2} first.
        gains : Gains or None
            None: edges are added unweighted.
        keep : Var, shape (edges, N), optional
            Drop-path factors.
        draw : Draw, optional
        """
        nodes = [
            run.keep(f"{self._name}.{number}", stack(run, before[number]))
            for number, stack in enumerate(self._preprocess)
        ]
        pending: dict[int, list[Var]] = {}
        passing: dict[int, list[tuple[int, Var]]] = {}
        for number, source in enumerate(self._sources):
            if number >= 2:
                node = self._node(run, nodes[0].shape[0], pending.pop(number, []), passing.pop(number, []), gains)
                nodes.append(run.keep(f"{self._name}.{number}", node))
            if not source.edges:
                continue
            outputs, rest = source(run, nodes[number], gains, draw)
            for edge, y in outputs:
                pending.setdefault(self._cell.edges[edge].target, []).append(_kept(y, keep, edge))
            for edge in () if rest is None else source.edges:
                passing.setdefault(self._cell.edges[edge].target, []).append((edge, _kept(rest, keep, edge)))
        return run.keep(self._name, jt.concat([nodes[number] for number in self._cell.concat], 1))

    def _node(
        self, run: Pass, samples: int, terms: list[Var], passing: list[tuple[int, Var]], gains: Gains | None
    ) -> Var:
        """An intermediate node, from what its edges bring."""
        if terms:
            mixed = run.ops.add(terms)
        else:
            # Samples chose `none` on every edge.
            channels = self._layout.channels // self._cell.partial
            mixed = run.constants.zeros((samples, channels, *self._layout.size))
            mixed = mixed.clone().start_grad() if run.trace else mixed
        if not passing:
            return mixed
        basis = [y for _, y in passing]
        factors = None if gains is None else gains.edges(tuple(edge for edge, _ in passing))
        rest = run.ops.add(basis) if factors is None else run.ops.mix(factors, basis)
        return run.ops.interleave(mixed, rest, self._cell.partial)


def _kept(y: Var, keep: Var | None, edge: int) -> Var:
    return y if keep is None else y * keep[edge].reshape((-1, 1, 1, 1))
