"""Single operations, run the way a network runs them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from mindspore import Tensor, ops
from numpy.typing import NDArray

from dots_core.engine.protocol import State
from dots_core.engine.stacking import Stacker
from dots_core.network.layers import Layer
from dots_mindspore.runtime import DeviceContext
from dots_mindspore.stack import ForwardContext, Stack
from dots_mindspore.tensors import MindSporeTensors, joined, parameters, parts, value_and_gradients


def run_layers(
    sequences: tuple[tuple[Layer, ...], ...],
    weights: Mapping[str, NDArray],
    images: NDArray[np.floating],
    upstream: NDArray[np.floating],
    device: DeviceContext,
) -> State:
    """Carry out `dots_core.engine.protocol.Engine.run_layers`."""
    device.enter()
    stacker, tensors = Stacker(), MindSporeTensors()
    described = stacker.stack(sequences)
    stack = Stack(described, device)
    flat = stacker.weights.join(weights, np.float32)
    leaves = parts(stacker.weights, tensors.upload(flat))
    moments = stacker.initial_statistics(np.float32)
    statistics = parameters(stacker.statistics, moments)
    direction = tensors.upload(upstream)

    def objective(x: Tensor, *variables: Tensor) -> tuple[Tensor, Tensor]:
        context = ForwardContext(dict(zip(leaves, variables, strict=True)), statistics, training=True)
        y = stack(context, ops.relu(x) if stack.rectified else x)
        if described.shared:
            y = ops.concat([y] * described.width, 1)
        return ops.reduce_sum(y * direction), y

    host = tensors.download
    (_, y), found = value_and_gradients(objective, (tensors.upload(images), *leaves.values()))
    if leaves:
        flat = host(joined(stacker.weights, dict(zip(leaves, found[1:], strict=True))))
    if statistics:
        moments = np.concatenate([host(parameter) for parameter in statistics.values()])
    return stacker.state(host(y), host(found[0]), flat, moments)
