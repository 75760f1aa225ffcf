"""Counter-based random numbers, the only source of randomness in the project.

Every number is a pure function of (seed, stream name, indices), so the same run draws the
same numbers on every engine, in any order, and a resumed run needs no generator state.
The generator is Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
SC 2011), vectorised over counters. NumPy's own ``Generator`` methods are not used because
their streams may change between NumPy releases.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


def philox4x32(counters: NDArray[np.uint32], key: tuple[int, int]) -> NDArray[np.uint32]:
    """Apply ten Philox rounds to each counter.

    Parameters
    ----------
    counters : uint32 array, shape (n, 4)
    key : two 32-bit integers

    Returns
    -------
    uint32 array, shape (n, 4)
    """
    c0, c1, c2, c3 = (counters[:, i].astype(np.uint64) for i in range(4))
    k0, k1 = key
    for _ in range(10):
        p0 = _MULTIPLIERS[0] * c0
        p1 = _MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (
            (p1 >> _HALF) ^ c1 ^ np.uint64(k0),
            p1 & _LOW,
            (p0 >> _HALF) ^ c3 ^ np.uint64(k1),
            p0 & _LOW,
        )
        k0 = (k0 + _WEYL[0]) & 0xFFFFFFFF
        k1 = (k1 + _WEYL[1]) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=1).astype(np.uint32)


class Stream:
    """A named, seeded family of random numbers addressed by index.

    Parameters
    ----------
    seed : int
        The run's seed.
    name : str
        What the numbers are for, e.g. ``"crop"``. Streams of different names are independent.

    Notes
    -----
    An address is up to two indices (for example epoch and step) and, for
    :meth:`uniform_per`, a sample number. All must lie in [0, 2³²).
    """

    def __init__(self, seed: int, name: str) -> None:
        digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
        self._key = (int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:8], "little"))

    def _words(self, samples: NDArray[np.integer], blocks: int, index: tuple[int, ...]) -> NDArray[np.uint32]:
        if len(index) > 2:
            raise ValueError(f"a stream takes at most two indices, got {len(index)}")
        first, second = (*index, 0, 0)[:2]
        counters = np.empty((len(samples), blocks, 4), np.uint32)
        counters[..., 0] = np.arange(blocks, dtype=np.uint32)
        counters[..., 1] = np.asarray(samples, np.uint32)[:, None]
        counters[..., 2] = first
        counters[..., 3] = second
        return philox4x32(counters.reshape(-1, 4), self._key).reshape(len(samples), blocks * 4)

    def uniform_per(self, samples: NDArray[np.integer], count: int, *index: int) -> NDArray[np.float64]:
        """Draw ``count`` uniform numbers in [0, 1) for each sample: float64, shape (len(samples), count)."""
        words = self._words(np.asarray(samples), (count + 1) // 2, index).astype(np.uint64)
        high, low = words[:, 0::2] >> np.uint64(5), words[:, 1::2] >> np.uint64(6)
        doubles = (high * np.uint64(1 << 26) + low).astype(np.float64) * (1.0 / (1 << 53))
        return doubles[:, :count]

    def uniform(self, shape: tuple[int, ...], *index: int) -> NDArray[np.float64]:
        """Draw uniform numbers in [0, 1): float64 of the given shape."""
        count = int(np.prod(shape, dtype=np.int64))
        return self.uniform_per(np.zeros(1, np.uint32), count, *index)[0].reshape(shape)

    def normal(self, shape: tuple[int, ...], *index: int) -> NDArray[np.float64]:
        """Draw standard normal numbers by the Box-Muller transform: float64 of the given shape."""
        count = int(np.prod(shape, dtype=np.int64))
        pairs = self.uniform((count, 2), *index)
        radius = np.sqrt(-2.0 * np.log1p(-pairs[:, 0]))
        return np.multiply(radius, np.cos(2.0 * np.pi * pairs[:, 1]), dtype=np.float64).reshape(shape)

    def permutation(self, n: int, *index: int) -> NDArray[np.int64]:
        """Draw a permutation of 0 … n−1: int64, shape (n,)."""
        return np.argsort(self.uniform((n,), *index), kind="stable").astype(np.int64)
