"""One stack of layers (`dots_core.engine.stacking`), run with PyTorch, in whichever memory format its input comes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from dots_core.engine import forward
from dots_core.engine.forward import Step
from dots_core.engine.stacking import StackedConvolution, StackedLinear, StackedNorm, StackedPair
from dots_core.search_space import layers
from dots_torch.kernel_faults import pointwise_at_stride_2, pointwise_at_stride_2_shifted, repeated_for_norm
from dots_torch.tensors import Leaves


@dataclass
class ForwardContext:
    """What a forward pass reads.

    Attributes
    ----------
    weights, statistics : list of Tensor, or Leaves
        Stacked tensors by stack number.
    training : bool
        Normalise by the batch's statistics.
    track : bool
        Move the running statistics; only in training.
    traced : dict
        Left behind: the tensors of `dots_core.network.spec.traced_shapes`, where they are asked for.
    trace : bool
    """

    weights: list[Tensor] | Leaves
    statistics: list[Tensor]
    training: bool
    track: bool
    trace: bool = False
    traced: dict[str, Tensor] = field(default_factory=dict)

    def passing(self, name: str, x: Tensor) -> Tensor:
        """Return a tensor on its way, of any shape, kept if the pass is traced."""
        if self.trace:
            # A node that hears nothing but `none` depends on nothing, and still has a gradient.
            self.traced[name] = x if x.requires_grad else x.requires_grad_()
        return x


class Stack(forward.Stack):
    """A stack's steps as calls of PyTorch; the weights of its sequences have shape (width,)."""

    def relu(self, layer: layers.ReLU) -> Step:
        return lambda context, x, edges: F.relu(x)

    def pool(self, layer: layers.Pool) -> Step:
        if layer.kind == "max":
            return lambda context, x, edges: F.max_pool2d(x, 3, layer.stride, 1)
        return lambda context, x, edges: F.avg_pool2d(x, 3, layer.stride, 1, count_include_pad=False)

    def max_pool_2x2(self, layer: layers.MaxPool2x2) -> Step:
        return lambda context, x, edges: F.max_pool2d(x, 2, 2, ceil_mode=True)

    def window_average(self, layer: layers.WindowAverage) -> Step:
        return lambda context, x, edges: F.avg_pool2d(x, layer.kernel, layer.stride)

    def global_average(self, layer: layers.GlobalAverage) -> Step:
        return lambda context, x, edges: x.mean((2, 3))

    def linear(self, step: StackedLinear) -> Step:
        return lambda context, x, edges: F.linear(x, context.weights[step.weight], context.weights[step.bias])

    def norm(self, step: StackedNorm) -> Step:
        def normalised(context: ForwardContext, x: Tensor, edges: Tensor | None) -> Tensor:
            weight = None if step.weight is None else context.weights[step.weight]
            bias = None if step.bias is None else context.weights[step.bias]
            if step.weighted and edges is not None:
                # Scaling an edge's output is free when batch norm's own weight does it.
                factor = repeated_for_norm(edges, step.channels)  # (width,) to (width·channels,)
                weight = factor if weight is None else factor * weight
                bias = None if bias is None else factor * bias
            tracked = context.track or not context.training
            return F.batch_norm(
                x,
                context.statistics[step.mean] if tracked else None,
                context.statistics[step.variance] if tracked else None,
                weight,
                bias,
                context.training,
                layers.NORM_MOMENTUM,
                layers.NORM_EPSILON,
            )

        return normalised

    def shifted_pair(self, step: StackedPair) -> Step:
        def joined(context: ForwardContext, x: Tensor, edges: Tensor | None) -> Tensor:
            halves = (
                pointwise_at_stride_2(x, context.weights[step.first]),
                pointwise_at_stride_2_shifted(x, context.weights[step.second]),
            )
            # Each half, (N, width·half, H′, W′), holds all edges; bring the two halves of an edge together.
            y = torch.cat(halves, 1)
            return y if step.width == 1 else _swap(y, 2, step.width)

        return joined

    def convolution(self, step: StackedConvolution) -> Step:
        layer, weight, m = step.layer, step.weight, step.width
        plain = layer.of_every_second_pixel
        if plain is not None:
            convolve = self.convolution(replace(step, layer=plain))
            return lambda context, x, edges: convolve(context, x[:, :, ::2, ::2], edges)
        geometry = (layer.stride, layer.padding, layer.dilation)
        if m == 1 or not step.shared:
            groups = layer.groups * m
            return lambda context, x, edges: F.conv2d(x, context.weights[weight], None, *geometry, groups)
        if layer.groups == 1:
            return lambda context, x, edges: F.conv2d(x, context.weights[weight], None, *geometry)
        channels, k = layer.inputs, layer.kernel

        def repeated(context: ForwardContext, x: Tensor, edges: Tensor | None) -> Tensor:
            # Of (N, m·channels, H, W), edge after edge.
            return F.conv2d(torch.cat([x] * m, 1), context.weights[weight], None, *geometry, channels * m)

        def multiplied(context: ForwardContext, x: Tensor, edges: Tensor | None) -> Tensor:
            # The weight as (channels·m, 1, k, k), so that the output is (N, channels·m, H′, W′), channel after channel.
            by_channel = context.weights[weight].view(m, channels, k * k).transpose(0, 1).reshape(-1, 1, k, k)
            return _swap(F.conv2d(x, by_channel, None, *geometry, channels), channels, m)

        # One depthwise call with m outputs a channel, or m copies of the input: the second is faster
        # where the library has a fast plain depthwise kernel, which for dilated ones it has not.
        return multiplied if layer.dilation > 1 else repeated


def _swap(x: Tensor, outer: int, inner: int) -> Tensor:
    """Reorder channels (outer, inner, rest) of (N, C, H, W) to (inner, outer, rest), keeping the memory format."""
    if x.is_contiguous(memory_format=torch.channels_last):
        last = x.permute(0, 2, 3, 1).unflatten(3, (outer, inner, -1)).transpose(3, 4).flatten(3)
        return last.permute(0, 3, 1, 2)
    return x.unflatten(1, (outer, inner, -1)).transpose(1, 2).flatten(1, 3)
