"""Flat storage in which equal layers of several edges lie side by side.

Every canonical array is a contiguous range of one flat tensor. Arrays placed together can be
read as one stacked tensor, so a layer of all edges out of a node is one call, and an optimiser
is a few calls over the flat tensor, while state goes in and out under canonical per-edge names.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dots_core.errors import CorruptFile


class Arena:
    """Assigns ranges of a flat tensor to canonical names; `freeze` ends the assignment.

    Attributes
    ----------
    size : int
        Number of elements assigned so far.
    """

    def __init__(self) -> None:
        self.size = 0
        self._ranges: dict[str, tuple[int, tuple[int, ...]]] = {}
        self._stacks: list[tuple[int, tuple[int, ...]]] = []

    def stack(self, names: tuple[str, ...], shape: tuple[int, ...]) -> int:
        """Place arrays of one shape side by side; return the stack's number.

        The stack's shape is that of one array with the first dimension times the number of names.
        """
        start = self.size
        for name in names:
            self._ranges[name] = (self.size, shape)
            self.size += int(np.prod(shape))
        self._stacks.append((start, (len(names) * shape[0], *shape[1:])))
        return len(self._stacks) - 1

    def share(self, names: tuple[str, ...], shape: tuple[int, ...]) -> int:
        """Place one array that all names stand for; return the stack's number."""
        number = self.stack(names[:1], shape)
        for name in names[1:]:
            self._ranges[name] = self._ranges[names[0]]
        return number

    def views(self, flat: Tensor) -> list[Tensor]:
        """Return every stack as a view of a flat tensor, by stack number."""
        return [flat.narrow(0, start, int(np.prod(shape))).view(shape) for start, shape in self._stacks]

    def write(self, flat: Tensor, arrays: Mapping[str, NDArray[np.generic]], prefix: str = "") -> None:
        """Fill a flat tensor from arrays called ``prefix + name``.

        Raises
        ------
        CorruptFile
            If arrays that stand for one value differ.
        """
        host = np.empty(self.size, np.float64 if flat.dtype == torch.float64 else np.float32)
        written: dict[int, str] = {}
        for name, (start, shape) in self._ranges.items():
            values = np.asarray(arrays[prefix + name]).astype(host.dtype).ravel()
            place = host[start : start + int(np.prod(shape))]
            if start in written and not np.array_equal(place, values, equal_nan=True):
                raise CorruptFile(
                    f"'{prefix}{name}' and '{prefix}{written[start]}' normalise the same tensor but differ; "
                    "the state does not come from a training run"
                )
            place[:] = values
            written[start] = name
        with torch.no_grad():
            flat.copy_(torch.from_numpy(host))

    def read(self, flat: Tensor, prefix: str = "") -> dict[str, NDArray[np.generic]]:
        """Return copies of all arrays of a flat tensor, called ``prefix + name``."""
        host = flat.detach().cpu().numpy()
        return {
            prefix + name: host[start : start + int(np.prod(shape))].reshape(shape).copy()
            for name, (start, shape) in self._ranges.items()
        }
