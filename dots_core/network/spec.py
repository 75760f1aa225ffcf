"""Networks as data: stem, stacked cells, classifier, and the canonical names of their weights.

One description serves the supernet of either search stage and the derived network; they
differ in their cells (`CellSpec`) and in a few switches.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dots_core import bounds
from dots_core.errors import UsageError, quoted
from dots_core.network.stems import STEMS, check_stem
from dots_core.search_space.cell import CELL_TYPES, CellSpec
from dots_core.search_space.genotype import Genotype
from dots_core.search_space.layers import (
    Convolution,
    GlobalAverage,
    Layer,
    Linear,
    MaxPool2x2,
    Norm,
    ReLU,
    ShiftedPair,
    WindowAverage,
    factorized_reduce,
    output_size,
    relu_conv_norm,
)
from dots_core.search_space.operations import NONE, OPERATIONS


@dataclass(frozen=True)
class NetworkSpec:
    """Everything that determines a network's shape.

    Attributes
    ----------
    normal, reduce : CellSpec
    layers : int
        Number of cells L; reduction cells stand at ⌊L/3⌋ and ⌊2L/3⌋.
    channels : int
        Initial channels C, doubled by every reduction cell.
    classes : int
    input_shape : (channels, height, width)
    stem : str
        The name of one of `dots_core.network.stems.STEMS`.
    stem_multiplier : int
    affine : bool
        Whether batch norms inside cells have weight and bias: not in a supernet, in a derived
        network they have.
    pool_norm : bool
        Whether pools are followed by batch norm: in a supernet they are.
    auxiliary : bool
        Whether there is an auxiliary classifier after the second reduction cell, used in training only.
    head_norm : bool
        Whether batch norm and ReLU precede the global average pooling (the released DOTS code's supernet).
    """

    normal: CellSpec
    reduce: CellSpec
    layers: int
    channels: int
    classes: int
    input_shape: tuple[int, int, int]
    stem: str = "cifar"
    stem_multiplier: int = 3
    affine: bool = False
    pool_norm: bool = True
    auxiliary: bool = False
    head_norm: bool = False

    def __post_init__(self) -> None:
        if self.layers < 1 or self.channels < 1 or self.classes < 2:
            raise UsageError(
                f"a network needs at least 1 cell, 1 channel and 2 classes, "
                f"not {self.layers}, {self.channels}, {self.classes}"
            )
        for what, number, most in (
            ("cells", self.layers, bounds.LAYERS),
            ("channels", self.channels, bounds.CHANNELS),
            ("channels of the stem for each of the cells'", self.stem_multiplier, bounds.CHANNELS),
            ("classes", self.classes, bounds.CLASSES),
            ("pixels a side", max(self.input_shape[1:]), bounds.SIDE),
        ):
            if number > most:
                raise UsageError(
                    f"a network of {quoted(number)} {what} is beyond what can be meant; give up to {most:,}"
                )
        if min(self.input_shape) < 1:
            raise UsageError(f"a network needs images of at least 1 pixel a side, not {self.input_shape[1:]}")
        if self.channels % 2:
            raise UsageError(f"channels is {self.channels}; it must be even, FactorizedReduce halves it")
        for cell in (self.normal, self.reduce):
            if self.channels % (2 * cell.partial):
                raise UsageError(
                    f"channels is {self.channels}; with 1/{cell.partial} of the channels passing through the "
                    f"operations it must be a multiple of {2 * cell.partial}"
                )
        check_stem(STEMS[self.stem], stem_layers(self), self.input_shape[0], self.input_shape[1:])
        if self.auxiliary and not self.reductions:
            raise UsageError(f"an auxiliary head needs a reduction cell, and {self.layers} cells have none")

    @property
    def reductions(self) -> tuple[int, ...]:
        """Indices of the reduction cells, counted from 0."""
        return tuple(sorted({self.layers // 3, 2 * self.layers // 3})) if self.layers > 1 else ()

    def cell(self, kind: str) -> CellSpec:
        """The cell of a type, ``"normal"`` or ``"reduce"``."""
        return self.normal if kind == "normal" else self.reduce

    def kinds(self) -> tuple[str, ...]:
        """The cell types that occur in the network."""
        present = {layout.kind for layout in cell_layouts(self)}
        return tuple(kind for kind in CELL_TYPES if kind in present)


@dataclass(frozen=True)
class CellLayout:
    """Where one cell stands in a network.

    Attributes
    ----------
    index : int
    kind : str
        ``"normal"`` or ``"reduce"``.
    channels : int
        Channels of every node inside.
    inputs : (int, int)
        Channels of the two cells before, c_{k−2} first.
    input_sizes : two (height, width) pairs, likewise
    size : (height, width)
        Of the intermediate nodes.
    after_reduction : bool
        Whether the cell before reduced, so that input 0 passes FactorizedReduce.
    """

    index: int
    kind: str
    channels: int
    inputs: tuple[int, int]
    input_sizes: tuple[tuple[int, int], tuple[int, int]]
    size: tuple[int, int]
    after_reduction: bool

    @property
    def name(self) -> str:
        """What the canonical names of its weights begin with."""
        return f"cells.{self.index}"

    def stride(self, source: int) -> int:
        """Stride of the edges out of a node: 2 out of a reduction cell's inputs."""
        return 2 if self.kind == "reduce" and source < 2 else 1

    def preprocess(self, number: int, affine: bool) -> tuple[Layer, ...]:
        """Layers that bring input 0 or 1 to the cell's channels."""
        name = f"{self.name}.preprocess{number}"
        if number == 0 and self.after_reduction:
            return factorized_reduce(name, self.inputs[0], self.channels, affine)
        return relu_conv_norm(name, self.inputs[number], self.channels, affine)


def stem_layers(spec: NetworkSpec) -> tuple[tuple[Layer, ...], ...]:
    """Layers of the stem: one sequence (both cell inputs read it) or two (c_{k−2}, then c_{k−1} from it)."""
    return STEMS[spec.stem].layers(spec.input_shape[0], spec.channels, spec.stem_multiplier)


def cell_layouts(spec: NetworkSpec) -> tuple[CellLayout, ...]:
    """Return the layout of every cell, in order."""
    size = (spec.input_shape[1], spec.input_shape[2])
    sizes: list[tuple[int, int]] = []
    widths: list[int] = []
    for stem in stem_layers(spec):
        for layer in stem:
            size = output_size(layer, size)
        sizes.append(size)
        widths.append([layer.outputs for layer in stem if isinstance(layer, Convolution)][-1])
    two_stems = len(sizes) == 2
    if not two_stems:
        sizes, widths = sizes * 2, widths * 2
    channels, after_reduction = spec.channels, two_stems
    layouts = []
    for index in range(spec.layers):
        kind = "reduce" if index in spec.reductions else "normal"
        size = sizes[-1]
        if kind == "reduce":
            channels *= 2
            size = ((size[0] + 1) // 2, (size[1] + 1) // 2)
        inputs, input_sizes = (widths[-2], widths[-1]), (sizes[-2], sizes[-1])
        layouts.append(CellLayout(index, kind, channels, inputs, input_sizes, size, after_reduction))
        widths.append(channels * len(spec.cell(kind).concat))
        sizes.append(size)
        after_reduction = kind == "reduce"
    return tuple(layouts)


def edge_layers(spec: NetworkSpec, layout: CellLayout, edge_number: int, operation: str) -> tuple[Layer, ...]:
    """Layers of one operation on one edge of one cell."""
    edge = spec.cell(layout.kind).edges[edge_number]
    name = f"{layout.name}.edges.{edge.name}.{operation}"
    channels = layout.channels // spec.cell(layout.kind).partial
    return OPERATIONS[operation].layers(name, channels, layout.stride(edge.source), spec.affine, spec.pool_norm)


def bypass_layers(layout: CellLayout, source: int) -> tuple[Layer, ...]:
    """Layers of the channels that pass a node's edges by (`CellSpec.partial`): none, or max-pooling at stride 2."""
    return (MaxPool2x2(),) if layout.stride(source) == 2 else ()


def auxiliary_layers(spec: NetworkSpec) -> tuple[int, tuple[Layer, ...]] | None:
    """Return the cell whose output the auxiliary head reads, and the head's layers; None without a head.

    As DARTS: ReLU, 5×5 average pooling, 1×1 convolution to 128, 2×2 convolution to 768, each with batch norm and
    ReLU, linear; the stride of the pooling and the second batch norm are the stem's (`dots_core.network.stems.Stem`).
    On images too small for a window of 5 (8×8 digits), window and second kernel shrink to what is there; whatever the
    size, a mean precedes the linear layer (of one pixel at the papers' sizes).
    """
    if not spec.auxiliary:
        return None
    layout = cell_layouts(spec)[spec.reductions[-1]]
    width = layout.channels * len(spec.reduce.concat)
    stem = STEMS[spec.stem]
    pool = WindowAverage(min(5, *layout.size), stem.head_stride)
    kernel = min(2, *output_size(pool, layout.size))
    second_norm = (Norm("auxiliary.norm2", 768, True),) if stem.head_norm else ()
    return layout.index, (
        ReLU(),
        pool,
        Convolution("auxiliary.conv1", width, 128, 1),
        Norm("auxiliary.norm1", 128, True),
        ReLU(),
        Convolution("auxiliary.conv2", 128, 768, kernel),
        *second_norm,
        ReLU(),
        GlobalAverage(),
        Linear("auxiliary.classifier", 768, spec.classes),
    )


def head_layers(spec: NetworkSpec) -> tuple[Layer, ...]:
    """Layers from the last cell's output to the logits."""
    last = cell_layouts(spec)[-1]
    width = last.channels * len(spec.cell(last.kind).concat)
    norm: tuple[Layer, ...] = (Norm("head.norm", width, True), ReLU()) if spec.head_norm else ()
    return (*norm, GlobalAverage(), Linear("classifier", width, spec.classes))


def sequences(spec: NetworkSpec) -> Iterator[tuple[tuple[Layer, ...], tuple[int, int], int]]:
    """Yield every sequence of layers in execution order, with its input's (height, width) and channels."""
    channels, *size = spec.input_shape
    height, width = size
    for stem in stem_layers(spec):
        yield stem, (height, width), channels
        for layer in stem:
            height, width = output_size(layer, (height, width))
            channels = layer.outputs if isinstance(layer, Convolution) else channels
    auxiliary = auxiliary_layers(spec)
    layouts = cell_layouts(spec)
    for layout in layouts:
        for number in (0, 1):
            yield layout.preprocess(number, spec.affine), layout.input_sizes[number], layout.inputs[number]
        cell = spec.cell(layout.kind)
        for number, edge in enumerate(cell.edges):
            source_size = layout.input_sizes[1] if edge.source < 2 else layout.size
            for operation in edge.operations:
                if operation != NONE:
                    yield edge_layers(spec, layout, number, operation), source_size, layout.channels // cell.partial
        if auxiliary is not None and auxiliary[0] == layout.index:
            yield auxiliary[1], layout.size, layout.channels * len(cell.concat)
    last = layouts[-1]
    yield head_layers(spec), last.size, last.channels * len(spec.cell(last.kind).concat)


def _primitives(layers: tuple[Layer, ...]) -> Iterator[Convolution | Norm | Linear]:
    for layer in layers:
        if isinstance(layer, ShiftedPair):
            yield layer.first
            yield layer.second
        elif isinstance(layer, (Convolution, Norm, Linear)):
            yield layer


def weight_shapes(spec: NetworkSpec) -> dict[str, tuple[int, ...]]:
    """Return the canonical name and shape of every weight, in execution order."""
    shapes: dict[str, tuple[int, ...]] = {}
    for layers, *_ in sequences(spec):
        for layer in _primitives(layers):
            if isinstance(layer, Convolution):
                shapes[f"{layer.name}.weight"] = layer.weight_shape
            elif isinstance(layer, Linear):
                shapes[f"{layer.name}.weight"] = (layer.outputs, layer.inputs)
                shapes[f"{layer.name}.bias"] = (layer.outputs,)
            elif layer.affine:
                shapes[f"{layer.name}.weight"] = shapes[f"{layer.name}.bias"] = (layer.channels,)
    return shapes


def statistics_shapes(spec: NetworkSpec) -> dict[str, tuple[int, ...]]:
    """Return the canonical name and shape of every batch norm's running mean and variance."""
    shapes: dict[str, tuple[int, ...]] = {}
    for layers, *_ in sequences(spec):
        for layer in _primitives(layers):
            if isinstance(layer, Norm):
                shapes[f"{layer.name}.running_mean"] = shapes[f"{layer.name}.running_var"] = (layer.channels,)
    return shapes


def traced_shapes(spec: NetworkSpec) -> dict[str, tuple[int, int, int]]:
    """Return name and shape (channels, height, width) of the tensors between layers, in execution order.

    ``stems.<number>``: outputs of the stem; ``cells.<index>.<node>``: the nodes of each cell, its
    two preprocessed inputs first; ``cells.<index>``: each cell's output.
    """
    shapes: dict[str, tuple[int, int, int]] = {}
    size = (spec.input_shape[1], spec.input_shape[2])
    for number, stem in enumerate(stem_layers(spec)):
        channels = 0
        for layer in stem:
            size = output_size(layer, size)
            channels = layer.outputs if isinstance(layer, Convolution) else channels
        shapes[f"stems.{number}"] = (channels, *size)
    for layout in cell_layouts(spec):
        cell = spec.cell(layout.kind)
        for node in range(cell.nodes + 2):
            shapes[f"{layout.name}.{node}"] = (
                layout.channels,
                *(layout.input_sizes[1] if node < 2 else layout.size),
            )
        shapes[layout.name] = (layout.channels * len(cell.concat), *layout.size)
    return shapes


def architecture_shapes(spec: NetworkSpec) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every architecture weight.

    ``alpha.<cell type>``: α′, (edges, candidates), columns in the order of
    `dots_core.search_space.cell.CellSpec.candidates`, entries of operations that an edge lacks unused.
    ``beta.<cell type>``: β′, (combinations,).
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for kind in spec.kinds():
        cell = spec.cell(kind)
        if cell.mixed:
            shapes[f"alpha.{kind}"] = cell.operation_groups.shape
    for kind in spec.kinds():
        blocks = spec.cell(kind).combination_groups
        if blocks is not None:
            shapes[f"beta.{kind}"] = blocks.shape
    return shapes


def derived_network(
    genotype: Genotype,
    layers: int = 20,
    channels: int = 36,
    classes: int = 10,
    input_shape: tuple[int, int, int] = (3, 32, 32),
    stem: str = "cifar",
    auxiliary: bool = False,
) -> NetworkSpec:
    """Return the network that stacks a genotype's cells (DARTS evaluation network)."""
    return NetworkSpec(
        normal=genotype.cell("normal"),
        reduce=genotype.cell("reduce"),
        layers=layers,
        channels=channels,
        classes=classes,
        input_shape=input_shape,
        stem=stem,
        affine=True,
        pool_norm=False,
        auxiliary=auxiliary,
    )
