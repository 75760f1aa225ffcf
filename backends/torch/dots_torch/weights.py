"""A network's weights, flat on the device: views of them, leaves to differentiate by, and their gradient."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from dots_core.engine.flat_layout import FlatLayout


class Stacks(Protocol):
    """Stacked tensors by stack number."""

    def __getitem__(self, number: int, /) -> Tensor: ...


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
