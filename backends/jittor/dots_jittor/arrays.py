"""Arrays to Jittor and back, with their precision."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dots_core.arena import Arena
from dots_jittor.startup import jt

Var = Any


def upload(array: NDArray[np.generic]) -> Var:
    """Copy an array to Jittor, float64 as float64.

    At once: Jittor would fuse a copy that is still to be made with what reads it, and round otherwise
    than where the values are there, so that a resumed run would part from an uninterrupted one.
    """
    with jt.flag_scope(auto_convert_64_to_32=0):
        var = jt.array(np.ascontiguousarray(array)).stop_grad()
    var.sync()
    return var


def download(var: Var) -> NDArray[Any]:
    """Copy a Var to the host; waits for it."""
    return np.array(var.numpy())


def views(arena: Arena, flat: Var) -> list[Var]:
    """Every stack of an arena as a part of its flat tensor, by stack number."""
    return [flat[start : start + math.prod(shape)].reshape(shape) for start, shape in arena.stacks]


def joined(parts: Sequence[Var]) -> Var:
    """All elements of several Vars as one vector."""
    return jt.concat([part.reshape((-1,)) for part in parts], 0)
