"""Channels taken apart, and brought into another order."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from mindspore import Tensor, ops

from dots_mindspore.runtime import DeviceContext


def splitter(sizes: tuple[int, ...], device: DeviceContext) -> Callable[[Tensor], Sequence[Tensor]]:
    """Return a function that cuts (N, C, H, W) along channels into parts of the given sizes, again and again."""
    period = sum(sizes)
    if not device.choices.split_by_convolution:
        return lambda y: ops.split(y, list(sizes) * (y.shape[1] // period), 1)
    select = [ops.Conv2D(size, 1) for size in sizes]
    kernels: dict[int, list[Tensor]] = {}

    def split(y: Tensor) -> list[Tensor]:
        whole = y.shape[1]
        if (whole,) == sizes:
            return [y]
        repeated = whole // period
        if whole not in kernels:
            ends = np.cumsum(sizes * repeated)[:-1]
            rows = np.split(np.eye(whole, dtype=np.float32)[:, :, None, None], ends)
            kernels[whole] = [Tensor(np.ascontiguousarray(row)) for row in rows]
        return [call(y, kernel) for call, kernel in zip(select * repeated, kernels[whole], strict=True)]

    return split


def shuffler(channels: int, partial: int, device: DeviceContext) -> Callable[[Tensor], Tensor]:
    """Return a function that brings channel (g, c) of (partial, channels/partial) of (N, C, H, W) to (c, g)."""
    if not device.choices.split_by_convolution:

        def shuffle(y: Tensor) -> Tensor:
            n, _, height, width = y.shape
            grouped = ops.reshape(y, (n, partial, channels // partial, height * width))
            return ops.reshape(ops.transpose(grouped, (0, 2, 1, 3)), (n, channels, height, width))

        return shuffle
    order = np.arange(channels).reshape(partial, -1).T.ravel()
    kernel = Tensor(np.eye(channels, dtype=np.float32)[order].reshape(channels, channels, 1, 1))
    select = ops.Conv2D(channels, 1)
    return lambda y: select(y, kernel)
