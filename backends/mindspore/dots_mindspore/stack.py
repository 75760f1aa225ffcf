"""One stack of layers (`dots_core.engine.stacking`), run with MindSpore."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, ops

from dots_core.engine import stacking
from dots_core.engine.stacking import StackedConvolution, StackedLinear, StackedNorm, StackedPair
from dots_core.network.layers import (
    NORM_EPSILON,
    NORM_MOMENTUM,
    Convolution,
    GlobalAverage,
    MaxPool2x2,
    Pool,
    ReLU,
    WindowAverage,
)
from dots_mindspore.runtime import DeviceContext


@dataclass
class ForwardContext:
    """What a forward pass reads.

    Attributes
    ----------
    weights : mapping of int to Tensor
        Stacked tensors by stack number; those that the pass reads.
    statistics : mapping of int to Parameter
        Likewise; in training, batch norm moves them.
    training : bool
        Normalise by the batch's statistics.
    probes : dict of Tensor
        Zeros to be added to tensors of `dots_core.network.spec.traced_shapes`: the gradient with respect
        to a probe is that with respect to the tensor.
    traced : dict of Tensor
        Left behind: the tensors that were probed.
    """

    weights: Mapping[int, Tensor]
    statistics: Mapping[int, Parameter]
    training: bool
    probes: Mapping[str, Tensor] = field(default_factory=dict)
    traced: dict[str, Tensor] = field(default_factory=dict)

    def passing(self, name: str, x: Tensor) -> Tensor:
        """Return a tensor on its way, probed if the pass is traced."""
        if name in self.probes:
            x = self.traced[name] = x + self.probes[name]
        return x


Step = Callable[[ForwardContext, Tensor, "Tensor | None"], Tensor]

every_second_pixel: Callable[[Tensor], Tensor] = ops.MaxPool(1, 2, "valid")
"""(N, C, H, W) to (N, C, ⌈H/2⌉, ⌈W/2⌉). A slice with a step of 2 has no gradient on CPU (MindSpore 2.10)."""


class Stack:
    """A stack's steps as calls of MindSpore."""

    def __init__(self, stack: stacking.Stack, device_context: DeviceContext) -> None:
        self.rectified = stack.rectified
        self._steps: list[Step] = []
        steps = list(stack.steps)
        while steps:
            step = steps.pop(0)
            following = steps[0] if steps else None
            if isinstance(step, StackedConvolution) and _composable(step, following, device_context):
                assert isinstance(following, StackedConvolution)
                self._steps.append(_composed(step, following, device_context))
                steps.pop(0)
            else:
                self._steps.append(_step(step, device_context))

    def __call__(self, context: ForwardContext, x: Tensor, weight: Tensor | None = None) -> Tensor:
        """Run the layers.

        Parameters
        ----------
        x : Tensor, shape (N, C, H, W)
            The shared input; already rectified if `rectified`.
        weight : Tensor, shape (width·channels,), optional
            Factor of each channel of the output.

        Returns
        -------
        Tensor
            As `dots_core.engine.stacking.Stack.shared` says.
        """
        for step in self._steps:
            x = step(context, x, weight)
        return x


def _step(step: stacking.Step, device_context: DeviceContext) -> Step:
    if isinstance(step, ReLU):
        return lambda context, x, edge_weight: ops.relu(x)
    if isinstance(step, Pool):
        return _pool(step)
    if isinstance(step, MaxPool2x2):
        # Padding "same" adds to odd sizes a last row and column that are never the maximum.
        halve = ops.MaxPool(2, 2, "same")
        return lambda context, x, edge_weight: halve(x)
    if isinstance(step, WindowAverage):
        average = ops.AvgPool(step.kernel, step.stride, "valid")
        return lambda context, x, edge_weight: average(x)
    if isinstance(step, GlobalAverage):
        return lambda context, x, edge_weight: ops.mean(x, (2, 3))
    if isinstance(step, StackedLinear):
        return _linear(step)
    if isinstance(step, StackedNorm):
        return _norm(step)
    if isinstance(step, StackedPair):
        return _shifted_pair(step, device_context)
    return _convolution(step, device_context)


def _linear(linear: StackedLinear) -> Step:
    product = ops.MatMul(transpose_b=True)
    return lambda context, x, edge_weight: product(x, context.weights[linear.weight]) + context.weights[linear.bias]


def _norm(norm: StackedNorm) -> Step:
    size = norm.width * norm.channels
    ones, zeros = Tensor(np.ones(size, np.float32)), Tensor(np.zeros(size, np.float32))
    in_training = ops.BatchNorm(is_training=True, epsilon=NORM_EPSILON, momentum=NORM_MOMENTUM)
    in_evaluation = ops.BatchNorm(is_training=False, epsilon=NORM_EPSILON)

    def step(context: ForwardContext, x: Tensor, edge_weight: Tensor | None) -> Tensor:
        weight = ones if norm.weight is None else context.weights[norm.weight]
        bias = zeros if norm.bias is None else context.weights[norm.bias]
        if norm.weighted and edge_weight is not None:
            # Scaling an edge's output is free when batch norm's own weight does it.
            weight = edge_weight if norm.weight is None else edge_weight * weight
            bias = bias if norm.bias is None else edge_weight * bias
        normalise = in_training if context.training else in_evaluation
        return normalise(x, weight, bias, context.statistics[norm.mean], context.statistics[norm.variance])[0]

    return step


