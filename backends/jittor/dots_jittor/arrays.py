"""Arrays to Jittor and back, with their precision."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from dots_core.engine.flat_layout import FlatLayout
from dots_jittor.startup import jt

Var = Any


def upload(array: NDArray[np.generic]) -> Var:
    """Copy an array to Jittor in its shape and type, float64 as float64.

    At once: Jittor would fuse a copy that is still to be made with what reads it, and round otherwise
    than where the values are there, so that a resumed run would part from an uninterrupted one.
    """
    with jt.flag_scope(auto_convert_64_to_32=0):
        var = jt.array(np.ascontiguousarray(array)).stop_grad()
    var.sync()
    return var


def download(var: Var) -> NDArray[Any]:
    """Copy a Var of any shape to the host; waits for it."""
    return np.array(var.numpy())


class Views:
    """The stacks of a layout as parts of its flat tensor, by stack number; each is made when it is first read.

    Parameters
    ----------
    differentiated : bool
        Whether a gradient is to be taken with respect to them.

    Attributes
    ----------
    read : dict of int to Var
        Those that were read.
    """

    def __init__(self, layout: FlatLayout, flat: Var, differentiated: bool = False) -> None:
        self._arena, self._flat, self._differentiated = layout, flat, differentiated
        self.read: dict[int, Var] = {}

    def __getitem__(self, number: int) -> Var:
        if number not in self.read:
            start, shape = self._arena.stacks[number]
            view = self._flat[start : start + math.prod(shape)].reshape(shape)
            self.read[number] = view.start_grad() if self._differentiated else view
        return self.read[number]

    def flat(self, parts: Iterable[Var]) -> Var:
        """Lay one array for each stack that was read out as the flat tensor is; 0 for the others.

        Parameters
        ----------
        parts : iterable of Var
            In the order of `read`.
        """
        found = dict(zip(self.read, parts, strict=True))
        if len(found) == len(self._arena.stacks):
            return joined([found[number] for number in sorted(found)])
        starts = {self._arena.stacks[number][0]: part for number, part in found.items()}
        return placed(starts, self._arena.size, self._flat.dtype)


def placed(parts: Mapping[int, Var], size: int, dtype: DTypeLike) -> Var:
    """A vector of zeros with all elements of some Vars in it, by where they start."""
    vector = jt.zeros((size,), dtype)
    for start, part in parts.items():
        vector = vector.setitem(slice(start, start + part.numel()), part.reshape((-1,)))
    return vector


def joined(parts: Sequence[Var]) -> Var:
    """All elements of several Vars as one vector."""
    return jt.concat([part.reshape((-1,)) for part in parts], 0)
