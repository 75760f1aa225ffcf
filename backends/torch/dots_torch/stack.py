"""Equal sequences of layers on one shared input, run together.

The edges out of a node read the same tensor. Their equal operations are stacked along
channels, edge after edge: one depthwise, one pointwise and one batch-norm call serve all of
them. A sequence that stands alone (stem, preprocessing, heads) is a stack of one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from dots_core.layers import (
    NORM_EPSILON,
    NORM_MOMENTUM,
    Convolution,
    GlobalAverage,
    Layer,
    Linear,
    Norm,
    Pool,
    ReLU,
    ShiftedPair,
    WindowAverage,
)
from dots_torch.arena import Arena


@dataclass
class Pass:
    """What a forward pass reads.

    Attributes
    ----------
    weights, statistics : list of Tensor
        Stacked tensors by stack number.
    training : bool
        Normalise by the batch's statistics.
    track : bool
        Move the running statistics; only in training.
    """

    weights: list[Tensor]
    statistics: list[Tensor]
    training: bool
    track: bool


Step = Callable[[Pass, Tensor, "Tensor | None"], Tensor]


class Stack:
    """Sequences of equal structure on one input.

    Parameters
    ----------
    weights, statistics : Arena
        Where the layers' arrays are placed.
    sequences : one tuple of layers an edge
        All of the same kinds and sizes.
    """

    def __init__(self, weights: Arena, statistics: Arena, sequences: tuple[tuple[Layer, ...], ...]) -> None:
        self.width = len(sequences)
        self._weights = weights
        self._statistics = statistics
        layers = list(zip(*sequences, strict=True))
        self.starts_with_relu = bool(layers) and isinstance(layers[0][0], ReLU)
        last_norm = max((i for i, peers in enumerate(layers) if isinstance(peers[0], Norm)), default=-1)
        self.takes_gain = last_norm >= 0 and last_norm == len(layers) - 1
        self._steps: list[Step] = []
        shared = True
        for number, peers in enumerate(layers):
            step, shared = self._step(peers, shared, gained=number == last_norm)
            if not (number == 0 and self.starts_with_relu):
                self._steps.append(step)
        self.shared = shared

    def __call__(self, run: Pass, x: Tensor, gain: Tensor | None = None) -> Tensor:
        """Run the layers.

        Parameters
        ----------
        x : Tensor, shape (N, C, H, W)
            The shared input; already rectified if `starts_with_relu`.
        gain : Tensor, shape (width,), optional
            Factor of each sequence's output, applied by the last batch norm.

        Returns
        -------
        Tensor, shape (N, width·C′, H′, W′)
            Edge after edge along channels; (N, C′, …) if nothing told the edges apart.
        """
        for step in self._steps:
            x = step(run, x, gain)
        return x

    def _step(self, peers: tuple[Layer, ...], shared: bool, gained: bool) -> tuple[Step, bool]:
        """Return one layer's function and whether its output is still shared by all edges."""
        layer = peers[0]
        m = self.width
        if isinstance(layer, ReLU):
            return lambda run, x, gain: F.relu(x), shared
        if isinstance(layer, Pool):
            return _pool(layer), shared
        if isinstance(layer, WindowAverage):
            return lambda run, x, gain: F.avg_pool2d(x, layer.kernel, layer.stride), shared
        if isinstance(layer, GlobalAverage):
            return lambda run, x, gain: x.mean((2, 3)), shared
        if isinstance(layer, Linear):
            weight = self._weights.stack((f"{layer.name}.weight",), (layer.outputs, layer.inputs))
            bias = self._weights.stack((f"{layer.name}.bias",), (layer.outputs,))
            return lambda run, x, gain: F.linear(x, run.weights[weight], run.weights[bias]), shared
        if isinstance(layer, Norm):
            return self._norm(tuple(p.name for p in peers if isinstance(p, Norm)), layer, shared, gained), shared
        if isinstance(layer, ShiftedPair):
            pairs = [p for p in peers if isinstance(p, ShiftedPair)]
            first = self._convolution_weight([p.first for p in pairs])
            second = self._convolution_weight([p.second for p in pairs])
            return _shifted_pair(first, second, m), False
        convolutions = [p for p in peers if isinstance(p, Convolution)]
        weight = self._convolution_weight(convolutions)
        return _convolution(convolutions[0], weight, m, shared), False

    def _convolution_weight(self, peers: list[Convolution]) -> int:
        return self._weights.stack(tuple(f"{p.name}.weight" for p in peers), peers[0].weight_shape)

    def _norm(self, names: tuple[str, ...], layer: Norm, shared: bool, gained: bool) -> Step:
        # Edges whose input is still one tensor have equal statistics: one computation, one storage.
        place = self._statistics.share if shared else self._statistics.stack
        mean = place(tuple(f"{n}.running_mean" for n in names), (layer.channels,))
        variance = place(tuple(f"{n}.running_var" for n in names), (layer.channels,))
        weight = bias = None
        if layer.affine:
            weight = self._weights.stack(tuple(f"{n}.weight" for n in names), (layer.channels,))
            bias = self._weights.stack(tuple(f"{n}.bias" for n in names), (layer.channels,))

        def step(run: Pass, x: Tensor, gain: Tensor | None) -> Tensor:
            w = None if weight is None else run.weights[weight]
            b = None if bias is None else run.weights[bias]
            if gained and gain is not None and not shared:
                # Scaling an edge's output is free when batch norm's own weight does it. Contiguous,
                # because its CPU gradient (PyTorch 2.13) reads past the end of an expanded weight.
                factor = gain[:, None].expand(-1, layer.channels).contiguous().view(-1)
                w = factor if w is None else factor * w
                b = None if b is None else factor * b
            tracked = run.track or not run.training
            return F.batch_norm(
                x,
                run.statistics[mean] if tracked else None,
                run.statistics[variance] if tracked else None,
                w,
                b,
                run.training,
                NORM_MOMENTUM,
                NORM_EPSILON,
            )

        return step


