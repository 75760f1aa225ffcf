"""Single operations, run the way a network runs them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from dots_core.engine import State
from dots_core.layers import Layer
from dots_core.stacking import Stacker
from dots_jittor.arrays import download, joined, upload, views
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
    """Carry out `dots_core.engine.Engine.apply`."""
    stacker = Stacker()
    described = stacker.stack(sequences)
    stack = Stack(described)
    with place.scope():
        x = upload(images.astype(place.dtype))
        leaves = views(stacker.weights, upload(stacker.weights.join(weights, place.dtype)))
        for var in (x, *leaves):
            var.start_grad()
        statistics = upload(stacker.initial_statistics(place.dtype))
        run = Pass(place.ops, leaves, [], training=True, constants=Constants(place.dtype))
        y = stack(run, x)
        if described.shared:
            y = jt.concat([y] * described.width, 1)
        found = jt.grad((y * upload(upstream.astype(place.dtype))).sum(), [x, *leaves])
        state: State = {"output": download(y), "gradient/images": download(found[0])}
        gradient = download(joined(found[1:])) if leaves else np.zeros(0, place.dtype)
        state.update(stacker.weights.split(gradient, "gradient/"))
        statistics = moved_statistics(stacker.statistics, statistics, run)
        state.update(stacker.statistics.split(download(statistics), "statistics/"))
    return state
