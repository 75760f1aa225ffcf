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
from dots_torch.runtime import DeviceContext
from dots_torch.stack import ForwardContext, Stack
from dots_torch.tensors import Leaves, TorchTensors, flat_gradient, views


def run_layers(
    sequences: tuple[tuple[Layer, ...], ...],
    weights: Mapping[str, NDArray],
    images: NDArray[np.floating],
    upstream: NDArray[np.floating],
    device: DeviceContext,
) -> State:
    """Carry out `dots_core.engine.protocol.Engine.run_layers`."""
    stacker, tensors = Stacker(), TorchTensors(device)
    described = stacker.stack(sequences)
    stack = Stack(described)
    with device.scope():
        x = tensors.upload(images).to(memory_format=device.memory_format).requires_grad_()
        flat = tensors.upload(stacker.weights.join(weights, device.numpy))
        leaves = Leaves(views(stacker.weights, flat))
        statistics = tensors.upload(stacker.initial_statistics(device.numpy))
        context = ForwardContext(leaves, views(stacker.statistics, statistics), training=True, track=True)
        with device.autocast():
            y = stack(context, F.relu(x) if stack.rectified else x)
            if described.shared:
                y = torch.cat([y] * described.width, 1)
        found = torch.autograd.grad(y, [x, *leaves.read.values()], tensors.upload(upstream).to(y.dtype))
        gradient = flat_gradient(stacker.weights, dict(zip(leaves.read, found[1:], strict=True)), flat)
    host = tensors.download
    return stacker.state(host(y), host(found[0]), host(gradient), host(statistics))
