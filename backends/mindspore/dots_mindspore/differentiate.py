"""Gradients, and tensors in and out of flat storage."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import mindspore as ms
from mindspore import Parameter, Tensor, ops
from numpy.typing import NDArray

from dots_core.arena import Arena


def value_and_gradients(
    objective: Callable[..., tuple[Any, ...]], variables: tuple[Tensor, ...], scale: float = 1.0
) -> tuple[tuple[Any, ...], tuple[Tensor, ...]]:
    """Return what the objective returns, and the gradients of its first value by the variables.

    Parameters
    ----------
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


def host(tensor: Tensor) -> NDArray[Any]:
    """The values as an array of its own."""
    return tensor.asnumpy().copy()


def parts(arena: Arena, flat: Tensor) -> list[Tensor]:
    """Cut a flat tensor into stacks, by stack number."""
    if not arena.stacks:
        return []
    cut = ops.split(flat, [math.prod(shape) for _, shape in arena.stacks])
    return [ops.reshape(part, shape) for part, (_, shape) in zip(cut, arena.stacks, strict=True)]


def parameters(arena: Arena, flat: NDArray[Any]) -> list[Parameter]:
    """Cut a flat array into parameters that batch norm can move, by stack number."""
    return [
        Parameter(
            Tensor(flat[start : start + math.prod(shape)].reshape(shape)), name=f"stack{number}", requires_grad=False
        )
        for number, (start, shape) in enumerate(arena.stacks)
    ]
