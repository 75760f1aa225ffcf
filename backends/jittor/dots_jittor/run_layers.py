"""Single operations, run the way a network runs them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from dots_core.engine.protocol import State
from dots_core.engine.stacking import Stacker
from dots_core.network.layers import Layer
from dots_jittor.arrays import Views, download, upload
from dots_jittor.runtime import DeviceContext
from dots_jittor.stack import Constants, ForwardContext, Stack, moved_statistics
from dots_jittor.startup import jt


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
    with device_context.scope():
        x = upload(images.astype(device_context.dtype))
        x.start_grad()
        leaves = Views(
            stacker.weights, upload(stacker.weights.join(weights, device_context.dtype)), differentiated=True
        )
        statistics = upload(stacker.initial_statistics(device_context.dtype))
        context = ForwardContext(
            device_context.ops, leaves, Views(stacker.statistics, statistics), True, Constants(device_context.dtype)
        )
        y = stack(context, x)
        if described.shared:
            y = jt.concat([y] * described.width, 1)
        read = leaves.read.values()
        found = jt.grad((y * upload(upstream.astype(device_context.dtype))).sum(), [x, *read])
        state: State = {"output": download(y), "gradient/images": download(found[0])}
        gradient = download(leaves.flat(found[1:])) if read else np.zeros(0, device_context.dtype)
        state.update(stacker.weights.split(gradient, "gradient/"))
        statistics = moved_statistics(stacker.statistics, statistics, context)
        state.update(stacker.statistics.split(download(statistics), "statistics/"))
    return state
