"""Sequences of the layers that `dots_core.search_space.layers` describes, forward and backward."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from dots_core.errors import UsageError
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
    WindowAverage,
)
from dots_reference.convolution import convolution, shifted_pair
from dots_reference.normalisation import Moments, batch_norm, normalise
from dots_reference.pooling import Pull, average_pool, global_average, halving_max, max_pool, window_average
from dots_reference.precision import PRECISIONS, Precision
from dots_reference.windows import Array


@dataclass
class ForwardContext:
    """What one pass through a network reads, and what it leaves behind.

    Attributes
    ----------
    weights, statistics : arrays by canonical name; only read
    training : bool
        Whether batch norm uses the batch's statistics. Only then can the pass be pulled back.
    precision : Precision
        To what results and operands are rounded; the default rounds nothing.
    moments : dict
        Of each batch norm, by name, the batch's statistics.
    gradients : dict
        Of each weight, by canonical name, filled by pulling.
    traced, traced_gradients : dict
        The tensors of `dots_core.network.spec.traced_shapes`; their gradients are filled by pulling.
    """

    weights: Mapping[str, Array]
    statistics: Mapping[str, Array]
    training: bool
    precision: Precision = PRECISIONS["float64"]
    moments: dict[str, Moments] = field(default_factory=dict)
    gradients: dict[str, Array] = field(default_factory=dict)
    traced: dict[str, Array] = field(default_factory=dict)
    traced_gradients: dict[str, Array] = field(default_factory=dict)


def sequence(layers: tuple[Layer, ...], x: Array, context: ForwardContext) -> tuple[Array, Pull]:
    """Run layers one after another; no layers are the identity.

    Returns
    -------
    The output, and a pull that takes its gradient to that of ``x`` and leaves the weights' in ``run.gradients``.
    """
    pulls: list[Pull] = []
    stored = context.precision.stored
    for layer in layers:
        x, pull_layer = _layer(layer, x, context)
        x = stored(x)
        pulls.append(pull_layer)

    def pull(gradient: Array) -> Array:
        for pull_layer in reversed(pulls):
            gradient = stored(pull_layer(gradient))
        return gradient

    return x, pull


def relu(x: Array) -> tuple[Array, Pull]:
    """max(x, 0); the gradient at 0 is 0."""
    positive = x > 0
    return np.maximum(x, x.dtype.type(0)), lambda gradient: gradient * positive


def linear(x: Array, weight: Array, bias: Array) -> Array:
    """x Wᵀ + b: (N, I) to (N, O)."""
    return x @ weight.T + bias


def _layer(layer: Layer, x: Array, context: ForwardContext) -> tuple[Array, Pull]:
    if isinstance(layer, ReLU):
        return relu(x)
    if isinstance(layer, Convolution):
        return _convolution(layer, x, context)
    if isinstance(layer, ShiftedPair):
        return _shifted_pair(layer, x, context)
    if isinstance(layer, Norm):
        return _norm(layer, x, context)
    if isinstance(layer, Pool):
        return max_pool(x, layer.stride) if layer.kind == "max" else average_pool(x, layer.stride)
    if isinstance(layer, MaxPool2x2):
        return halving_max(x)
    if isinstance(layer, WindowAverage):
        return window_average(x, layer.kernel, layer.stride)
    if isinstance(layer, GlobalAverage):
        return global_average(x)
    return _linear(layer, x, context)


def _convolution(layer: Convolution, x: Array, context: ForwardContext) -> tuple[Array, Pull]:
    name, operand = f"{layer.name}.weight", context.precision.operand
    y, pull_both = convolution(
        operand(x), operand(context.weights[name]), layer.stride, layer.padding, layer.dilation, layer.groups
    )

    def pull(gradient: Array) -> Array:
        dx, dweight = pull_both(operand(gradient))
        context.gradients[name] = context.precision.stored(dweight)
        return dx

    return y, pull


def _shifted_pair(layer: ShiftedPair, x: Array, context: ForwardContext) -> tuple[Array, Pull]:
    first, second = f"{layer.first.name}.weight", f"{layer.second.name}.weight"
    operand, stored = context.precision.operand, context.precision.stored
    y, pull_all = shifted_pair(operand(x), operand(context.weights[first]), operand(context.weights[second]))

    def pull(gradient: Array) -> Array:
        dx, dfirst, dsecond = pull_all(operand(gradient))
        context.gradients[first], context.gradients[second] = stored(dfirst), stored(dsecond)
        return dx

    return y, pull


def _norm(layer: Norm, x: Array, context: ForwardContext) -> tuple[Array, Pull]:
    weight = context.weights[f"{layer.name}.weight"] if layer.affine else None
    bias = context.weights[f"{layer.name}.bias"] if layer.affine else None
    if not context.training:
        mean, variance = (context.statistics[f"{layer.name}.{moment}"] for moment in ("running_mean", "running_var"))
        return normalise(x, mean, variance, weight, bias), _no_pull
    if x.size == x.shape[1]:
        raise UsageError(
            f"batch norm '{layer.name}' gets one value for each channel and cannot take a variance of it; "
            f"train with larger batches or images"
        )
    y, context.moments[layer.name], pull_all = batch_norm(x, weight, bias)

    def pull(gradient: Array) -> Array:
        dx, dweight, dbias = pull_all(gradient)
        if layer.affine:
            context.gradients[f"{layer.name}.weight"], context.gradients[f"{layer.name}.bias"] = dweight, dbias
        return dx

    return y, pull


def _linear(layer: Linear, x: Array, context: ForwardContext) -> tuple[Array, Pull]:
    operand, stored = context.precision.operand, context.precision.stored
    x, weight = operand(x), operand(context.weights[f"{layer.name}.weight"])

    def pull(gradient: Array) -> Array:
        gradient = operand(gradient)
        context.gradients[f"{layer.name}.weight"] = stored(gradient.T @ x)
        context.gradients[f"{layer.name}.bias"] = stored(gradient.sum(axis=0))
        return gradient @ weight

    return linear(x, weight, stored(context.weights[f"{layer.name}.bias"])), pull


def _no_pull(gradient: Array) -> Array:
    raise RuntimeError("a pass in evaluation mode has no backward pass")
