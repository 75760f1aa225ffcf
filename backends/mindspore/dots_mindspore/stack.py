"""One stack of layers (`dots_core.engine.stacking`), run with MindSpore."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, ops

from dots_core.engine import forward, stacking
from dots_core.engine.forward import Step
from dots_core.engine.stacking import StackedConvolution, StackedLinear, StackedNorm, StackedPair
from dots_core.search_space.layers import (
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
        """Return a tensor on its way, of any shape, probed if the pass is traced."""
        if name in self.probes:
            x = self.traced[name] = x + self.probes[name]
        return x


every_second_pixel: Callable[[Tensor], Tensor] = ops.MaxPool(1, 2, "valid")
"""(N, C, H, W) to (N, C, ⌈H/2⌉, ⌈W/2⌉). A slice with a step of 2 has no gradient on CPU (MindSpore 2.10)."""


class Stack(forward.Stack):
    """A stack's steps as calls of MindSpore; the weights of its sequences have shape (width·channels,)."""

    def __init__(self, stack: stacking.Stack, device: DeviceContext) -> None:
        self._device, self.rectified, self._weighted = device, stack.rectified, stack.weighted
        self._steps: list[Step] = []
        steps = list(stack.steps)
        while steps:
            step = steps.pop(0)
            following = steps[0] if steps else None
            if isinstance(step, StackedConvolution) and _composable(step, following, device):
                assert isinstance(following, StackedConvolution)
                self._steps.append(_composed(step, following, device))
                steps.pop(0)
            else:
                self._steps.append(self.made(step))

    def relu(self, layer: ReLU) -> Step:
        return lambda context, x, edges: ops.relu(x)

    def pool(self, layer: Pool) -> Step:
        # Padding "same" is padding 1 at stride 1, and leaves the padding out of averages. At stride 2 it
        # would pad images of even size on one side only.
        pool = (ops.MaxPool if layer.kind == "max" else ops.AvgPool)(3, 1, "same")
        if layer.stride == 1:
            return lambda context, x, edges: pool(x)
        return lambda context, x, edges: every_second_pixel(pool(x))

    def max_pool_2x2(self, layer: MaxPool2x2) -> Step:
        # Padding "same" adds to odd sizes a last row and column that are never the maximum.
        halve = ops.MaxPool(2, 2, "same")
        return lambda context, x, edges: halve(x)

    def window_average(self, layer: WindowAverage) -> Step:
        average = ops.AvgPool(layer.kernel, layer.stride, "valid")
        return lambda context, x, edges: average(x)

    def global_average(self, layer: GlobalAverage) -> Step:
        return lambda context, x, edges: ops.mean(x, (2, 3))

    def linear(self, step: StackedLinear) -> Step:
        product = ops.MatMul(transpose_b=True)
        return lambda context, x, edges: product(x, context.weights[step.weight]) + context.weights[step.bias]

    def norm(self, step: StackedNorm) -> Step:
        size = step.width * step.channels
        ones, zeros = Tensor(np.ones(size, np.float32)), Tensor(np.zeros(size, np.float32))
        in_training = ops.BatchNorm(is_training=True, epsilon=NORM_EPSILON, momentum=NORM_MOMENTUM)
        in_evaluation = ops.BatchNorm(is_training=False, epsilon=NORM_EPSILON)

        def normalised(context: ForwardContext, x: Tensor, edges: Tensor | None) -> Tensor:
            weight = ones if step.weight is None else context.weights[step.weight]
            bias = zeros if step.bias is None else context.weights[step.bias]
            if step.weighted and edges is not None:
                # Scaling an edge's output is free when batch norm's own weight does it: all are (width·channels,).
                weight = edges if step.weight is None else edges * weight
                bias = bias if step.bias is None else edges * bias
            normalise = in_training if context.training else in_evaluation
            return normalise(x, weight, bias, context.statistics[step.mean], context.statistics[step.variance])[0]

        return normalised

    def shifted_pair(self, step: StackedPair) -> Step:
        width, halves = step.width, (step.layer.first, step.layer.second)
        # A 1×1 convolution of the pixels (2y, 2x) next to one of (2y+1, 2x+1) is a 2×2 convolution whose
        # other taps are 0; the edges' channels then come out in the right order.
        # (1, 1, 1, 2, 2): 1 at the tap, for all edges, outputs and inputs.
        taps = [Tensor(np.eye(4, dtype=np.float32)[[tap]].reshape(1, 1, 1, 2, 2)) for tap in (0, 3)]
        outputs = width * (halves[0].outputs + halves[1].outputs)
        convolvers: dict[tuple[int, int], Any] = {}

        def convolved(context: ForwardContext, x: Tensor, edges: Tensor | None) -> Tensor:
            odd = (x.shape[2] % 2, x.shape[3] % 2)
            if odd not in convolvers:
                convolvers[odd] = ops.Conv2D(outputs, 2, pad_mode="pad", pad=(0, odd[0], 0, odd[1]), stride=2)
            parts = [
                ops.reshape(context.weights[number], (width, half.outputs, half.inputs, 1, 1)) * tap
                for number, half, tap in zip((step.first, step.second), halves, taps, strict=True)
            ]
            # (width, half, inputs, 2, 2) each; of an edge the first half and then the second.
            weight = ops.reshape(ops.concat(parts, 1), (outputs, halves[0].inputs, 2, 2))
            return _convolve(convolvers[odd], x, weight, self._device)

        return convolved

    def convolution(self, step: StackedConvolution) -> Step:
        layer, number, m = step.layer, step.weight, step.width
        plain = layer.of_every_second_pixel
        repeated = step.shared and m > 1 and layer.groups > 1
        groups = layer.groups * m if repeated or not step.shared else layer.groups
        primitive = _primitive(plain or layer, m * layer.outputs, groups)

        def convolved(context: ForwardContext, x: Tensor, edges: Tensor | None) -> Tensor:
            if plain is not None:
                x = every_second_pixel(x)
            if repeated:
                x = ops.concat([x] * m, 1)
            return _convolve(primitive, x, context.weights[number], self._device)

        return convolved


