"""Single operations, run the way a network runs them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from mindspore import Tensor, ops
from numpy.typing import NDArray

from dots_core.engine.protocol import State
from dots_core.engine.stacking import Stacker
from dots_core.network.layers import Layer
from dots_mindspore.differentiate import host, joined, parameters, parts, value_and_gradients
from dots_mindspore.runtime import DeviceContext, upload
from dots_mindspore.stack import ForwardContext, Stack


def run_layers(
    sequences: tuple[tuple[Layer, ...], ...],
    weights: Mapping[str, NDArray],
    images: NDArray[np.floating],
    upstream: NDArray[np.floating],
    device_context: DeviceContext,
) -> State:
    """Carry out `dots_core.engine.protocol.Engine.run_layers`."""
    device_context.enter()
    stacker = Stacker()
    described = stacker.stack(sequences)
    stack = Stack(described, device_context)
    flat = stacker.weights.join(weights, np.float32)
    leaves = parts(stacker.weights, upload(flat))
    moments = stacker.initial_statistics(np.float32)
    statistics = parameters(stacker.statistics, moments)
    direction = upload(np.asarray(upstream, np.float32))

    def objective(x: Tensor, *variables: Tensor) -> tuple[Tensor, Tensor]:
        context = ForwardContext(dict(zip(leaves, variables, strict=True)), statistics, training=True)
        y = stack(context, ops.relu(x) if stack.rectified else x)
        if described.shared:
            y = ops.concat([y] * described.width, 1)
        return ops.reduce_sum(y * direction), y

    variables = (upload(np.asarray(images, np.float32)), *leaves.values())
    (_, y), found = value_and_gradients(objective, variables)
    state: State = {"output": host(y), "gradient/images": host(found[0])}
    if leaves:
        flat = host(joined(stacker.weights, dict(zip(leaves, found[1:], strict=True))))
    state.update(stacker.weights.split(flat, "gradient/"))
    if statistics:
        moments = np.concatenate([host(parameter) for parameter in statistics.values()])
    state.update(stacker.statistics.split(moments, "statistics/"))
    return state
