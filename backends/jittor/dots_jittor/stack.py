"""One stack of layers (`dots_core.engine.stacking`), run with Jittor."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import DTypeLike

from dots_core.engine import forward, stacking
from dots_core.engine.flat_layout import FlatLayout
from dots_core.engine.forward import Step
from dots_core.engine.stacking import StackedConvolution, StackedLinear, StackedNorm, StackedPair
from dots_core.search_space.layers import NORM_MOMENTUM, GlobalAverage, MaxPool2x2, Pool, ReLU, WindowAverage
from dots_jittor.arrays import Var, Views, joined, placed, upload
from dots_jittor.primitives import Primitives
from dots_jittor.startup import jt
from dots_jittor.window import Window


class Constants:
    """Tensors of equal entries, each made once."""

    def __init__(self, dtype: DTypeLike) -> None:
        self._dtype = dtype
        self._vectors: dict[tuple[float, int], Var] = {}
        self._zeros: dict[tuple[int, ...], Var] = {}

    def vector(self, value: float, size: int) -> Var:
        """Return the vector of a size all of whose entries are the value."""
        key = (value, size)
        if key not in self._vectors:
            self._vectors[key] = upload(np.full(size, value, self._dtype))
        return self._vectors[key]

    def zeros(self, shape: tuple[int, ...]) -> Var:
        """Return the tensor of a shape all of whose entries are 0."""
        if shape not in self._zeros:
            self._zeros[shape] = upload(np.zeros(shape, self._dtype))
        return self._zeros[shape]


@dataclass
class ForwardContext:
    """What a forward pass reads, and what it leaves behind.

    Attributes
    ----------
    ops : Primitives
    weights, statistics : Views
        Stacked tensors by stack number.
    training : bool
        Normalise by the batch's statistics.
    constants : Constants
    trace : bool
        Keep the tensors of `dots_core.network.spec.traced_shapes`.
    moments : dict of int to Var
        Left behind in training: the batch's mean and unbiased variance, shape (2, channels), by
        the number of the mean's stack.
    traced : dict of str to Var
        Left behind if ``trace``.
    """

    ops: Primitives
    weights: Views
    statistics: Views
    training: bool
    constants: Constants
    trace: bool = False
    moments: dict[int, Var] = field(default_factory=dict)
    traced: dict[str, Var] = field(default_factory=dict)

    def passing(self, name: str, x: Var) -> Var:
        """Return a tensor on its way, of any shape, kept if the pass is traced."""
        if self.trace:
            self.traced[name] = x
        return x


def moved_statistics(layout: FlatLayout, statistics: Var, context: ForwardContext) -> Var:
    """Return the running statistics moved towards those of the batch that a pass saw.

    Parameters
    ----------
    layout : FlatLayout
        Of the statistics.
    statistics : Var, shape (layout.size,)
    context : ForwardContext
        In training. Statistics of layers it did not come through stay.
    """
    if not context.moments:
        return statistics
    # A norm's mean and variance stand next to each other in the layout, as in its moments.
    moments = {layout.stacks[number][0]: context.moments[number] for number in context.moments}
    if sum(var.numel() for var in moments.values()) == layout.size:
        batch = joined([moments[start] for start in sorted(moments)])
        return context.ops.approach(statistics, batch, NORM_MOMENTUM).stop_grad()
    moves = np.zeros(layout.size, np.uint8)
    for start, var in moments.items():
        moves[start : start + var.numel()] = 1
    batch = placed(moments, layout.size, statistics.dtype)
    return context.ops.approach_some(statistics, batch, upload(moves), NORM_MOMENTUM).stop_grad()


class Stack(forward.Stack):
    """A stack's steps as calls of Jittor, its input rectified where that must be; edges have weights (width,)."""

    def __init__(self, stack: stacking.Stack) -> None:
        self.rectified, self._weighted = False, stack.weighted
        self._steps: list[Step] = []
        # Whether the next step must rectify; convolutions do so in their own kernel.
        self._rectify = stack.rectified
        for step in stack.steps:
            if isinstance(step, ReLU):
                self._rectify = True
                continue
            if self._rectify and not isinstance(step, (StackedConvolution, StackedPair)):
                self._steps.append(self.relu(ReLU()))
            self._steps.append(self.made(step))
            self._rectify = False
        if self._rectify:
            self._steps.append(self.relu(ReLU()))

    def relu(self, layer: ReLU) -> Step:
        return lambda context, x, edges: context.ops.rectify(x)

    def pool(self, layer: Pool) -> Step:
        window = Window(3, layer.stride, 1)
        if layer.kind == "max":
            return lambda context, x, edges: context.ops.max_pool(x, window)
        return lambda context, x, edges: context.ops.average_pool(x, window)

    def max_pool_2x2(self, layer: MaxPool2x2) -> Step:
        halving = Window(2, 2, over=True)
        return lambda context, x, edges: context.ops.max_pool(x, halving)

    def window_average(self, layer: WindowAverage) -> Step:
        unpadded = Window(layer.kernel, layer.stride)
        return lambda context, x, edges: context.ops.average_pool(x, unpadded)

    def global_average(self, layer: GlobalAverage) -> Step:
        def averaged(context: ForwardContext, x: Var, edges: Var | None) -> Var:
            # The gradient of Jittor's mean divides in float32, whatever the type.
            _, channels, height, width = x.shape
            return x.sum(dims=(2, 3)) * context.constants.vector(1 / (height * width), channels)

        return averaged

    def linear(self, step: StackedLinear) -> Step:
        def product(context: ForwardContext, x: Var, edges: Var | None) -> Var:
            weight, bias = context.weights[step.weight], context.weights[step.bias]
            n, inputs = x.shape
            outputs = weight.shape[0]
            # (N, inputs) as images of one pixel: (N, outputs, 1, 1).
            y = context.ops.pointwise(x.reshape((n, inputs, 1, 1)), weight.reshape((outputs, inputs, 1, 1)), 1, False)
            return y.reshape((n, outputs)) + bias

        return product

    def norm(self, step: StackedNorm) -> Step:
        channels = step.width * step.channels

        def normalised(context: ForwardContext, x: Var, edges: Var | None) -> Var:
            scale = context.constants.vector(1, channels) if step.weight is None else context.weights[step.weight]
            shift = context.constants.vector(0, channels) if step.bias is None else context.weights[step.bias]
            if step.weighted and edges is not None:
                # Scaling an edge's output is free when batch norm's own weight does it. Weights (width,) need not be
                # spread where they stand alone: a kernel takes an entry for as many neighbouring channels.
                scale = edges if step.weight is None else _spread(edges, channels) * scale
                shift = shift if step.bias is None else _spread(edges, channels) * shift
            if context.training:
                y, context.moments[step.mean] = context.ops.normalise(x, scale, shift)
                return y
            moments = (context.statistics[step.mean], context.statistics[step.variance])
            return context.ops.normalise_by(x, scale, shift, *moments)

        return normalised

    def shifted_pair(self, step: StackedPair) -> Step:
        rectify = self._rectify

        def joined(context: ForwardContext, x: Var, edges: Var | None) -> Var:
            first = context.ops.pointwise(x, context.weights[step.first], 1, rectify, stride=2)
            second = context.ops.pointwise(x, context.weights[step.second], 1, rectify, stride=2, offset=1)
            # Each half, (N, width·half, H′, W′), holds all edges; bring the two halves of an edge together.
            n, _, h, w = first.shape
            halves = [y.reshape((n, step.width, y.shape[1] // step.width, h * w)) for y in (first, second)]
            return jt.concat(halves, 2).reshape((n, first.shape[1] + second.shape[1], h, w))

        return joined

    def convolution(self, step: StackedConvolution) -> Step:
        layer, weight, rectify, stride = step.layer, step.weight, self._rectify, step.layer.stride
        if layer.groups > 1:
            window = Window(layer.kernel, layer.stride, layer.padding, layer.dilation)
            return lambda context, x, edges: context.ops.depthwise(x, context.weights[weight], window, rectify)
        # On a shared input the edges' weights, stacked, are one convolution with more outputs.
        groups = 1 if step.shared else step.width
        if layer.kernel == 1 and layer.padding == 0:
            return lambda context, x, edges: context.ops.pointwise(x, context.weights[weight], groups, rectify, stride)

        def dense(context: ForwardContext, x: Var, edges: Var | None) -> Var:
            x = context.ops.rectify(x) if rectify else x
            geometry = (layer.stride, layer.padding, layer.dilation)
            return jt.nn.conv2d(x, context.weights[weight], None, *geometry, groups)

        return dense


def _spread(values: Var, channels: int) -> Var:
    """Give every channel its entry: shape (channels,) from a shorter vector."""
    (count,) = values.shape
    if count == channels:
        return values
    return values.reshape((count, 1)).broadcast((count, channels // count)).reshape((channels,))
