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
from dots_torch.runtime import Precision, host
from dots_torch.stack import Pass, Stack
from dots_torch.weights import views


def apply(
    sequences: tuple[tuple[Layer, ...], ...],
    weights: Mapping[str, NDArray],
    images: NDArray[np.floating],
    upstream: NDArray[np.floating],
    precision: Precision,
) -> State:
    """Carry out `dots_core.engine.protocol.Engine.apply`."""
    stacker = Stacker()
    described = stacker.stack(sequences)
    stack = Stack(described)
    device = precision.device

    def to_device(array: NDArray[np.floating]) -> torch.Tensor:
        return torch.from_numpy(np.array(array, precision.numpy)).to(device)

    with precision.scope():
        x = to_device(images).to(memory_format=precision.memory_format).requires_grad_()
        flat = to_device(stacker.weights.join(weights, precision.numpy))
        leaves = [view.detach().requires_grad_() for view in views(stacker.weights, flat)]
        statistics = to_device(stacker.initial_statistics(precision.numpy))
        run = Pass(leaves, views(stacker.statistics, statistics), training=True, track=True)
        with precision.autocast():
            y = stack(run, F.relu(x) if stack.rectified else x)
            if described.shared:
                y = torch.cat([y] * described.width, 1)
        found = torch.autograd.grad(y, [x, *leaves], to_device(upstream).to(y.dtype))
    state: State = {"output": host(y.to(precision.dtype)), "gradient/images": host(found[0])}
    gradient = torch.cat([g.reshape(-1) for g in found[1:]]) if leaves else flat
    state.update(stacker.weights.split(host(gradient), "gradient/"))
    state.update(stacker.statistics.split(host(statistics), "statistics/"))
    return state
