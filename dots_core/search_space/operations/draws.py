"""What is random for an operation on each edge, whatever other candidates there are."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from dots_core.random import Stream
from dots_core.search_space.operations import DARTS

Draw = Callable[[Stream, "tuple[int, ...]"], "NDArray[np.float64]"]


def drawn_by_operation(
    draw: Draw, seed: int, name: str, edges: int, candidates: tuple[str, ...]
) -> NDArray[np.float64]:
    """Return random numbers, shape (edges, candidates), of which a column depends on its operation alone.

    The operations of DARTS are the columns of one stream, shape (edges, 8), which keeps what searches among them
    drew whatever else is registered; any other has a stream of its own name.

    Parameters
    ----------
    draw : callable
        Returns numbers of a stream in a shape.
    name : str
        The stream's.
    """
    columns: dict[str, NDArray[np.float64]] = {}
    if set(candidates) & set(DARTS):
        columns.update(zip(DARTS, draw(Stream(seed, name), (edges, len(DARTS))).T, strict=True))
    for operation in set(candidates) - set(DARTS):
        columns[operation] = draw(Stream(seed, f"{name}/{operation}"), (edges,))
    return np.stack([columns[operation] for operation in candidates], axis=1)
