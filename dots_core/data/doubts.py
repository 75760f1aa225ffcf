"""Images that are what they should be by form, but show nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dots_core.data.account import SHOWN, listed


class Doubt(NamedTuple):
    """What may be wrong with an image, and what to do about it."""

    images: str
    remedy: str

    def of(self, names: Sequence[str]) -> str:
        """Return the warning about some images, the first of them by name."""
        return f"{self.images}: {len(names)} ({listed(names, SHOWN)}); {self.remedy}"


TRANSPARENT = Doubt(
    "images with their shape in the transparency only, which is dropped", "save them on an opaque background"
)
DARK = Doubt(
    "images of 16 bits that use the lowest quarter of the range at most, and so come out nearly black",
    "scale their values to 0 … 65535, or save them with 8 bits",
)
CONSTANT = Doubt("images of one colour throughout", "replace or delete them")
FAINT = Doubt(
    "images all but of one colour, with values that differ by less than 8 of 255",
    "look at their scale: values 0 to 1, or of 16 bits, do not become pixels by being stored as 8 bits",
)

_FAINT_BELOW = 8
_DIM_BELOW = 64
_PLACES = 16

_MOST = 10_000


class Remarks:
    """Files in which decoding noticed something, gathered by several threads.

    Parameters
    ----------
    origin : str
        The folder of the data; files are named by their places below it.
    """

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._files: dict[Doubt, set[str]] = {}

    def note(self, about: Doubt, path: str) -> None:
        """Remember a file; at most ten thousand of them."""
        files = self._files.setdefault(about, set())
        if len(files) < _MOST:
            files.add(path)

    def about(self, about: Doubt) -> set[str]:
        """Return the files something was noticed in."""
        return self._files.get(about, set())

    def sentences(self) -> tuple[str, ...]:
        """Return a warning for each thing noticed."""
        return tuple(
            about.of([path[len(self._origin) + 1 :] for path in sorted(files)])
            for about, files in sorted(self._files.items())
        )


class Look:
    """What a pass over a split's pixels shows, taken chunk by chunk."""

    def __init__(self) -> None:
        self.constant: list[int] = []
        self.faint: list[int] = []
        self.seen = 0
        self._lowest: NDArray[np.uint8] | None = None
        self._highest: NDArray[np.uint8] | None = None

    def add(self, numbers: Sequence[int] | NDArray[np.int64], images: NDArray[np.uint8]) -> None:
        """Take note of some images: uint8 array, shape (n, H, W, C), with their numbers in the split."""
        pixels = images.reshape(len(images), -1, images.shape[3])
        # Hardly any other image has hardly any contrast at these places, so hardly any is looked at whole.
        likely = np.flatnonzero(_spans(pixels[:, :: max(1, pixels.shape[1] // _PLACES)]) < _FAINT_BELOW)
        for row, span in zip(likely.tolist(), _spans(pixels[likely]), strict=True):
            if span < _FAINT_BELOW:
                (self.faint if span else self.constant).append(int(numbers[row]))
        self.seen += len(images)
        low, high = images.min(axis=0), images.max(axis=0)
        self._lowest = low if self._lowest is None else np.minimum(self._lowest, low)
        self._highest = high if self._highest is None else np.maximum(self._highest, high)

    @property
    def alike(self) -> bool:
        """Whether there are several images, all the same."""
        return self.seen > 1 and bool(np.array_equal(self._lowest, self._highest))  # type: ignore[arg-type]

    @property
    def dim(self) -> tuple[int, int] | None:
        """The lowest and the highest value of all images together, if these differ, but by less than a quarter."""
        if self._lowest is None or self._highest is None:
            return None
        lowest, highest = int(self._lowest.min()), int(self._highest.max())
        return (lowest, highest) if 0 < highest - lowest < _DIM_BELOW else None


def _spans(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The largest difference between values of one channel: uint8 array, shape (n,), of (n, pixels, C)."""
    # Reducing along contiguous values is some twenty times as fast.
    channels = np.ascontiguousarray(pixels.transpose(0, 2, 1))
    return (channels.max(axis=2) - channels.min(axis=2)).max(axis=1)
