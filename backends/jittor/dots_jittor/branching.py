"""Tensors that go several ways, with gradients that need no kernel of their own for each number of ways."""

from __future__ import annotations

from collections.abc import Sequence

from dots_jittor.arrays import Var
from dots_jittor.primitives import Primitives
from dots_jittor.startup import jt


class _Split(jt.Function):
    """Cut a tensor into parts along channels.

    Jittor's own gradient of a slice is a tensor of the whole size, mostly 0, for every part.
    """

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self._widths = widths

    def execute(self, x: Var) -> list[Var]:
        self._shapes = [(x.shape[0], width, *x.shape[2:]) for width in self._widths]
        self._dtype = x.dtype
        ends = [sum(self._widths[: number + 1]) for number in range(len(self._widths))]
        return [x[:, end - width : end] for end, width in zip(ends, self._widths, strict=True)]

    def grad(self, *dys: Var | None) -> Var:
        parts = zip(dys, self._shapes, strict=True)
        return jt.concat([jt.zeros(shape, self._dtype) if dy is None else dy for dy, shape in parts], 1)


class _Fork(jt.Function):
    """As many copies of a tensor.

    Where a tensor is read several times, Jittor adds the gradients in one fused kernel, which it
    compiles for every number and every way of them.
    """

    def __init__(self, ops: Primitives, copies: int) -> None:
        super().__init__()
        self._ops, self._copies = ops, copies

    def execute(self, x: Var) -> list[Var]:
        return [x] * self._copies

    def grad(self, *dys: Var | None) -> Var:
        return self._ops.add([dy for dy in dys if dy is not None])


def split(x: Var, widths: tuple[int, ...]) -> Sequence[Var]:
    """Cut (N, C, H, W) into parts of so many channels each, which are all that ``x`` has."""
    return [x] if len(widths) == 1 else _Split(widths)(x)


def fork(ops: Primitives, x: Var, copies: int) -> Sequence[Var]:
    """Return a tensor of any shape once for every place that reads it; on the way back their gradients are added."""
    return [x] * copies if copies < 2 else _Fork(ops, copies)(x)
