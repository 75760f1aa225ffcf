"""What a cell does with feature maps on MindSpore."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import mindspore as ms
from mindspore import Tensor, ops

from dots_core.engine.forward import FeatureMaps
from dots_core.engine.mixture import EdgeWeights
from dots_core.engine.stacking import StackedOperation
from dots_mindspore.channels import shuffler, splitter
from dots_mindspore.runtime import DeviceContext


class MindSporeMaps(FeatureMaps):
    """Feature maps as tensors of MindSpore."""

    def __init__(self, device: DeviceContext) -> None:
        self._device = device
        self._splitters: dict[tuple[int, ...], Callable[[Tensor], Sequence[Tensor]]] = {}
        self._shufflers: dict[tuple[int, int], Callable[[Tensor], Tensor]] = {}

    def relu(self, x: Tensor) -> Tensor:
        return ops.relu(x)

    def concat(self, parts: Sequence[Tensor]) -> Tensor:
        return ops.concat(list(parts), 1)

    def split(self, x: Tensor, channels: Sequence[int]) -> Sequence[Tensor]:
        sizes = tuple(channels) if len(set(channels)) > 1 else tuple(channels[:1])
        if sizes not in self._splitters:
            self._splitters[sizes] = splitter(sizes, self._device)
        return self._splitters[sizes](x)

    def combined(self, factors: Tensor, basis: Sequence[Tensor]) -> Sequence[Tensor]:
        stacked = ops.reshape(ops.stack(list(basis)), (len(basis), -1))
        mixed = ops.reshape(ops.matmul(factors, stacked), (factors.shape[0], *basis[0].shape))
        return ops.unbind(mixed, 0)

    def shuffled(self, mixed: Tensor, rest: Tensor, parts: int) -> Tensor:
        key = (mixed.shape[1] * parts, parts)
        if key not in self._shufflers:
            self._shufflers[key] = shuffler(*key, self._device)
        return self._shufflers[key](ops.concat([mixed, rest], 1))

    def nothing(self, context: Any, like: Tensor, channels: int, size: tuple[int, int]) -> Tensor:
        return ops.zeros((like.shape[0], channels, *size), ms.float32)

    def by_edge(self, keep: Tensor) -> list[tuple[Tensor, ...]]:
        return [ops.unbind(cell, 0) for cell in ops.unbind(keep, 0)]

    def column(self, weights: EdgeWeights, operation: StackedOperation, channels: int) -> Tensor:
        return weights.channels(operation.operation, operation.edges, channels)
