"""What crosses the wall into an engine: one batch of images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Draw:
    """What was drawn for the mixed operations of one cell type (`dots_core.search.sampling`).

    Attributes
    ----------
    noise : float32 array, shape (edges, candidates)
        Added to α′ before the temperature.
    chosen : bool array, shape (edges, candidates), or None
        One operation of each group. Only these are evaluated: each weighs 1, and its gradient is
        that of its softmax weight; the others weigh 0. None: all are mixed.
    """

    noise: NDArray[np.float32]
    chosen: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Batch:
    """One batch, ready for an engine.

    Attributes
    ----------
    images : float32 array, shape (N, C, H, W)
        Normalised and augmented images.
    labels : int64 array, shape (N,)
    drop_path : float32 array, shape (cells, edges, N), or None
        Factor applied to each edge's output for each sample: 0 where the path is dropped,
        1/(1−p) where it is kept, 1 on edges that are never dropped. None means no drop-path.
    draws : mapping of cell type to Draw, or None
        None means that operations are mixed by α alone.
    """

    images: NDArray[np.float32]
    labels: NDArray[np.int64]
    drop_path: NDArray[np.float32] | None = None
    draws: Mapping[str, Draw] | None = None
