"""Networks with equal layers stacked: what an engine has to compute, in order, in as few calls as possible.

The edges out of a node read the same tensor. So equal operations of all these edges stand
side by side along channels: one depthwise, one pointwise and one batch-norm call serve all of
them; pools are computed once, not per edge. Everything here is description: an engine walks a
`StackedNetwork` and calls its framework for each step. Weights and statistics are referred to
by their stack number in two layouts (`dots_core.engine.flat_layout`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import DTypeLike, NDArray

from dots_core.engine.batch import Draw
from dots_core.engine.flat_layout import FlatLayout
from dots_core.network.initialisation import initial_moments
from dots_core.network.spec import (
    CellLayout,
    NetworkSpec,
    auxiliary_layers,
    bypass_layers,
    cell_layouts,
    edge_layers,
    head_layers,
    stem_layers,
)
from dots_core.search_space.cell import CellSpec
from dots_core.search_space.layers import (
    Convolution,
    GlobalAverage,
    Layer,
    Linear,
    MaxPool2x2,
    Norm,
    Pool,
    ReLU,
    ShiftedPair,
    WindowAverage,
)
from dots_core.search_space.operations import NONE


@dataclass(frozen=True)
class StackedConvolution:
    """Equal convolutions of several edges.

    Attributes
    ----------
    layer : Convolution
        That of one edge.
    weight : int
        Stack of shape (width·outputs, inputs/groups, kernel, kernel), edge after edge.
    width : int
        Number of edges.
    shared : bool
        Whether all edges read one tensor of ``layer.inputs`` channels; otherwise the input
        has width·inputs channels, edge after edge. The output always has width·outputs.
    """

    layer: Convolution
    weight: int
    width: int
    shared: bool


@dataclass(frozen=True)
class StackedPair:
    """Equal shifted pairs of several edges (see `dots_core.search_space.layers.ShiftedPair`), always of a shared input.

    Attributes
    ----------
    layer : ShiftedPair
        That of one edge.
    first, second : int
        Stacks of shape (width·half, inputs, 1, 1). The output's channels are ordered (edge,
        first half, second half).
    width : int
    """

    layer: ShiftedPair
    first: int
    second: int
    width: int


@dataclass(frozen=True)
class StackedNorm:
    """Equal batch norms of several edges.

    Attributes
    ----------
    channels : int
        Channels of one edge.
    width : int
        Number of edges told apart; 1 where all edges still share one tensor, and so one set
        of statistics that stands for each edge's.
    mean, variance : int
        Stacks of running statistics, shape (width·channels,).
    weight, bias : int or None
        Stacks of shape (width·channels,); None without affine parameters.
    weighted : bool
        Whether it is the place to scale each edge's output: a factor per edge, shape
        (width,), multiplies the weight and the bias.
    """

    channels: int
    width: int
    mean: int
    variance: int
    weight: int | None
    bias: int | None
    weighted: bool


@dataclass(frozen=True)
class StackedLinear:
    """An affine map: stacks of shape (outputs, inputs) and (outputs,)."""

    weight: int
    bias: int


Plain = ReLU | Pool | MaxPool2x2 | WindowAverage | GlobalAverage
Step = Plain | StackedConvolution | StackedPair | StackedNorm | StackedLinear


@dataclass(frozen=True)
class Stack:
    """Sequences of layers of equal structure on one input, run together.

    A sequence that stands alone (stem, preprocessing, heads) is a stack of width 1.

    Attributes
    ----------
    width : int
        Number of sequences.
    rectified : bool
        Whether the input must have passed a ReLU, which is not among the steps: several
        stacks on one tensor share it.
    steps : tuple
        In order of execution.
    shared : bool
        Whether nothing told the sequences apart: the output, (N, C′, H′, W′), is every
        sequence's. Otherwise it is (N, width·C′, H′, W′), sequence after sequence.
    """

    width: int
    rectified: bool
    steps: tuple[Step, ...]
    shared: bool

    @property
    def weighted(self) -> bool:
        """Whether its last step takes the factors of the sequences' outputs (`StackedNorm.weighted`)."""
        last = self.steps[-1] if self.steps else None
        return isinstance(last, StackedNorm) and last.weighted


@dataclass(frozen=True)
class StackedOperation:
    """One operation on all edges out of a node that hold it.

    Attributes
    ----------
    operation : int
        Column of α.
    edges : tuple of int
        Edge numbers within the cell, one a sequence of the stack.
    """

    operation: int
    edges: tuple[int, ...]
    stack: Stack

    def evaluated(self, draw: Draw | None) -> bool:
        """Whether any of the family's operations takes part in a pass (`dots_core.engine.batch.Draw`)."""
        return draw is None or draw.chosen is None or bool(draw.chosen[list(self.edges), self.operation].any())


