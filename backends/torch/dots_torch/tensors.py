"""PyTorch's tensors, as the bookkeeping of `dots_core.engine` sees them; and a network's weights, flat."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dots_core.engine.flat_layout import FlatLayout
from dots_core.engine.tensors import Tensors
from dots_torch.runtime import DeviceContext


class TorchTensors(Tensors):
    """Tensors on one device. New values of a tensor go into it, so that views of it stay valid."""

    def __init__(self, device: DeviceContext) -> None:
        self.device, self.dtype = device, device.numpy

    def upload(self, array: NDArray[Any]) -> Tensor:
        return self.device.upload(np.array(array)).to(self.device.dtype)

    def download(self, tensor: Tensor) -> NDArray[Any]:
        return np.array(tensor.detach().to(self.device.dtype).contiguous().cpu().numpy())

    def indices(self, array: NDArray[np.integer]) -> Tensor:
        return torch.from_numpy(np.asarray(array, np.int64)).to(self.device.device)

    def gather(self, flat: Tensor, indices: Tensor) -> Tensor:
        return flat.index_select(0, indices.reshape(-1)).view(indices.shape)

    def softmax(self, rows: Tensor) -> Tensor:
        return torch.softmax(rows, -1)

    def matvec(self, matrix: Tensor, vector: Tensor) -> Tensor:
        return matrix @ vector

    def detached(self, tensor: Tensor) -> Tensor:
        return tensor.detach()

    def sqrt(self, tensor: Tensor) -> Tensor:
        return torch.sqrt(tensor)

    def norm(self, tensors: Sequence[Tensor]) -> Tensor:
        return torch.linalg.vector_norm(torch.cat([tensor.reshape(-1) for tensor in tensors]))

    def at_most(self, value: Tensor, most: float) -> Tensor:
        return value.clamp(max=most)

    def where_positive(self, condition: Tensor, value: Tensor) -> Tensor:
        return torch.where(condition > 0, value, 0.0)

    def zeros_like(self, tensor: Tensor) -> Tensor:
        return torch.zeros_like(tensor)

    def copy(self, tensor: Tensor) -> Tensor:
        return tensor.clone()

    def assign(self, old: Tensor, new: Tensor) -> Tensor:
        return old.copy_(new)

    def rows(self, log: Sequence[tuple[Tensor, Tensor]]) -> NDArray[np.float64]:
        if not log:
            return np.zeros((0, 2))
        return torch.stack([torch.stack([value.double() for value in pair]) for pair in log]).cpu().numpy()

    def add_scaled(self, total: Tensor | None, term: Tensor, factor: float) -> Tensor:
        if total is None:
            return term if factor == 1.0 else term * factor
        return total.add_(term, alpha=factor)


def views(layout: FlatLayout, flat: Tensor) -> list[Tensor]:
    """Every stack as a view of the flat tensor, by stack number."""
    return [flat.narrow(0, start, math.prod(shape)).view(shape) for start, shape in layout.stacks]


def parts(layout: FlatLayout, flat: Tensor) -> list[Tensor]:
    """As `views`, for a flat tensor that is differentiated through: one backward call serves all stacks."""
    shapes = [shape for _, shape in layout.stacks]
    cut = flat.split([math.prod(shape) for shape in shapes])
    return [part.view(shape) for part, shape in zip(cut, shapes, strict=True)]


class Leaves:
    """Leaf tensors of weights, made when a pass first reads them: a sampled pass reads few of many.

    Attributes
    ----------
    read : dict
        The leaves that were read, by stack number.
    """

    def __init__(self, weights: Sequence[Tensor]) -> None:
        self._weights = weights
        self.read: dict[int, Tensor] = {}

    def __getitem__(self, number: int, /) -> Tensor:
        leaf = self.read.get(number)
        if leaf is None:
            leaf = self.read[number] = self._weights[number].detach().requires_grad_()
        return leaf


def flat_gradient(layout: FlatLayout, gradients: Mapping[int, Tensor], like: Tensor) -> Tensor:
    """Join gradients of stacks, 0 where there is none.

    Parameters
    ----------
    gradients : mapping of stack number to Tensor
    like : Tensor
        Has the result's dtype and device.

    Returns
    -------
    Tensor, shape (layout.size,)
    """
    zero = like.new_zeros(1)
    pieces: list[Tensor] = []
    end = 0
    for number in sorted(gradients):
        start, _ = layout.stacks[number]
        if start > end:
            pieces.append(zero.expand(start - end))
        pieces.append(gradients[number].reshape(-1))
        end = start + gradients[number].numel()
    pieces.append(zero.expand(layout.size - end))
    return torch.cat(pieces)
