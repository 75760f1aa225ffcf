"""A network's way forward, the same in every engine: which tensors meet where (`dots_core.engine.stacking`).

An engine brings its stacks, the functions of `FeatureMaps`, and a context that its stacks read.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from dots_core.engine import stacking
from dots_core.engine.mixture import EdgeWeights
from dots_core.engine.stacking import (
    StackedCell,
    StackedConvolution,
    StackedLinear,
    StackedNetwork,
    StackedNorm,
    StackedOperation,
    StackedPair,
)
from dots_core.engine.tensors import Tensor
from dots_core.search_space.layers import GlobalAverage, MaxPool2x2, Pool, ReLU, WindowAverage

Weighted = list[tuple[int, Tensor]]
"""Edge numbers and weighted outputs; an edge may appear more than once."""


class Context(Protocol):
    """What stacks read in one pass.

    Attributes
    ----------
    training : bool
    """

    training: bool

    def passing(self, name: str, x: Tensor) -> Tensor:
        """Return a tensor of any shape on its way, kept if it is traced (`dots_core.network.spec.traced_shapes`)."""
        ...


Step = Callable[[Any, Tensor, "Tensor | None"], Tensor]
"""One step of a stack: of a context, an input and the weights of the stack's sequences."""

_METHODS = {
    ReLU: "relu",
    Pool: "pool",
    MaxPool2x2: "max_pool_2x2",
    WindowAverage: "window_average",
    GlobalAverage: "global_average",
    StackedLinear: "linear",
    StackedNorm: "norm",
    StackedPair: "shifted_pair",
    StackedConvolution: "convolution",
}


class Stack(ABC):
    """A stack's steps (`dots_core.engine.stacking.Stack`) as calls of a framework, one method a kind of step.

    Attributes
    ----------
    rectified : bool
        Whether it reads a rectified tensor; where its engine rectifies within the stack, it does not.
    """

    def __init__(self, stack: stacking.Stack) -> None:
        self.rectified, self._weighted = stack.rectified, stack.weighted
        self._steps = [self.made(step) for step in stack.steps]

    def __call__(self, context: Any, x: Tensor, weight: Tensor | None = None) -> Tensor:
        """Run the steps.

        Parameters
        ----------
        x : tensor, shape (N, C, H, W)
            The shared input; already rectified if `rectified`.
        weight : tensor, optional
            Factor of each sequence's output (`FeatureMaps.column`).

        Returns
        -------
        tensor
            As `dots_core.engine.stacking.Stack.shared` says.
        """
        for step in self._steps:
            x = step(context, x, weight)
        return x if weight is None or self._weighted else self.weigh(x, weight)

    def weigh(self, x: Tensor, weight: Tensor) -> Tensor:
        """Multiply each sequence's output, of (N, width·C, H, W), by its factor, where no batch norm does."""
        by_sequence = x.reshape((x.shape[0], weight.shape[0], -1))
        return (by_sequence * weight.reshape((1, -1, 1))).reshape(tuple(x.shape))

    def made(self, step: stacking.Step) -> Step:
        """Return the call that a step is."""
        made: Step = getattr(self, _METHODS[type(step)])(step)
        return made

    @abstractmethod
    def relu(self, layer: ReLU) -> Step:
        """Of (N, C, H, W), max(x, 0), which keeps what is not a number; its gradient at 0 is 0."""

    @abstractmethod
    def pool(self, layer: Pool) -> Step:
        """Of (N, C, H, W), 3×3 pooling with padding 1, which averages do not count."""

    @abstractmethod
    def max_pool_2x2(self, layer: MaxPool2x2) -> Step:
        """Of (N, C, H, W) to (N, C, ⌈H/2⌉, ⌈W/2⌉); a last row or column of odd size is pooled alone."""

    @abstractmethod
    def window_average(self, layer: WindowAverage) -> Step:
        """Of (N, C, H, W), averages without padding."""

    @abstractmethod
    def global_average(self, layer: GlobalAverage) -> Step:
        """Of (N, C, H, W) to (N, C), the mean over height and width."""

    @abstractmethod
    def linear(self, step: StackedLinear) -> Step:
        """Of (N, inputs) to (N, outputs), an affine map."""

    @abstractmethod
    def norm(self, step: StackedNorm) -> Step:
        """Of (N, width·C, H, W), batch norm; where it is ``weighted``, each edge's output times the edge's weight."""

    @abstractmethod
    def shifted_pair(self, step: StackedPair) -> Step:
        """Of (N, C, H, W) to (N, width·C′, ⌈H/2⌉, ⌈W/2⌉): of each edge both halves, one after the other."""

    @abstractmethod
    def convolution(self, step: StackedConvolution) -> Step:
        """Of (N, inputs, H, W), shared, or (N, width·inputs, H, W) to (N, width·outputs, H′, W′)."""


