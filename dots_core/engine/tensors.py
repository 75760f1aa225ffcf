"""What all engines do with flat tensors, over the few operations that each framework writes in its own way."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from dots_core.engine.protocol import Optimizers

Tensor = Any
"""A tensor of the framework; it has +, −, ·, / with tensors and, where not said otherwise, numbers, and ``reshape``."""


class Tensors(ABC):
    """A framework's tensors on one device, in one type.

    What is abstract is the framework's; the two update rules (`dots_core.engine.protocol.Optimizers`) are
    made of it here. A framework may take one of its own in place of any of them, such as a fused kernel.

    Attributes
    ----------
    dtype : numpy type
        Of all tensors, on the host.
    """

    dtype: DTypeLike

    # A framework's own

    @abstractmethod
    def upload(self, array: NDArray[Any]) -> Tensor:
        """Return a tensor of `dtype` with the shape and values of an array, in memory of its own."""

    @abstractmethod
    def download(self, tensor: Tensor) -> NDArray[Any]:
        """Return an array with a tensor's shape and values, in memory of its own; waits for the device."""

    @abstractmethod
    def indices(self, array: NDArray[np.integer]) -> Tensor:
        """Return indices for `gather`, of any shape, as a tensor."""

    @abstractmethod
    def gather(self, flat: Tensor, indices: Tensor) -> Tensor:
        """Return elements of a vector, in the shape of the indices; differentiable."""

    @abstractmethod
    def softmax(self, rows: Tensor) -> Tensor:
        """Return the softmax of each row, shape (rows, entries), where −∞ weighs 0; differentiable."""

    @abstractmethod
    def matvec(self, matrix: Tensor, vector: Tensor) -> Tensor:
        """Return the product of a matrix and a vector, a vector; differentiable."""

    @abstractmethod
    def detached(self, tensor: Tensor) -> Tensor:
        """Return a tensor of the same shape and values that no gradient flows through."""

    @abstractmethod
    def sqrt(self, tensor: Tensor) -> Tensor:
        """Return the square root, element by element."""

    @abstractmethod
    def norm(self, tensors: Sequence[Tensor]) -> Tensor:
        """Return the Euclidean norm of all elements of all tensors, one value."""

    @abstractmethod
    def at_most(self, value: Tensor, most: float) -> Tensor:
        """Return the smaller of a number and a tensor of one element."""

    @abstractmethod
    def where_positive(self, condition: Tensor, value: Tensor) -> Tensor:
        """Return a value of one element where the condition is above 0, and 0 elsewhere, be it a number or not."""

    # May be replaced

    def number(self, value: float, like: Tensor) -> Tensor:
        """Return a number in a form whose product with ``like`` is of its type and shape."""
        return value

    def zeros_like(self, tensor: Tensor) -> Tensor:
        """Return zeros of a tensor's shape."""
        return self.upload(np.zeros(tuple(tensor.shape), self.dtype))

    def copy(self, tensor: Tensor) -> Tensor:
        """Return a tensor of the same shape that stays as it is when `assign` replaces the given one's values."""
        return tensor

    def assign(self, old: Tensor, new: Tensor) -> Tensor:
        """Return what stands for new values of an old tensor, of its shape: they, or the old one with them in it."""
        return new

    def rows(self, log: Sequence[tuple[Tensor, Tensor]]) -> NDArray[np.float64]:
        """Return pairs of single values, shape (pairs, 2); waits for the device once."""
        values = [float(self.download(value).item()) for pair in log for value in pair]
        return np.array(values, np.float64).reshape(-1, 2)

    def add_scaled(self, total: Tensor | None, term: Tensor, factor: float) -> Tensor:
        """Return total + factor·term, of the shape of both; None is a total of 0. The total may be overwritten."""
        if factor != 1.0:
            term = self.number(factor, term) * term
        return term if total is None else total + term

    def clipped(self, gradients: Sequence[Tensor], clip: float) -> list[Tensor]:
        """Scale gradients of any shape by min(1, clip/(‖g‖₂ + 1e-6)), ‖g‖₂ taken over all of them; 0: no clipping."""
        if not clip or not gradients:
            return list(gradients)
        norm = self.norm(gradients)
        scale = self.at_most(self.number(clip, norm) / (norm + self.number(1e-6, norm)), 1.0)
        return [gradient * scale for gradient in gradients]

    def direction(self, weights: Tensor, buffer: Tensor, gradient: Tensor, settings: Optimizers) -> Tensor:
        """Return momentum·buffer + gradient + weight_decay·w: what an unclipped step of SGD of rate 1 subtracts.

        All four have one shape.
        """
        decayed = gradient + self.number(settings.weight_decay, weights) * weights
        return self.number(settings.momentum, buffer) * buffer + decayed

    def sgd(
        self, weights: Tensor, buffer: Tensor, gradient: Tensor, settings: Optimizers, rate: float
    ) -> tuple[Tensor, Tensor]:
        """Return w and momentum buffer after a step of SGD, of the shape of w."""
        (gradient,) = self.clipped([gradient], settings.clip)
        buffer = self.direction(weights, buffer, gradient, settings)
        return weights - self.number(rate, buffer) * buffer, buffer

    def adam(
        self,
        values: Tensor,
        first: Tensor,
        second: Tensor,
        gradient: Tensor,
        settings: Optimizers,
        step: int,
        rate: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return values and both moments after Adam's step of that number, counted from 1; all of one shape."""
        b1, b2 = settings.betas
        gradient = gradient + self.number(settings.architecture_weight_decay, values) * values
        first = self.number(b1, first) * first + self.number(1 - b1, gradient) * gradient
        second = self.number(b2, second) * second + self.number(1 - b2, gradient) * (gradient * gradient)
        corrected = second / self.number(1 - b2**step, second)
        scale = self.sqrt(corrected) + self.number(settings.epsilon, second)
        return values - self.number(rate / (1 - b1**step), first) * first / scale, first, second

    def perturbed(self, weights: Tensor, gradient: Tensor, radius: float) -> Tensor:
        """Return w + radius·g/‖g‖₂, or w where g is 0; both have one shape."""
        norm = self.norm([gradient])
        return weights + self.where_positive(norm, self.number(radius, norm) / norm) * gradient
