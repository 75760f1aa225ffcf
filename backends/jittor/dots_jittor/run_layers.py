"""Single operations, run the way a network runs them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from dots_core.engine.protocol import State
from dots_core.engine.stacking import Stacker
from dots_core.network.layers import Layer
from dots_jittor.arrays import Views
from dots_jittor.runtime import DeviceContext
from dots_jittor.stack import Constants, ForwardContext, Stack, moved_statistics
from dots_jittor.startup import jt


def run_layers(
    sequences: tuple[tuple[Layer, ...], ...],
    weights: Mapping[str, NDArray],
    images: NDArray[np.floating],
    upstream: NDArray[np.floating],
    device: DeviceContext,
) -> State:
    """Carry out `dots_core.engine.protocol.Engine.run_layers`."""
    stacker, tensors = Stacker(), device.tensors()
    described = stacker.stack(sequences)
    stack = Stack(described)
    with device.scope():
        x = tensors.upload(images).start_grad()
        flat = stacker.weights.join(weights, device.dtype)
        leaves = Views(stacker.weights, tensors.upload(flat), differentiated=True)
        statistics = tensors.upload(stacker.initial_statistics(device.dtype))
        context = ForwardContext(
            device.ops, leaves, Views(stacker.statistics, statistics), True, Constants(device.dtype)
        )
        y = stack(context, x)
        if described.shared:
            y = jt.concat([y] * described.width, 1)
        found = jt.grad((y * tensors.upload(upstream)).sum(), [x, *leaves.read.values()])
        host = tensors.download
        gradient = host(leaves.flat(found[1:])) if leaves.read else flat
        statistics = moved_statistics(stacker.statistics, statistics, context)
        return stacker.state(host(y), host(found[0]), gradient, host(statistics))