def _convolve(convolution: Any, x: Tensor, weight: Tensor, device: DeviceContext) -> Tensor:
    if device.reduced is None:
        return convolution(x, weight)
    return ops.cast(convolution(ops.cast(x, device.reduced), ops.cast(weight, device.reduced)), ms.float32)


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


def _composable(first: StackedConvolution, second: stacking.Step | None, device: DeviceContext) -> bool:
    """Whether two convolutions are a depthwise and a pointwise one that are better computed as one."""
    return (
        isinstance(second, StackedConvolution)
        and first.shared
        and first.layer.groups == first.layer.inputs == first.layer.outputs
        and second.layer.kernel == second.layer.stride == second.layer.groups == 1
        and first.layer.inputs <= device.choices.composed_channels
    )


def _composed(depthwise: StackedConvolution, pointwise: StackedConvolution, device: DeviceContext) -> Step:
    """A depthwise and a pointwise convolution as one: nothing stands between them, so their kernels multiply.

    W[o, i, y, x] = P[o, i]·D[i, y, x], edge by edge.
    """
    m, inputs, outputs, k = depthwise.width, depthwise.layer.inputs, pointwise.layer.outputs, depthwise.layer.kernel
    plain = depthwise.layer.of_every_second_pixel
    primitive = _primitive(plain or depthwise.layer, m * outputs, 1)

    def step(context: ForwardContext, x: Tensor, edges: Tensor | None) -> Tensor:
        if plain is not None:
            x = every_second_pixel(x)
        spatial = ops.reshape(context.weights[depthwise.weight], (m, 1, inputs, k * k))
        mixing = ops.reshape(context.weights[pointwise.weight], (m, outputs, inputs, 1))
        return _convolve(primitive, x, ops.reshape(spatial * mixing, (m * outputs, inputs, k, k)), device)

    return step