class FeatureMaps(ABC):
    """What a framework does with feature maps, tensors of shape (N, C, H, W), beside running stacks."""

    @abstractmethod
    def relu(self, x: Tensor) -> Tensor:
        """Return max(x, 0), of the shape of x, with gradient 0 at 0."""

    @abstractmethod
    def concat(self, parts: Sequence[Tensor]) -> Tensor:
        """Put maps (N, C₁, H, W), (N, C₂, H, W), … side by side: (N, C₁ + C₂ + …, H, W)."""

    @abstractmethod
    def split(self, x: Tensor, channels: Sequence[int]) -> Sequence[Tensor]:
        """Cut maps (N, C, H, W) along channels, into parts of so many each."""

    @abstractmethod
    def combined(self, factors: Tensor, basis: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return weighted sums of maps of one shape, one for each row of the factors, shape (sums, maps)."""

    @abstractmethod
    def shuffled(self, mixed: Tensor, rest: Tensor, parts: int) -> Tensor:
        """Put maps side by side and bring channel (g, c) of (parts, C/parts) to (c, g), C the channels of both."""

    @abstractmethod
    def nothing(self, context: Any, like: Tensor, channels: int, size: tuple[int, int]) -> Tensor:
        """Return zeros, shape (N, channels, height, width), N that of ``like``."""

    def parted(self, x: Tensor, channels: Sequence[int]) -> Sequence[Tensor]:
        """As `split`, shape (N, C, H, W), in parts that stacks read."""
        return self.split(x, channels)

    def add(self, terms: Sequence[Tensor]) -> Tensor:
        """Return the sum of maps of one shape."""
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        return total

    def scaled(self, x: Tensor, factor: Tensor) -> Tensor:
        """Return maps times a factor that has one entry, or one for each sample: shape (N, 1, 1, 1)."""
        return x * factor

    def by_edge(self, keep: Tensor) -> Any:
        """Return drop-path factors, shape (cells, edges, N, 1, 1, 1), so that ``[cell][edge]`` is one edge's."""
        return keep

    def column(self, weights: EdgeWeights, operation: StackedOperation, channels: int) -> Tensor:
        """Return an operation's weights as a stack takes them; its edges have so many channels each.

        Of shape (edges,) here; an engine whose batch norm reads a weight for each channel returns (edges·channels,).
        """
        return weights.column(operation.operation, operation.edges)

    def passed(self, pairs: Weighted, weights: EdgeWeights | None) -> Tensor:
        """Return the sum of what passes the edges into a node by, shape (N, C, H, W)."""
        return self.add([y for _, y in pairs])


class Source:
    """Everything that flows out of one node of a cell.

    Attributes
    ----------
    edges : tuple of int
    """

    def __init__(
        self, source: stacking.Source, cell: StackedCell, stack: Callable[[stacking.Stack], Stack], maps: FeatureMaps
    ) -> None:
        channels = cell.layout.channels
        through = channels // cell.cell.partial
        self.edges, self._maps, self._channels = source.edges, maps, (through, channels - through)
        alone, common = source.separate, source.common
        # Edges that share results are combined by one matrix product; where none do (hard samples),
        # weighting the few results that are evaluated is less work.
        if all(len(operation.edges) == 1 for operation in common):
            alone, common = alone + common, ()
        self._alone = [(operation, stack(operation.stack)) for operation in alone]
        self._common = [(operation, stack(operation.stack)) for operation in common]
        self._common_edges = source.common_edges
        self._bypass = None if source.bypass is None else stack(source.bypass)

    def __call__(self, context: Context, x: Tensor, weights: EdgeWeights | None) -> tuple[Weighted, Weighted]:
        """Return what flows into the edges' targets: of the mixed operations, and of the channels that pass by."""
        if self._bypass is None:
            return self._mixed(context, x, weights), []
        x, rest = self._maps.parted(x, self._channels)
        mixed, y = self._mixed(context, x, weights), self._bypass(context, rest)
        gammas = {edge: None if weights is None else weights.gamma((edge,)) for edge in self.edges}
        return mixed, [(edge, y if gamma is None else self._maps.scaled(y, gamma)) for edge, gamma in gammas.items()]

    def _mixed(self, context: Context, x: Tensor, weights: EdgeWeights | None) -> Weighted:
        maps, rectified = self._maps, None
        terms: dict[tuple[int, ...], list[Tensor]] = {}
        for operation, stack in self._alone:
            if weights is not None and not weights.evaluated(operation):
                continue
            if stack.rectified and rectified is None:
                rectified = maps.relu(x)
            start = rectified if stack.rectified else x
            terms.setdefault(operation.edges, []).append(self._weighted(context, operation, stack, start, weights))
        outputs: Weighted = []
        for edges, summands in terms.items():
            parts = maps.split(maps.add(summands), self._channels[:1] * len(edges))
            outputs += zip(edges, parts, strict=True)
        return outputs + self._shared(context, x, weights)

    def _weighted(
        self, context: Context, operation: StackedOperation, stack: Stack, x: Tensor, weights: EdgeWeights | None
    ) -> Tensor:
        if weights is None:
            return stack(context, x)
        if operation.stack.shared:
            return self._maps.scaled(stack(context, x), weights.column(operation.operation, operation.edges))
        return stack(context, x, self._maps.column(weights, operation, self._channels[0]))

    def _shared(self, context: Context, x: Tensor, weights: EdgeWeights | None) -> Weighted:
        pairs = [pair for pair in self._common if weights is None or weights.evaluated(pair[0])]
        if not pairs:
            return []
        basis = [_begun(stack, context, x, self._maps) for _, stack in pairs]
        if weights is None:
            return [(e, y) for (operation, _), y in zip(pairs, basis, strict=True) for e in operation.edges]
        # One matrix product gives every edge its combination of the tensors they share.
        factors = weights.block(tuple(operation.operation for operation, _ in pairs), self._common_edges)
        return list(zip(self._common_edges, self._maps.combined(factors, basis), strict=True))


class Cell:
    """One cell of a network.

    Parameters
    ----------
    source : callable
        Makes what runs the edges out of a node: `Source`, or an engine's own with its attribute and call.
    """

    def __init__(
        self,
        cell: StackedCell,
        stack: Callable[[stacking.Stack], Stack],
        maps: FeatureMaps,
        source: Callable[..., Any] = Source,
    ) -> None:
        self.kind, self.name, self._cell, self._layout = cell.layout.kind, cell.layout.name, cell.cell, cell.layout
        self._maps = maps
        self._preprocess = [stack(each) for each in cell.preprocess]
        self._sources = [source(each, cell, stack, maps) for each in cell.sources]

    def __call__(
        self,
        context: Context,
        before: tuple[Tensor, Tensor],
        weights: EdgeWeights | None,
        keep: Sequence[Tensor] | None,
    ) -> Tensor:
        """Run the cell.

        Parameters
        ----------
        before : two tensors
            Outputs of the two previous cells, c_{k−2} first.
        weights : EdgeWeights or None
            None: edges are added unweighted.
        keep : sequence of tensors of shape (N, 1, 1, 1), one an edge, optional
            Drop-path factors.
        """
        nodes = [
            context.passing(f"{self.name}.{number}", _begun(stack, context, x, self._maps))
            for number, (stack, x) in enumerate(zip(self._preprocess, before, strict=True))
        ]
        # What the edges into each node bring: of the mixed operations, and of the channels that pass by.
        mixed: dict[int, Weighted] = {}
        passed: dict[int, Weighted] = {}
        for number, source in enumerate(self._sources):
            if number >= 2:
                node = self._node(context, nodes[0], mixed.pop(number, []), passed.pop(number, []), weights)
                nodes.append(context.passing(f"{self.name}.{number}", node))
            if not source.edges:
                continue
            for pending, found in zip((mixed, passed), source(context, nodes[number], weights), strict=True):
                for edge, y in found:
                    y = y if keep is None else self._maps.scaled(y, keep[edge])
                    pending.setdefault(self._cell.edges[edge].target, []).append((edge, y))
        return context.passing(self.name, self._maps.concat([nodes[number] for number in self._cell.concat]))

    def _node(
        self, context: Context, like: Tensor, mixed: Weighted, passed: Weighted, weights: EdgeWeights | None
    ) -> Tensor:
        """An intermediate node."""
        if mixed:
            total = self._maps.add([y for _, y in mixed])
        else:
            # Every operation into the node is `none`.
            through = self._layout.channels // self._cell.partial
            total = self._maps.nothing(context, like, through, self._layout.size)
        if not passed:
            return total
        return self._maps.shuffled(total, self._maps.passed(passed, weights), self._cell.partial)


class Forward:
    """A network: stems, cells and heads."""

    def __init__(
        self,
        network: StackedNetwork,
        stack: Callable[[stacking.Stack], Stack],
        maps: FeatureMaps,
        source: Callable[..., Any] = Source,
    ) -> None:
        self._maps = maps
        self._stems = [stack(each) for each in network.stems]
        self._cells = [Cell(cell, stack, maps, source) for cell in network.cells]
        self._auxiliary = None if network.auxiliary is None else (network.auxiliary[0], stack(network.auxiliary[1]))
        self._head = stack(network.head)

    def __call__(
        self,
        context: Context,
        images: Tensor,
        weights: Mapping[str, EdgeWeights | None],
        keep: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """Return logits and, in training, the auxiliary head's.

        Parameters
        ----------
        images : tensor, shape (N, C, H, W)
        weights : mapping of cell type to EdgeWeights or None
        keep : for each cell, for each edge a tensor of shape (N, 1, 1, 1), or None
            Drop-path factors.
        """
        x = images
        outputs = []
        for number, stem in enumerate(self._stems):
            x = context.passing(f"stems.{number}", _begun(stem, context, x, self._maps))
            outputs.append(x)
        before = (outputs[0], outputs[-1])
        auxiliary = None
        for number, cell in enumerate(self._cells):
            before = (before[1], cell(context, before, weights[cell.kind], None if keep is None else keep[number]))
            if context.training and self._auxiliary is not None and self._auxiliary[0] == number:
                auxiliary = _begun(self._auxiliary[1], context, before[1], self._maps)
        return self._head(context, before[1]), auxiliary


def _begun(stack: Stack, context: Context, x: Tensor, maps: FeatureMaps) -> Tensor:
    """Run a stack that alone reads its input."""
    return stack(context, maps.relu(x) if stack.rectified else x)
