"""Parameters and multiply-accumulates of a network, from its description alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dots_core.network.spec import NetworkSpec, sequences, weight_shapes
from dots_core.search_space.layers import Convolution, Layer, Linear, ShiftedPair, Size, output_size


def parameter_count(spec: NetworkSpec) -> int:
    """Return the number of trained weights, the auxiliary head's included if the network has one."""
    return sum(int(np.prod(shape)) for shape in weight_shapes(spec).values())


def mac_count(spec: NetworkSpec) -> int:
    """Return the multiply-accumulates (MACs) of one image's forward pass at evaluation.

    Convolutions and linear layers are counted; batch norm, pooling, additions and the auxiliary
    head, which evaluation does not run, are not. One MAC is two floating-point operations (FLOPs).
    """

    def macs(layer: Layer, size: tuple[int, int]) -> int:
        if isinstance(layer, Convolution):
            height, width = output_size(layer, size)
            return height * width * int(np.prod(layer.weight_shape))
        if isinstance(layer, ShiftedPair):
            return macs(layer.first, size) + macs(layer.second, size)
        return layer.inputs * layer.outputs if isinstance(layer, Linear) else 0

    total = 0
    for layers, size, _ in sequences(replace(spec, auxiliary=False)):
        for layer in layers:
            total += macs(layer, size)
            size = output_size(layer, size)
    return total


def activation_count(spec: NetworkSpec) -> int:
    """Return how many numbers the layers put out for one image in training.

    Nearly all of them are kept for the backward pass, so with the batch size and the bytes of a
    number this estimates the memory a training step needs.
    """
    return sum(layer_outputs(layers, size, channels) for layers, size, channels in sequences(spec))


def layer_outputs(layers: tuple[Layer, ...], size: Size, channels: int) -> int:
    """Return how many numbers layers put out for one image of a size and so many channels."""
    total = 0
    for layer in layers:
        size = output_size(layer, size)
        if isinstance(layer, (Convolution, Linear)):
            channels = layer.outputs
        elif isinstance(layer, ShiftedPair):
            channels = layer.first.outputs + layer.second.outputs
        total += channels * size[0] * size[1]
    return total
