"""Layer forms: the sequences of layers an engine is asked to stack, each with its input, runnable alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dots_core.engine.protocol import Engine, Runtime, State
from dots_core.engine.stacking import Stacker, edge_sequences
from dots_core.network.spec import NetworkSpec, auxiliary_layers, bypass_layers, cell_layouts, head_layers, stem_layers
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
    Size,
    WindowAverage,
    output_shape,
    output_size,
)

SAMPLES = 4


@dataclass(frozen=True)
class Form:
    """Sequences of layers that are stacked, and the input they share.

    Attributes
    ----------
    sequences : tuple of layers, one an edge
        As `dots_core.engine.protocol.Engine.run_layers` takes them.
    channels : int
        Of the input.
    size : (height, width)
        Of the input.
    samples : int
    """

    sequences: tuple[tuple[Layer, ...], ...]
    channels: int
    size: Size
    samples: int = SAMPLES

    @classmethod
    def of(cls, sequences: tuple[tuple[Layer, ...], ...], channels: int, size: Size, samples: int = SAMPLES) -> Form:
        """Return the form of sequences of a network: equal layers of different places make equal forms."""
        renamed = (
            tuple(_renamed(layer, f"edge{edge}.layer{number}") for number, layer in enumerate(layers))
            for edge, layers in enumerate(sequences)
        )
        return cls(tuple(renamed), channels, size, samples)

    @property
    def name(self) -> str:
        """Its layers, input and width, for people: ``"shifted pair 4→4, input 4×8×8, width 2"``."""
        layers = " + ".join(_described(layer) for layer in self.sequences[0]) or "identity"
        height, width = self.size
        return f"{layers}, input {self.channels}×{height}×{width}, width {len(self.sequences)}"

    def layers(self) -> Iterator[Form]:
        """Yield every layer of it as a form of its own."""
        channels, size = self.channels, self.size
        for peers in zip(*self.sequences, strict=True):
            pooled = (GlobalAverage(),) if isinstance(peers[0], Linear) else ()
            yield Form.of(tuple((*pooled, peer) for peer in peers), channels, size, self.samples)
            _, channels, *_ = output_shape((peers[:1],), 1, channels, size)
            size = output_size(peers[0], size)

    def run(self, engine: Engine, runtime: Runtime) -> State:
        """Run it forward and backward, on numbers that are the same each time."""
        stacker = Stacker()
        stacker.stack(self.sequences)
        drawn = np.random.default_rng(len(self.sequences))
        weights = {name: _drawn(drawn, shape) for name, shape in stacker.weights.shapes.items()}
        images = _drawn(drawn, (self.samples, self.channels, *self.size))
        upstream = _drawn(drawn, output_shape(self.sequences, self.samples, self.channels, self.size))
        return engine.run_layers(self.sequences, weights, images, upstream, runtime)


def _renamed(layer: Layer, name: str) -> Layer:
    if isinstance(layer, ShiftedPair):
        return ShiftedPair(replace(layer.first, name=f"{name}.first"), replace(layer.second, name=f"{name}.second"))
    return replace(layer, name=name) if isinstance(layer, (Convolution, Norm, Linear)) else layer


def _drawn(drawn: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    return drawn.standard_normal(shape, np.float32)


def _described(layer: Layer) -> str:
    if isinstance(layer, Convolution):
        depth = " depthwise" if layer.groups > 1 else ""
        steps = {"stride": layer.stride, "dilation": layer.dilation}
        unusual = "".join(f" {name} {value}" for name, value in steps.items() if value > 1)
        return f"{layer.kernel}×{layer.kernel}{depth} convolution {layer.inputs}→{layer.outputs}{unusual}"
    if isinstance(layer, ShiftedPair):
        return f"shifted pair {layer.first.inputs}→{layer.first.outputs + layer.second.outputs}"
    if isinstance(layer, Norm):
        return "affine batch norm" if layer.affine else "batch norm"
    if isinstance(layer, Pool):
        return f"{layer.kind} pool 3×3 stride {layer.stride}"
    if isinstance(layer, MaxPool2x2):
        return "max pool 2×2 stride 2"
    if isinstance(layer, WindowAverage):
        return f"average {layer.kernel}×{layer.kernel} stride {layer.stride}"
    if isinstance(layer, Linear):
        return f"linear {layer.inputs}→{layer.outputs}"
    assert isinstance(layer, (ReLU, GlobalAverage))
    return "ReLU" if isinstance(layer, ReLU) else "global average"


def network_forms(spec: NetworkSpec, samples: int = SAMPLES) -> tuple[Form, ...]:
    """Return every form a network is stacked of, in execution order, each once."""
    return tuple(dict.fromkeys(Form.of(*found, samples) for found in _stacked(spec)))


def _stacked(spec: NetworkSpec) -> Iterator[tuple[tuple[tuple[Layer, ...], ...], int, Size]]:
    """Yield the sequences of every stack of a network, with the channels and the size of their input."""
    channels, *size = spec.input_shape
    here = (size[0], size[1])
    for stem in stem_layers(spec):
        yield ((stem,), channels, here)
        _, channels, *size = output_shape((stem,), 1, channels, here)
        here = (size[0], size[1])
    auxiliary = auxiliary_layers(spec)
    layouts = cell_layouts(spec)
    for layout in layouts:
        cell = spec.cell(layout.kind)
        for number in (0, 1):
            yield ((layout.preprocess(number, spec.affine),), layout.inputs[number], layout.input_sizes[number])
        through = layout.channels // cell.partial
        for node in range(cell.nodes + 2):
            here = layout.input_sizes[1] if node < 2 else layout.size
            for _, _, stacked in edge_sequences(spec, layout, node):
                if stacked[0]:
                    yield (stacked, through, here)
            beside = bypass_layers(layout, node)
            if cell.partial > 1 and beside and cell.outgoing(node):
                yield ((beside,), layout.channels - through, here)
        if auxiliary is not None and auxiliary[0] == layout.index:
            yield ((auxiliary[1],), layout.channels * len(cell.concat), layout.size)
    last = layouts[-1]
    yield ((head_layers(spec),), last.channels * len(spec.cell(last.kind).concat), last.size)
