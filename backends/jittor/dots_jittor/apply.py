"""Single operations, run the way a network runs them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from dots_core.engine.protocol import State
from dots_core.engine.stacking import Stacker
from dots_core.network.layers import Layer
from dots_jittor.arrays import Views, download, upload
from dots_jittor.runtime import Place
from dots_jittor.stack import Constants, Pass, Stack, moved_statistics
from dots_jittor.startup import jt


def apply(
    sequences: tuple[tuple[Layer, ...], ...],
    weights: Mapping[str, NDArray],
    images: NDArray[np.floating],
    upstream: NDArray[np.floating],
    place: Place,
) -> State:
    """Carry out `dots_core.engine.protocol.Engine.apply`."""
    stacker = Stacker()
    described = stacker.stack(sequences)
    stack = Stack(described)
    with place.scope():
        x = upload(images.astype(place.dtype))
        x.start_grad()
        leaves = Views(stacker.weights, upload(stacker.weights.join(weights, place.dtype)), differentiated=True)
        statistics = upload(stacker.initial_statistics(place.dtype))
        run = Pass(place.ops, leaves, Views(stacker.statistics, statistics), True, Constants(place.dtype))
        y = stack(run, x)
        if described.shared:
            y = jt.concat([y] * described.width, 1)
        read = leaves.read.values()
        found = jt.grad((y * upload(upstream.astype(place.dtype))).sum(), [x, *read])
        state: State = {"output": download(y), "gradient/images": download(found[0])}
        gradient = download(leaves.flat(found[1:])) if read else np.zeros(0, place.dtype)
        state.update(stacker.weights.split(gradient, "gradient/"))
        statistics = moved_statistics(stacker.statistics, statistics, run)
        state.update(stacker.statistics.split(download(statistics), "statistics/"))
    return state
