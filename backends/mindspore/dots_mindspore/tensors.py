"""MindSpore's tensors, as the bookkeeping of `dots_core.engine` sees them; gradients; and flat storage cut up."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, ops
from numpy.typing import NDArray

from dots_core.engine.flat_layout import FlatLayout
from dots_core.engine.tensors import Tensors


class MindSporeTensors(Tensors):
    """Tensors on the process's device, in float32."""

    dtype = np.float32

    def __init__(self) -> None:
        self._largest, self._sum = ops.ReduceMax(keep_dims=True), ops.ReduceSum(keep_dims=True)

    def upload(self, array: NDArray[Any]) -> Tensor:
        # MindSpore copies it to the device when an operation first needs it.
        return Tensor.from_numpy(np.array(array, np.float32))

    def download(self, tensor: Tensor) -> NDArray[Any]:
        return tensor.asnumpy().copy()

    def indices(self, array: NDArray[np.integer]) -> Tensor:
        return Tensor(array.astype(np.int32))

    def gather(self, flat: Tensor, indices: Tensor) -> Tensor:
        return ops.gather(flat, indices, 0)

    def softmax(self, rows: Tensor) -> Tensor:
        # Not `ops.Softmax`: once its gradient was taken of rows of one entry, it is wrong of all others in the same
        # process (MindSpore 2.10.0 on CPU).
        powers = ops.exp(rows - self._largest(ops.stop_gradient(rows), 1))
        return powers / self._sum(powers, 1)

    def matvec(self, matrix: Tensor, vector: Tensor) -> Tensor:
        return ops.reshape(ops.matmul(matrix, ops.reshape(vector, (-1, 1))), (-1,))

    def detached(self, tensor: Tensor) -> Tensor:
        return ops.stop_gradient(tensor)

    def sqrt(self, tensor: Tensor) -> Tensor:
        return ops.sqrt(tensor)

    def norm(self, tensors: Sequence[Tensor]) -> Tensor:
        squares = [ops.reduce_sum(tensor * tensor) for tensor in tensors]
        return ops.sqrt(sum(squares[1:], squares[0]))

    def at_most(self, value: Tensor, most: float) -> Tensor:
        return ops.minimum(value, most)

    def where_positive(self, condition: Tensor, value: Tensor) -> Tensor:
        return ops.where(condition > 0.0, value, ops.zeros_like(value))

    def zeros_like(self, tensor: Tensor) -> Tensor:
        return ops.zeros_like(tensor)


def value_and_gradients(
    objective: Callable[..., tuple[Any, ...]], variables: tuple[Tensor, ...], scale: float = 1.0
) -> tuple[tuple[Any, ...], tuple[Tensor, ...]]:
    """Return what the objective returns, and the gradients of its first value by the variables.

    Parameters
    ----------
    variables : tuple of tensors of any shape
        The objective's arguments.
    scale : float
        Factor of the value on the way back, taken out of the gradients again. If it is not 1 and a
        gradient overflows all the same, all are 0: such a step moves by momentum alone.
    """
    if not variables:
        return objective(), ()

    def scaled(*variables: Tensor) -> tuple[Any, ...]:
        first, *others = objective(*variables)
        return first * scale, first, *others

    function = objective if scale == 1.0 else scaled
    found, gradients = ms.value_and_grad(function, tuple(range(len(variables))), has_aux=True)(*variables)
    # Of a single variable MindSpore returns the gradient bare.
    gradients = gradients if isinstance(gradients, tuple) else (gradients,)
    if scale == 1.0:
        return found, gradients
    finite = ops.isfinite(ops.addn([ops.reduce_sum(gradient * 0.0) for gradient in gradients]))
    return found[1:], tuple(ops.where(finite, gradient / scale, ops.zeros_like(gradient)) for gradient in gradients)


def parts(layout: FlatLayout, flat: Tensor, numbers: Iterable[int] | None = None) -> dict[int, Tensor]:
    """Cut stacks, of their shapes, out of a flat tensor: those of the numbers, ascending, or all; by stack number."""
    pieces = _pieces(layout, numbers)
    if not pieces:
        return {}
    cut = ops.split(flat, [size for _, size in pieces])
    return {
        number: ops.reshape(part, layout.stacks[number][1])
        for part, (number, _) in zip(cut, pieces, strict=True)
        if number is not None
    }


def joined(layout: FlatLayout, stacks: Mapping[int, Tensor]) -> Tensor:
    """Put stacks, in ascending order, together to a flat tensor, 0 where one is missing: the inverse of `parts`."""
    return ops.concat(
        [
            ops.zeros((size,), ms.float32) if number is None else ops.reshape(stacks[number], (-1,))
            for number, size in _pieces(layout, stacks)
        ]
    )


def _pieces(layout: FlatLayout, numbers: Iterable[int] | None) -> list[tuple[int | None, int]]:
    """Numbers and sizes of the wanted stacks as they lie in a flat array; None is what lies between them."""
    pieces: list[tuple[int | None, int]] = []
    end = 0
    for number in range(len(layout.stacks)) if numbers is None else numbers:
        start, shape = layout.stacks[number]
        if start > end:
            pieces.append((None, start - end))
        pieces.append((number, math.prod(shape)))
        end = start + math.prod(shape)
    if end < layout.size:
        pieces.append((None, layout.size - end))
    return pieces


def parameters(layout: FlatLayout, flat: NDArray[Any], numbers: Iterable[int] | None = None) -> dict[int, Parameter]:
    """Cut a flat array into parameters that batch norm can move: those of the numbers, or all; by stack number."""
    cut = {}
    for number in range(len(layout.stacks)) if numbers is None else numbers:
        start, shape = layout.stacks[number]
        values = flat[start : start + math.prod(shape)].reshape(shape)
        # Made of an array: of a tensor it would be made by reading that back.
        cut[number] = Parameter(values, name=f"stack{number}", requires_grad=False)
    return cut
