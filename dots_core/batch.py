"""What crosses the wall into an engine: one batch of images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


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
    """

    images: NDArray[np.float32]
    labels: NDArray[np.int64]
    drop_path: NDArray[np.float32] | None = None
