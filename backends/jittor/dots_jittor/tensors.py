"""Jittor's tensors, as the bookkeeping of `dots_core.engine` sees them: by its operators, or by kernels of our own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from dots_core.engine.protocol import Optimizers
from dots_core.engine.tensors import Tensors
from dots_jittor import native
from dots_jittor.arrays import Var, download, joined, upload
from dots_jittor.startup import jt


class JittorTensors(Tensors):
    """Tensors of one type, with Jittor's own operators: for devices other than the CPU."""

    def __init__(self, dtype: DTypeLike) -> None:
        self.dtype = dtype
        self._zeros: dict[tuple[int, ...], Var] = {}

    def upload(self, array: NDArray[Any]) -> Var:
        return upload(np.array(array, self.dtype))

    def download(self, tensor: Var) -> NDArray[Any]:
        return download(tensor)

    def indices(self, array: NDArray[np.integer]) -> Var:
        return upload(np.asarray(array, np.int32))

    def gather(self, flat: Var, indices: Var) -> Var:
        return flat[indices.reshape((-1,))].reshape(tuple(indices.shape))

    def softmax(self, rows: Var) -> Var:
        powers = jt.exp(rows - rows.max(1, keepdims=True).detach())
        return powers / powers.sum(1, keepdims=True)

    def matvec(self, matrix: Var, vector: Var) -> Var:
        return (matrix * vector.reshape((1, -1))).sum(1)

    def detached(self, tensor: Var) -> Var:
        return tensor.detach()

    def sqrt(self, tensor: Var) -> Var:
        return jt.sqrt(tensor)

    def norm(self, tensors: Sequence[Var]) -> Var:
        flat = joined(tensors)
        return jt.sqrt((flat * flat).sum()).reshape((1,))

    def at_most(self, value: Var, most: float) -> Var:
        return jt.minimum(value, self.number(most, value))

    def where_positive(self, condition: Var, value: Var) -> Var:
        return jt.ternary(condition > 0, value, self.number(0.0, value))

    def number(self, value: float, like: Var) -> Var:
        # Jittor makes a Python number float32.
        return upload(np.array([value], str(like.dtype)))

    def zeros_like(self, tensor: Var) -> Var:
        shape = tuple(tensor.shape)
        if shape not in self._zeros:
            self._zeros[shape] = self.upload(np.zeros(shape))
        return self._zeros[shape]

    def assign(self, old: Var, new: Var) -> Var:
        return new.stop_grad()


class NativeTensors(JittorTensors):
    """The same with a kernel for each rule."""

    def norm(self, tensors: Sequence[Var]) -> Var:
        return native.norm(joined(tensors) if len(tensors) > 1 else tensors[0])

    def add_scaled(self, total: Var | None, term: Var, factor: float) -> Var:
        if total is None and factor == 1.0:
            return term
        return native.add_scaled(self.zeros_like(term) if total is None else total, term, factor)

    def clipped(self, gradients: Sequence[Var], clip: float) -> list[Var]:
        if not clip or not gradients:
            return list(gradients)
        flat = native.clipped(joined(gradients), clip)
        found, start = [], 0
        for gradient in gradients:
            found.append(flat[start : start + gradient.numel()].reshape(gradient.shape))
            start += gradient.numel()
        return found

    def sgd(self, weights: Var, buffer: Var, gradient: Var, settings: Optimizers, rate: float) -> tuple[Var, Var]:
        return native.momentum_sgd(gradient, weights, buffer, settings, rate)

    def adam(
        self, values: Var, first: Var, second: Var, gradient: Var, settings: Optimizers, step: int, rate: float
    ) -> tuple[Var, Var, Var]:
        return native.adam(gradient, values, first, second, settings, step, rate)

    def perturbed(self, weights: Var, gradient: Var, radius: float) -> Var:
        return native.perturbed(weights, gradient, radius)
