"""Single operations, run the way a network runs them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from dots_core.engine.protocol import State
from dots_core.engine.stacking import Stacker
from dots_core.network.layers import Layer
from dots_torch.runtime import DeviceContext, host
from dots_torch.stack import ForwardContext, Stack
from dots_torch.weights import views


def run_layers(
    sequences: tuple[tuple[Layer, ...], ...],
    weights: Mapping[str, NDArray],
    images: NDArray[np.floating],
    upstream: NDArray[np.floating],
    device_context: DeviceContext,
) -> State:
    """Carry out `dots_core.engine.protocol.Engine.run_layers`."""
    stacker = Stacker()
    described = stacker.stack(sequences)
    stack = Stack(described)
    device = device_context.device

    def to_device(array: NDArray[np.floating]) -> torch.Tensor:
        return torch.from_numpy(np.array(array, device_context.numpy)).to(device)

    with device_context.scope():
        x = to_device(images).to(memory_format=device_context.memory_format).requires_grad_()
        flat = to_device(stacker.weights.join(weights, device_context.numpy))
        leaves = [view.detach().requires_grad_() for view in views(stacker.weights, flat)]
        statistics = to_device(stacker.initial_statistics(device_context.numpy))
        context = ForwardContext(leaves, views(stacker.statistics, statistics), training=True, track=True)
        with device_context.autocast():
            y = stack(context, F.relu(x) if stack.rectified else x)
            if described.shared:
                y = torch.cat([y] * described.width, 1)
        found = torch.autograd.grad(y, [x, *leaves], to_device(upstream).to(y.dtype))
    state: State = {"output": host(y.to(device_context.dtype)), "gradient/images": host(found[0])}
    gradient = torch.cat([g.reshape(-1) for g in found[1:]]) if leaves else flat
    state.update(stacker.weights.split(host(gradient), "gradient/"))
    state.update(stacker.statistics.split(host(statistics), "statistics/"))
    return state
