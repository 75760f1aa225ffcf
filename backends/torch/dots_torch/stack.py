"""One stack of layers (`dots_core.engine.stacking`), run with PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from dots_core.engine import stacking
from dots_core.engine.stacking import StackedConvolution, StackedLinear, StackedNorm, StackedPair
from dots_core.network.layers import NORM_EPSILON, NORM_MOMENTUM, GlobalAverage, MaxPool2x2, Pool, ReLU, WindowAverage
from dots_torch.kernel_faults import pointwise_at_stride_2, pointwise_at_stride_2_shifted, repeated_for_norm
from dots_torch.tensors import Stacks


@dataclass
class ForwardContext:
    """What a forward pass reads.

    Attributes
    ----------
    weights, statistics : Stacks
        Stacked tensors by stack number.
    training : bool
        Normalise by the batch's statistics.
    track : bool
        Move the running statistics; only in training.
    traced : dict
        Left behind: the tensors of `dots_core.network.spec.traced_shapes`, where they are asked for.
    trace : bool
    """

    weights: Stacks
    statistics: Stacks
    training: bool
    track: bool
    trace: bool = False
    traced: dict[str, Tensor] = field(default_factory=dict)

    def passing(self, name: str, x: Tensor) -> Tensor:
        """Return a tensor on its way, kept if the pass is traced."""
        if self.trace:
            # A node that hears nothing but `none` depends on nothing, and still has a gradient.
            self.traced[name] = x if x.requires_grad else x.requires_grad_()
        return x


Step = Callable[[ForwardContext, Tensor, "Tensor | None"], Tensor]


class Stack:
    """A stack's steps as calls of PyTorch."""

    def __init__(self, stack: stacking.Stack) -> None:
        self.rectified = stack.rectified
        self._steps = tuple(_step(step) for step in stack.steps)

    def __call__(self, context: ForwardContext, x: Tensor, weight: Tensor | None = None) -> Tensor:
        """Run the layers.

        Parameters
        ----------
        x : Tensor, shape (N, C, H, W)
            The shared input; already rectified if `rectified`.
        weight : Tensor, shape (width,), optional
            Factor of each sequence's output.

        Returns
        -------
        Tensor
            As `dots_core.engine.stacking.Stack.shared` says.
        """
        for step in self._steps:
            x = step(context, x, weight)
        return x


def _step(step: stacking.Step) -> Step:
    if isinstance(step, ReLU):
        return lambda context, x, edge_weight: F.relu(x)
    if isinstance(step, Pool):
        return _pool(step)
    if isinstance(step, MaxPool2x2):
        return lambda context, x, edge_weight: F.max_pool2d(x, 2, 2, ceil_mode=True)
    if isinstance(step, WindowAverage):
        return lambda context, x, edge_weight: F.avg_pool2d(x, step.kernel, step.stride)
    if isinstance(step, GlobalAverage):
        return lambda context, x, edge_weight: x.mean((2, 3))
    if isinstance(step, StackedLinear):
        return lambda context, x, edge_weight: F.linear(x, context.weights[step.weight], context.weights[step.bias])
    if isinstance(step, StackedNorm):
        return _norm(step)
    if isinstance(step, StackedPair):
        return _shifted_pair(step)
    return _convolution(step)


def _norm(norm: StackedNorm) -> Step:
    def step(context: ForwardContext, x: Tensor, edge_weight: Tensor | None) -> Tensor:
        weight = None if norm.weight is None else context.weights[norm.weight]
        bias = None if norm.bias is None else context.weights[norm.bias]
        if norm.weighted and edge_weight is not None:
            # Scaling an edge's output is free when batch norm's own weight does it.
            factor = repeated_for_norm(edge_weight, norm.channels)
            weight = factor if weight is None else factor * weight
            bias = None if bias is None else factor * bias
        tracked = context.track or not context.training
        return F.batch_norm(
            x,
            context.statistics[norm.mean] if tracked else None,
            context.statistics[norm.variance] if tracked else None,
            weight,
            bias,
            context.training,
            NORM_MOMENTUM,
            NORM_EPSILON,
        )

    return step


def _pool(layer: Pool) -> Step:
    if layer.kind == "max":
        return lambda context, x, edge_weight: F.max_pool2d(x, 3, layer.stride, 1)
    return lambda context, x, edge_weight: F.avg_pool2d(x, 3, layer.stride, 1, count_include_pad=False)


def _shifted_pair(pair: StackedPair) -> Step:
    def step(context: ForwardContext, x: Tensor, edge_weight: Tensor | None) -> Tensor:
        halves = (
            pointwise_at_stride_2(x, context.weights[pair.first]),
            pointwise_at_stride_2_shifted(x, context.weights[pair.second]),
        )
        # Each half holds all edges; bring the two halves of an edge together.
        joined = torch.cat(halves, 1)
        return joined if pair.width == 1 else _swap(joined, 2, pair.width)

    return step


def _convolution(convolution: StackedConvolution) -> Step:
    layer, weight, m = convolution.layer, convolution.weight, convolution.width
    plain = layer.of_every_second_pixel
    if plain is not None:
        convolve = _convolution(replace(convolution, layer=plain))
        return lambda context, x, edge_weight: convolve(context, x[:, :, ::2, ::2], edge_weight)
    geometry = (layer.stride, layer.padding, layer.dilation)
    if m == 1 or not convolution.shared:
        groups = layer.groups * m
        return lambda context, x, edge_weight: F.conv2d(x, context.weights[weight], None, *geometry, groups)
    if layer.groups == 1:
        return lambda context, x, edge_weight: F.conv2d(x, context.weights[weight], None, *geometry)
    channels, k = layer.inputs, layer.kernel

    def repeated(context: ForwardContext, x: Tensor, edge_weight: Tensor | None) -> Tensor:
        return F.conv2d(torch.cat([x] * m, 1), context.weights[weight], None, *geometry, channels * m)

    def multiplied(context: ForwardContext, x: Tensor, edge_weight: Tensor | None) -> Tensor:
        by_channel = context.weights[weight].view(m, channels, k * k).transpose(0, 1).reshape(-1, 1, k, k)
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