def _pool(layer: Pool) -> Step:
    # Padding "same" is padding 1 at stride 1, and leaves the padding out of averages. At stride 2 it
    # would pad images of even size on one side only.
    pool = (ops.MaxPool if layer.kind == "max" else ops.AvgPool)(3, 1, "same")
    if layer.stride == 1:
        return lambda context, x, edge_weight: pool(x)
    return lambda context, x, edge_weight: every_second_pixel(pool(x))


def _shifted_pair(pair: StackedPair, device_context: DeviceContext) -> Step:
    width, halves = pair.width, (pair.layer.first, pair.layer.second)
    # A 1×1 convolution of the pixels (2y, 2x) next to one of (2y+1, 2x+1) is a 2×2 convolution whose
    # other taps are 0; the edges' channels then come out in the right order.
    taps = [Tensor(np.eye(4, dtype=np.float32)[[tap]].reshape(1, 1, 1, 2, 2)) for tap in (0, 3)]
    outputs = width * (halves[0].outputs + halves[1].outputs)
    convolvers: dict[tuple[int, int], Any] = {}

    def step(context: ForwardContext, x: Tensor, edge_weight: Tensor | None) -> Tensor:
        odd = (x.shape[2] % 2, x.shape[3] % 2)
        if odd not in convolvers:
            convolvers[odd] = ops.Conv2D(outputs, 2, pad_mode="pad", pad=(0, odd[0], 0, odd[1]), stride=2)
        parts = [
            ops.reshape(context.weights[number], (width, half.outputs, half.inputs, 1, 1)) * tap
            for number, half, tap in zip((pair.first, pair.second), halves, taps, strict=True)
        ]
        weight = ops.reshape(ops.concat(parts, 1), (outputs, halves[0].inputs, 2, 2))
        return _convolve(convolvers[odd], x, weight, device_context)

    return step


def _convolve(convolution: Any, x: Tensor, weight: Tensor, device_context: DeviceContext) -> Tensor:
    if device_context.reduced is None:
        return convolution(x, weight)
    return ops.cast(
        convolution(ops.cast(x, device_context.reduced), ops.cast(weight, device_context.reduced)), ms.float32
    )


def _primitive(layer: Convolution, outputs: int, groups: int) -> Any:
    return ops.Conv2D(
        outputs,
        layer.kernel,
        pad_mode="pad",
        pad=layer.padding,
        stride=layer.stride,
        dilation=layer.dilation,
        group=groups,
    )


def _convolution(convolution: StackedConvolution, device_context: DeviceContext) -> Step:
    layer, number, m = convolution.layer, convolution.weight, convolution.width
    plain = layer.of_every_second_pixel
    repeated = convolution.shared and m > 1 and layer.groups > 1
    groups = layer.groups * m if repeated or not convolution.shared else layer.groups
    primitive = _primitive(plain or layer, m * layer.outputs, groups)

    def step(context: ForwardContext, x: Tensor, edge_weight: Tensor | None) -> Tensor:
        if plain is not None:
            x = every_second_pixel(x)
        if repeated:
            x = ops.concat([x] * m, 1)
        return _convolve(primitive, x, context.weights[number], device_context)

    return step


def _composable(first: StackedConvolution, second: stacking.Step | None, device_context: DeviceContext) -> bool:
    """Whether two convolutions are a depthwise and a pointwise one that are better computed as one."""
    return (
        isinstance(second, StackedConvolution)
        and first.shared
        and first.layer.groups == first.layer.inputs == first.layer.outputs
        and second.layer.kernel == second.layer.groups == 1
        and first.layer.inputs <= device_context.choices.composed_channels
    )


def _composed(depthwise: StackedConvolution, pointwise: StackedConvolution, device_context: DeviceContext) -> Step:
    """A depthwise and a pointwise convolution as one: nothing stands between them, so their kernels multiply.

    W[o, i, y, x] = P[o, i]·D[i, y, x], edge by edge.
    """
    m, inputs, outputs, k = depthwise.width, depthwise.layer.inputs, pointwise.layer.outputs, depthwise.layer.kernel
    plain = depthwise.layer.of_every_second_pixel
    primitive = _primitive(plain or depthwise.layer, m * outputs, 1)

    def step(context: ForwardContext, x: Tensor, edge_weight: Tensor | None) -> Tensor:
        if plain is not None:
            x = every_second_pixel(x)
        spatial = ops.reshape(context.weights[depthwise.weight], (m, 1, inputs, k * k))
        mixing = ops.reshape(context.weights[pointwise.weight], (m, outputs, inputs, 1))
        return _convolve(primitive, x, ops.reshape(spatial * mixing, (m * outputs, inputs, k, k)), device_context)

    return step
