"""Flat storage in which equal layers of several edges lie side by side.

Every canonical array is a contiguous range of one flat array. Arrays placed together can be
read as one stacked array, so a layer of all edges out of a node is one call, and an optimiser
is a few calls over the flat array, while state goes in and out under canonical per-edge names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from dots_core.errors import CorruptFile


class FlatLayout:
    """Assigns ranges of a flat array to canonical names.

    Attributes
    ----------
    size : int
        Number of elements assigned so far.
    stacks : list of (int, tuple of int)
        First element and shape of every stack, by stack number. The shape is that of one
        array with the first dimension times the number of arrays.
    """

    def __init__(self) -> None:
        self.size = 0
        self.stacks: list[tuple[int, tuple[int, ...]]] = []
        self._ranges: dict[str, tuple[int, tuple[int, ...]]] = {}

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every array by name."""
        return {name: shape for name, (_, shape) in self._ranges.items()}

    def stack(self, names: tuple[str, ...], shape: tuple[int, ...]) -> int:
        """Place arrays of one shape side by side; return the stack's number."""
        start = self.size
        for name in names:
            self._ranges[name] = (self.size, shape)
            self.size += int(np.prod(shape))
        self.stacks.append((start, (len(names) * shape[0], *shape[1:])))
        return len(self.stacks) - 1

    def share(self, names: tuple[str, ...], shape: tuple[int, ...]) -> int:
        """Place one array that all names stand for; return the stack's number."""
        number = self.stack(names[:1], shape)
        for name in names[1:]:
            self._ranges[name] = self._ranges[names[0]]
        return number

    def join(self, arrays: Mapping[str, NDArray[Any]], dtype: DTypeLike, prefix: str = "") -> NDArray[Any]:
        """Return the flat array, shape (size,), made of the arrays called ``prefix + name``.

        Raises
        ------
        CorruptFile
            If arrays that stand for one value differ.
        """
        flat = np.empty(self.size, dtype)
        written: dict[int, str] = {}
        for name, (start, shape) in self._ranges.items():
            values = np.asarray(arrays[prefix + name]).astype(flat.dtype).ravel()
            place = flat[start : start + int(np.prod(shape))]
            if start in written and not np.array_equal(place, values, equal_nan=True):
                raise CorruptFile(
                    f"'{prefix}{name}' and '{prefix}{written[start]}' normalise the same tensor but differ; "
                    "the state does not come from a training run"
                )
            place[:] = values
            written[start] = name
        return flat

    def split(self, flat: NDArray[Any], prefix: str = "") -> dict[str, NDArray[Any]]:
        """Return copies of all arrays of a flat array, called ``prefix + name``."""
        return {
            prefix + name: flat[start : start + int(np.prod(shape))].reshape(shape).copy()
            for name, (start, shape) in self._ranges.items()
        }