@dataclass(frozen=True)
class Source:
    """Everything that flows out of one node of a cell.

    Attributes
    ----------
    edges : tuple of int
        Numbers of the edges out of the node.
    separate : tuple of StackedOperation
        Operations with a result for each edge.
    common : tuple of StackedOperation
        Operations with one result for all edges (identity, pools); all results have one shape.
    common_edges : tuple of int
        Edges that hold any of ``common``.
    bypass : Stack or None
        Of the channels that pass all edges by: the families read the first 1/K of the node's channels
        and this stack the others. None where K is 1 (`dots_core.search_space.cell.CellSpec.partial`).
    """

    edges: tuple[int, ...]
    separate: tuple[StackedOperation, ...]
    common: tuple[StackedOperation, ...]
    common_edges: tuple[int, ...]
    bypass: Stack | None


@dataclass(frozen=True)
class StackedCell:
    """One cell.

    With partial channels, an intermediate node is the sum over its edges of γ times [mixed operation
    of the first 1/K of the channels, the bypass of the others], side by side, and then shuffled: the
    channel at place (g, c) of (K, channels/K) goes to (c, g) of (channels/K, K).

    Attributes
    ----------
    layout : CellLayout
    cell : CellSpec
    preprocess : (Stack, Stack)
        Bring the outputs of the two cells before to nodes 0 and 1.
    sources : tuple of Source
        One a node: inputs first, then intermediate nodes.
    """

    layout: CellLayout
    cell: CellSpec
    preprocess: tuple[Stack, Stack]
    sources: tuple[Source, ...]


class Stacker:
    """Puts sequences of layers together and places their arrays.

    Attributes
    ----------
    weights, statistics : FlatLayout
    """

    def __init__(self) -> None:
        self.weights, self.statistics = FlatLayout(), FlatLayout()

    def initial_statistics(self, dtype: DTypeLike) -> NDArray[Any]:
        """Return the flat running statistics that training starts from, shape (statistics.size,)."""
        return self.statistics.join(initial_moments(self.statistics.shapes), dtype)

    def state(
        self, output: NDArray[Any], images: NDArray[Any], weights: NDArray[Any], statistics: NDArray[Any]
    ) -> dict[str, NDArray[Any]]:
        """Return what `dots_core.engine.protocol.Engine.run_layers` does.

        Parameters
        ----------
        output : array
        images : array
            The gradient of the images.
        weights : array, shape (weights.size,)
            The flat gradient of the weights.
        statistics : array, shape (statistics.size,)
        """
        state = {"output": output, "gradient/images": images}
        state.update(self.weights.split(weights, "gradient/"))
        state.update(self.statistics.split(statistics, "statistics/"))
        return state

    def stack(self, sequences: tuple[tuple[Layer, ...], ...]) -> Stack:
        """Stack sequences whose layers are of the same kinds and sizes, and place their arrays."""
        layers = list(zip(*sequences, strict=True))
        rectified = bool(layers) and isinstance(layers[0][0], ReLU)
        steps: list[Step] = []
        shared = True
        for number, peers in enumerate(layers):
            if number == 0 and rectified:
                continue
            step = self._step(peers, shared, last=number == len(layers) - 1)
            shared = shared and not isinstance(step, (StackedConvolution, StackedPair))
            steps.append(step)
        return Stack(len(sequences), rectified, tuple(steps), shared)

    def _step(self, peers: tuple[Layer, ...], shared: bool, last: bool) -> Step:
        layer, width = peers[0], len(peers)
        if isinstance(layer, Convolution):
            return StackedConvolution(layer, self._convolution_weight(peers), width, shared)
        if isinstance(layer, ShiftedPair):
            pairs = [peer for peer in peers if isinstance(peer, ShiftedPair)]
            first = self._convolution_weight(tuple(pair.first for pair in pairs))
            second = self._convolution_weight(tuple(pair.second for pair in pairs))
            return StackedPair(layer, first, second, width)
        if isinstance(layer, Norm):
            return self._norm(tuple(peer.name for peer in peers if isinstance(peer, Norm)), layer, shared, last)
        if isinstance(layer, Linear):
            weight = self.weights.stack((f"{layer.name}.weight",), (layer.outputs, layer.inputs))
            return StackedLinear(weight, self.weights.stack((f"{layer.name}.bias",), (layer.outputs,)))
        return layer

    def _convolution_weight(self, peers: tuple[Layer, ...]) -> int:
        convolutions = [peer for peer in peers if isinstance(peer, Convolution)]
        return self.weights.stack(tuple(f"{c.name}.weight" for c in convolutions), convolutions[0].weight_shape)

    def _norm(self, names: tuple[str, ...], layer: Norm, shared: bool, last: bool) -> StackedNorm:
        # Edges whose input is still one tensor have equal statistics: one computation, one storage.
        # Affine parameters would tell such edges apart; no operation has both (`…operations.legality`).
        place = self.statistics.share if shared else self.statistics.stack
        shape = (layer.channels,)
        mean = place(tuple(f"{name}.running_mean" for name in names), shape)
        variance = place(tuple(f"{name}.running_var" for name in names), shape)
        weight = bias = None
        if layer.affine:
            weight = self.weights.stack(tuple(f"{name}.weight" for name in names), shape)
            bias = self.weights.stack(tuple(f"{name}.bias" for name in names), shape)
        return StackedNorm(
            layer.channels, 1 if shared else len(names), mean, variance, weight, bias, weighted=last and not shared
        )


