"""What a cell does with feature maps on PyTorch, in whichever memory format they come."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dots_core.engine.forward import FeatureMaps


class TorchMaps(FeatureMaps):
    """Feature maps as tensors of PyTorch."""

    def relu(self, x: Tensor) -> Tensor:
        return F.relu(x)

    def concat(self, parts: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(parts), 1)

    def split(self, x: Tensor, channels: Sequence[int]) -> Sequence[Tensor]:
        return x.split(list(channels), 1)

    def parted(self, x: Tensor, channels: Sequence[int]) -> Sequence[Tensor]:
        # Parts of a tensor are not dense, and what stacks read should be.
        return [part.contiguous(memory_format=_format(x)) for part in self.split(x, channels)]

    def add(self, terms: Sequence[Tensor]) -> Tensor:
        return super().add(terms) if len(terms) > 1 else _dense(terms[0])

    def combined(self, factors: Tensor, basis: Sequence[Tensor]) -> Sequence[Tensor]:
        last = _format(basis[0]) == torch.channels_last
        stacked = torch.stack([_flat(x, last) for x in basis])  # (maps, N·C·H·W)
        return [_like(row, basis[0], last) for row in (factors.to(stacked.dtype) @ stacked).unbind(0)]

    def shuffled(self, mixed: Tensor, rest: Tensor, parts: int) -> Tensor:
        maps = (mixed, *rest.split(mixed.shape[1], 1))  # parts of (N, C/parts, H, W)
        if _format(mixed) == torch.channels_last:
            return torch.stack([x.permute(0, 2, 3, 1) for x in maps], 4).flatten(3).permute(0, 3, 1, 2)
        return torch.stack(maps, 2).flatten(1, 2)

    def nothing(self, context: Any, like: Tensor, channels: int, size: tuple[int, int]) -> Tensor:
        return like.new_zeros((len(like), channels, *size)).contiguous(memory_format=_format(like))

    def scaled(self, x: Tensor, factor: Tensor) -> Tensor:
        return x * factor.to(x.dtype)


def _flat(x: Tensor, last: bool) -> Tensor:
    """All elements, shape (N·C·H·W,), channels last or first; without a copy where that is their order in memory."""
    return (x.permute(0, 2, 3, 1) if last else x).reshape(-1)


def _like(flat: Tensor, x: Tensor, last: bool) -> Tensor:
    """Undo `_flat` for a tensor of the same shape as ``x``."""
    n, c, h, w = x.shape
    return flat.view(n, h, w, c).permute(0, 3, 1, 2) if last else flat.view(n, c, h, w)


def _dense(x: Tensor) -> Tensor:
    """A map itself, or if it is a part of one, which a lone edge leaves as a node, a copy in the same order in memory.

    Stacks should read nothing else: PyTorch's CPU kernels have corrupted the heap on less (`dots_torch.kernel_faults`).
    """
    if x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last):
        return x
    return x.contiguous(memory_format=torch.channels_last if x.stride(1) == 1 else torch.contiguous_format)


def _format(x: Tensor) -> torch.memory_format:
    last = x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format
