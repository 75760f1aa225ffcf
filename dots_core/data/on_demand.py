"""Images that stand for an array but are decoded only when they are asked for."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray


class OnDemand(ABC):
    """Read-only images too many for memory, indexed along the first axis like a uint8 array.

    Parameters
    ----------
    shape : tuple of int
        (N, H, W, C).

    Notes
    -----
    ``images[index]`` takes what an array's first axis takes: a number, a slice, an array of
    numbers or of truth values. The same index gives the same pixels every time, and nothing is
    kept between calls: no pixels, no threads, no open files.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, shape: tuple[int, int, int, int]) -> None:
        self.shape = shape

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes all images would take once decoded."""
        return math.prod(self.shape)

    def __getitem__(self, index: Any) -> NDArray[np.uint8]:
        numbers = np.arange(len(self))[index]
        return self.decoded(numbers.reshape(-1)).reshape(numbers.shape + self.shape[1:])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        # Without this NumPy would gather image after image, past the limit on what is decoded at once.
        return self[:].astype(self.dtype if dtype is None else dtype, copy=False)

    @abstractmethod
    def decoded(self, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Decode images.

        Parameters
        ----------
        numbers : int64 array, shape (n,)
            From 0 to N − 1, in any order, repeated or not.

        Returns
        -------
        uint8 array, shape (n, H, W, C)

        Raises
        ------
        DataMissing, CorruptFile
            If an image cannot be had.
        UsageError
            If the pixels asked for exceed 16 GiB.
        """

    @abstractmethod
    def identity(self) -> Iterator[bytes]:
        """Yield what stands for the pixels in a fingerprint, image by image."""
