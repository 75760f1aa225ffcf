"""What a cell does with feature maps on Jittor, and how the edges out of one of its nodes are run."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dots_core.engine import stacking
from dots_core.engine.forward import FeatureMaps, Weighted
from dots_core.engine.mixture import EdgeWeights
from dots_core.engine.stacking import StackedCell
from dots_jittor.arrays import Var
from dots_jittor.branching import fork, split
from dots_jittor.primitives import Primitives
from dots_jittor.stack import ForwardContext, Stack
from dots_jittor.startup import jt


class JittorMaps(FeatureMaps):
    """Feature maps as Vars of Jittor; stacks rectify what they read themselves."""

    def __init__(self, ops: Primitives) -> None:
        self.ops = ops

    def relu(self, x: Var) -> Var:
        return self.ops.rectify(x)

    def concat(self, parts: Sequence[Var]) -> Var:
        return jt.concat(list(parts), 1)

    def split(self, x: Var, channels: Sequence[int]) -> Sequence[Var]:
        return split(x, tuple(channels))

    def combined(self, factors: Var, basis: Sequence[Var]) -> Sequence[Var]:
        sums = factors.shape[0]
        return split(self.ops.mix(factors, basis), (basis[0].shape[1],) * sums)

    def shuffled(self, mixed: Var, rest: Var, parts: int) -> Var:
        return self.ops.interleave(mixed, rest, parts)

    def nothing(self, context: ForwardContext, like: Var, channels: int, size: tuple[int, int]) -> Var:
        zeros = context.constants.zeros((like.shape[0], channels, *size))
        return zeros.clone().start_grad() if context.trace else zeros

    def add(self, terms: Sequence[Var]) -> Var:
        return self.ops.add(terms)

    def passed(self, pairs: Weighted, weights: EdgeWeights | None) -> Var:
        basis = [y for _, y in pairs]
        gamma = None if weights is None else weights.gamma(tuple(edge for edge, _ in pairs))
        return self.add(basis) if gamma is None else self.ops.mix(gamma.reshape((1, -1)), basis)


class JittorSource:
    """Everything that flows out of one node of a cell (`dots_core.engine.forward.Source`), in as few kernels as can be.

    What passes the operations by is weighted where it arrives, by `JittorMaps.passed`.
    """

    def __init__(
        self,
        source: stacking.Source,
        cell: StackedCell,
        stack: Callable[[stacking.Stack], Stack],
        maps: JittorMaps,
    ) -> None:
        self.edges, self._maps, self._partial = source.edges, maps, cell.cell.partial
        # Whether every edge's operations are on their own, because samples leave some out.
        self._alone = cell.cell.drawn.chooses
        self._separate = [(operation, stack(operation.stack)) for operation in source.separate]
        self._common = [(operation, stack(operation.stack)) for operation in source.common]
        self._common_edges = source.common_edges
        self._bypass = None if source.bypass is None else stack(source.bypass)

    def __call__(self, context: ForwardContext, x: Var, weights: EdgeWeights | None) -> tuple[Weighted, Weighted]:
        passed: Weighted = []
        if self._bypass is not None:
            through = x.shape[1] // self._partial
            x, rest = split(x, (through, x.shape[1] - through))
            y = self._bypass(context, rest)
            passed = [(edge, y) for edge in self.edges]
        if self._alone:
            assert weights is not None
            return self._edge_by_edge(context, x, weights), passed
        return self._together(context, x, weights), passed

    def _together(self, context: ForwardContext, x: Var, weights: EdgeWeights | None) -> Weighted:
        terms: dict[tuple[int, ...], list[Var]] = {}
        for operation, stack in self._separate:
            column = None if weights is None else weights.column(operation.operation, operation.edges)
            terms.setdefault(operation.edges, []).append(stack(context, x, column))
        outputs: Weighted = []
        basis = [stack(context, x) for _, stack in self._common]
        if basis and weights is not None:
            factors = weights.block(tuple(each.operation for each, _ in self._common), self._common_edges)
            # (N, edges·C, H, W), as what the separate operations give.
            terms.setdefault(self._common_edges, []).append(self._maps.ops.mix(factors, basis))
        else:
            outputs += [(e, y) for (each, _), y in zip(self._common, basis, strict=True) for e in each.edges]
        for edges, summands in terms.items():
            total = self._maps.add(summands)
            outputs += zip(edges, split(total, (total.shape[1] // len(edges),) * len(edges)), strict=True)
        return outputs

    def _edge_by_edge(self, context: ForwardContext, x: Var, weights: EdgeWeights) -> Weighted:
        ops = self._maps.ops
        evaluated = [pair for pair in (*self._separate, *self._common) if weights.evaluated(pair[0])]
        terms: dict[int, list[Var]] = {}
        for (operation, stack), copy in zip(evaluated, fork(ops, x, len(evaluated)), strict=True):
            column = weights.column(operation.operation, operation.edges)
            if operation.stack.shared:
                y = ops.mix(column.reshape((1, 1)), [stack(context, copy)])
            else:
                y = stack(context, copy, column)
            terms.setdefault(operation.edges[0], []).append(y)
        return [(edge, ops.add(summands)) for edge, summands in terms.items()]