def _pool(layer: Pool) -> Step:
    if layer.kind == "max":
        return lambda run, x, gain: F.max_pool2d(x, 3, layer.stride, 1)
    return lambda run, x, gain: F.avg_pool2d(x, 3, layer.stride, 1, count_include_pad=False)


def _shifted_pair(first: int, second: int, m: int) -> Step:
    def step(run: Pass, x: Tensor, gain: Tensor | None) -> Tensor:
        height, width = x.shape[-2:]
        shifted = x[:, :, 1:, 1:] if height % 2 == 0 and width % 2 == 0 else F.pad(x, (-1, 1, -1, 1))
        halves = (F.conv2d(x, run.weights[first], stride=2), F.conv2d(shifted, run.weights[second], stride=2))
        # Each half holds all edges; bring the two halves of an edge together.
        joined = torch.cat(halves, 1)
        return joined if m == 1 else _swap(joined, 2, m)

    return step


def _convolution(layer: Convolution, weight: int, m: int, shared: bool) -> Step:
    depthwise = layer.groups > 1
    if layer.stride == layer.dilation == 2 and layer.padding == layer.kernel - 1:
        # Its taps fall on every second pixel only: a plain convolution of those pixels is the same,
        # and several times faster.
        plain = replace(layer, stride=1, dilation=1, padding=layer.kernel // 2)
        convolve = _convolution(plain, weight, m, shared)
        return lambda run, x, gain: convolve(run, x[:, :, ::2, ::2], gain)
    geometry = (layer.stride, layer.padding, layer.dilation)
    if m == 1 or not shared:
        groups = layer.groups * m
        return lambda run, x, gain: F.conv2d(x, run.weights[weight], None, *geometry, groups)
    if not depthwise:
        return lambda run, x, gain: F.conv2d(x, run.weights[weight], None, *geometry)
    channels, k = layer.inputs, layer.kernel

    def repeated(run: Pass, x: Tensor, gain: Tensor | None) -> Tensor:
        return F.conv2d(torch.cat([x] * m, 1), run.weights[weight], None, *geometry, channels * m)

    def multiplied(run: Pass, x: Tensor, gain: Tensor | None) -> Tensor:
        by_channel = run.weights[weight].view(m, channels, k * k).transpose(0, 1).reshape(-1, 1, k, k)
        return _swap(F.conv2d(x, by_channel, None, *geometry, channels), channels, m)

    # One depthwise call with m outputs a channel, or m copies of the input: the second is faster
    # where the library has a fast plain depthwise kernel, which for dilated ones it has not.
    return multiplied if layer.dilation > 1 else repeated


def _swap(x: Tensor, outer: int, inner: int) -> Tensor:
    """Reorder channels (outer, inner, rest) to (inner, outer, rest), keeping the memory format."""
    if x.is_contiguous(memory_format=torch.channels_last):
        last = x.permute(0, 2, 3, 1).unflatten(3, (outer, inner, -1)).transpose(3, 4).flatten(3)
        return last.permute(0, 3, 1, 2)
    return x.unflatten(1, (outer, inner, -1)).transpose(1, 2).flatten(1, 3)
