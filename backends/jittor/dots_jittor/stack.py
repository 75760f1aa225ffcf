"""One stack of layers (`dots_core.engine.stacking`), run with Jittor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import DTypeLike

from dots_core.engine import stacking
from dots_core.engine.flat_layout import FlatLayout
from dots_core.engine.stacking import StackedConvolution, StackedLinear, StackedNorm, StackedPair
from dots_core.network.layers import NORM_MOMENTUM, Convolution, GlobalAverage, MaxPool2x2, Pool, ReLU, WindowAverage
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
        """Return a tensor on its way, kept if the pass is traced."""
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


Step = Callable[[ForwardContext, Var, "Var | None"], Var]


class Stack:
    """A stack's steps as calls of Jittor. It rectifies its input itself where that must be rectified."""

    rectified = False

    def __init__(self, stack: stacking.Stack) -> None:
        self._steps: list[Step] = []
        rectify = stack.rectified
        for step in stack.steps:
            folds = isinstance(step, (StackedConvolution, StackedPair))
            if rectify and not folds:
                self._steps.append(_rectify)
            if isinstance(step, ReLU):
                rectify = True
                continue
            self._steps.append(_step(step, rectify))
            rectify = False
        if rectify:
            self._steps.append(_rectify)

    def __call__(self, context: ForwardContext, x: Var, weight: Var | None = None) -> Var:
        """Run the layers.

        Parameters
        ----------
        x : Var, shape (N, C, H, W)
            The shared input.
        weight : Var, shape (width,), optional
            Factor of each sequence's output.

        Returns
        -------
        Var
            As `dots_core.engine.stacking.Stack.shared` says.
        """
        for step in self._steps:
            x = step(context, x, weight)
        return x


def _rectify(context: ForwardContext, x: Var, edge_weight: Var | None) -> Var:
    return context.ops.rectify(x)


def _step(step: stacking.Step, rectify: bool) -> Step:
    if isinstance(step, Pool):
        window = Window(3, step.stride, 1)
        if step.kind == "max":
            return lambda context, x, edge_weight: context.ops.max_pool(x, window)
        return lambda context, x, edge_weight: context.ops.average_pool(x, window)
    if isinstance(step, MaxPool2x2):
        halving = Window(2, 2, over=True)
        return lambda context, x, edge_weight: context.ops.max_pool(x, halving)
    if isinstance(step, WindowAverage):
        unpadded = Window(step.kernel, step.stride)
        return lambda context, x, edge_weight: context.ops.average_pool(x, unpadded)
    if isinstance(step, GlobalAverage):
        return _global_average
    if isinstance(step, StackedLinear):
        return _linear(step)
    if isinstance(step, StackedNorm):
        return _norm(step)
    if isinstance(step, StackedPair):
        return _shifted_pair(step, rectify)
    assert isinstance(step, StackedConvolution)
    return _convolution(step, rectify)


def _global_average(context: ForwardContext, x: Var, edge_weight: Var | None) -> Var:
    # The gradient of Jittor's mean divides in float32, whatever the type.
    _, channels, height, width = x.shape
    return x.sum(dims=(2, 3)) * context.constants.vector(1 / (height * width), channels)


def _linear(linear: StackedLinear) -> Step:
    def step(context: ForwardContext, x: Var, edge_weight: Var | None) -> Var:
        weight, bias = context.weights[linear.weight], context.weights[linear.bias]
        n, inputs = x.shape
        outputs = weight.shape[0]
        y = context.ops.pointwise(x.reshape((n, inputs, 1, 1)), weight.reshape((outputs, inputs, 1, 1)), 1, False)
        return y.reshape((n, outputs)) + bias

    return step


def _norm(norm: StackedNorm) -> Step:
    channels = norm.width * norm.channels

    def step(context: ForwardContext, x: Var, edge_weight: Var | None) -> Var:
        scale = context.constants.vector(1, channels) if norm.weight is None else context.weights[norm.weight]
        shift = context.constants.vector(0, channels) if norm.bias is None else context.weights[norm.bias]
        if norm.weighted and edge_weight is not None:
            # Scaling an edge's output is free when batch norm's own weight does it.
            scale = edge_weight if norm.weight is None else _spread(edge_weight, channels) * scale
            shift = shift if norm.bias is None else _spread(edge_weight, channels) * shift
        if context.training:
            y, context.moments[norm.mean] = context.ops.normalise(x, scale, shift)
            return y
        return context.ops.normalise_by(
            x, scale, shift, context.statistics[norm.mean], context.statistics[norm.variance]
        )

    return step


def _spread(values: Var, channels: int) -> Var:
    """Give every channel its entry: shape (channels,) from a shorter vector."""
    (count,) = values.shape
    if count == channels:
        return values
    return values.reshape((count, 1)).broadcast((count, channels // count)).reshape((channels,))


def _shifted_pair(pair: StackedPair, rectify: bool) -> Step:
    def step(context: ForwardContext, x: Var, edge_weight: Var | None) -> Var:
        first = context.ops.pointwise(x, context.weights[pair.first], 1, rectify, stride=2)
        second = context.ops.pointwise(x, context.weights[pair.second], 1, rectify, stride=2, offset=1)
        # Each half holds all edges; bring the two halves of an edge together.
        n, _, h, w = first.shape
        halves = [y.reshape((n, pair.width, y.shape[1] // pair.width, h * w)) for y in (first, second)]
        return jt.concat(halves, 2).reshape((n, first.shape[1] + second.shape[1], h, w))

    return step


def _convolution(convolution: StackedConvolution, rectify: bool) -> Step:
    layer, weight, width = convolution.layer, convolution.weight, convolution.width
    if layer.groups > 1:
        window = Window(layer.kernel, layer.stride, layer.padding, layer.dilation)
        return lambda context, x, edge_weight: context.ops.depthwise(x, context.weights[weight], window, rectify)
    # On a shared input the edges' weights, stacked, are one convolution with more outputs.
    groups = 1 if convolution.shared else width
    if layer.kernel == 1 and layer.stride == 1 and layer.padding == 0:
        return lambda context, x, edge_weight: context.ops.pointwise(x, context.weights[weight], groups, rectify)
    return _dense(layer, weight, groups, rectify)


def _dense(layer: Convolution, weight: int, groups: int, rectify: bool) -> Step:
    def step(context: ForwardContext, x: Var, edge_weight: Var | None) -> Var:
        x = context.ops.rectify(x) if rectify else x
        return jt.nn.conv2d(x, context.weights[weight], None, layer.stride, layer.padding, layer.dilation, groups)

    return step