class StackedNetwork(Stacker):
    """A network's stacks.

    Attributes
    ----------
    spec : NetworkSpec
    stems : tuple of Stack
        One (both inputs of the first cell read it) or two (the second reads the first).
    cells : tuple of StackedCell
    auxiliary : (int, Stack) or None
        Index of the cell it reads, and the head.
    head : Stack
    """

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.spec = spec
        self.stems = tuple(self.stack((layers,)) for layers in stem_layers(spec))
        self.cells = tuple(self._cell(layout) for layout in cell_layouts(spec))
        auxiliary = auxiliary_layers(spec)
        self.auxiliary = None if auxiliary is None else (auxiliary[0], self.stack((auxiliary[1],)))
        self.head = self.stack((head_layers(spec),))

    def _cell(self, layout: CellLayout) -> StackedCell:
        cell = self.spec.cell(layout.kind)
        preprocess = [self.stack((layout.preprocess(number, self.spec.affine),)) for number in (0, 1)]
        sources = tuple(self._source(layout, cell, node) for node in range(cell.nodes + 2))
        return StackedCell(layout, cell, (preprocess[0], preprocess[1]), sources)

    def _source(self, layout: CellLayout, cell: CellSpec, node: int) -> Source:
        families = [
            StackedOperation(column, edges, self.stack(sequences))
            for column, edges, sequences in edge_sequences(self.spec, layout, node)
        ]
        common = tuple(f for f in families if f.stack.shared)
        outgoing = cell.outgoing(node)
        return Source(
            outgoing,
            tuple(f for f in families if not f.stack.shared),
            common,
            tuple(sorted({e for f in common for e in f.edges})),
            self.stack((bypass_layers(layout, node),)) if cell.partial > 1 and outgoing else None,
        )


def edge_sequences(
    spec: NetworkSpec, layout: CellLayout, node: int
) -> Iterator[tuple[int, tuple[int, ...], tuple[tuple[Layer, ...], ...]]]:
    """Yield what is stacked out of a node of a cell: a column of α, the edges, and their sequences of layers."""
    cell = spec.cell(layout.kind)
    outgoing = cell.outgoing(node)
    for column, operation in enumerate(cell.candidates):
        holding = tuple(e for e in outgoing if operation in cell.edges[e].operations)
        if not holding or operation == NONE:
            continue
        # Where only sampled operations are evaluated, each edge is on its own, and left out with ease.
        for edges in ((e,) for e in holding) if cell.drawn.chooses else (holding,):
            yield column, edges, tuple(edge_layers(spec, layout, e, operation) for e in edges)


@dataclass(frozen=True)
class Reads:
    """Stack numbers, ascending.

    Attributes
    ----------
    weights, statistics : tuple of int
        In the network's two layouts (`Stacker`).
    """

    weights: tuple[int, ...]
    statistics: tuple[int, ...]


def everything(network: StackedNetwork) -> Reads:
    """Return the numbers of all stacks."""
    return Reads(tuple(range(len(network.weights.stacks))), tuple(range(len(network.statistics.stacks))))


def reads(network: StackedNetwork, draws: Mapping[str, Draw] | None) -> Reads:
    """Return the stacks that take part in a pass, the auxiliary head's always."""
    if draws is None or all(draw.chosen is None for draw in draws.values()):
        return everything(network)
    weights: list[int] = []
    statistics: list[int] = []
    for stack in _stacks(network, draws):
        for step in stack.steps:
            if isinstance(step, StackedConvolution):
                weights.append(step.weight)
            elif isinstance(step, StackedLinear):
                weights += [step.weight, step.bias]
            elif isinstance(step, StackedPair):
                weights += [step.first, step.second]
            elif isinstance(step, StackedNorm):
                statistics += [step.mean, step.variance]
                weights += [number for number in (step.weight, step.bias) if number is not None]
    return Reads(tuple(sorted(weights)), tuple(sorted(statistics)))


def _stacks(network: StackedNetwork, draws: Mapping[str, Draw]) -> Iterator[Stack]:
    yield from network.stems
    for cell in network.cells:
        draw = draws.get(cell.layout.kind)
        yield from cell.preprocess
        for source in cell.sources:
            for family in (*source.separate, *source.common):
                if family.evaluated(draw):
                    yield family.stack
    if network.auxiliary is not None:
        yield network.auxiliary[1]
    yield network.head
