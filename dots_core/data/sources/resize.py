"""Bringing images that are already loaded to another size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dots_core.data.files.pixels import check_image_size, check_total, square
from dots_core.data.images import ImageData, Split
from dots_core.data.on_demand import OnDemand


def resized(data: ImageData, image_size: int | None) -> ImageData:
    """Scale the shorter side of every image to ``image_size`` and keep the central square.

    Parameters
    ----------
    data : ImageData
    image_size : int or None
        None, or the size the images have already, gives ``data`` back as it is. Images decoded
        on demand stay so and are scaled after they are decoded.

    Returns
    -------
    ImageData

    Raises
    ------
    UsageError
        If ``image_size`` is out of range, or all pixels held in memory would exceed 16 GiB.
    """
    check_image_size(image_size)
    channels, height, width = data.shape
    if image_size is None or (height, width) == (image_size, image_size):
        return data
    held = [len(split) for split in (data.train, data.test) if not isinstance(split.images, OnDemand)]
    check_total(sum(held), image_size, image_size, channels, data.origin or data.name)
    return replace(data, train=_resized(data.train, image_size), test=_resized(data.test, image_size))


class _Resized(OnDemand):
    """Images decoded on demand, scaled after decoding."""

    def __init__(self, images: OnDemand, side: int) -> None:
        super().__init__((len(images), side, side, images.shape[3]))
        self._images = images

    def decoded(self, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        _, height, width, channels = self.shape
        check_total(len(numbers), height, width, channels, "images to scale")
        return _squares(self._images.decoded(numbers), height)

    def identity(self) -> Iterator[bytes]:
        return self._images.identity()


def _resized(split: Split, side: int) -> Split:
    images = split.images
    return replace(split, images=_Resized(images, side) if isinstance(images, OnDemand) else _squares(images, side))


def _squares(images: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    from PIL import Image

    count, _, _, channels = images.shape
    scaled = np.empty((count, side, side, channels), np.uint8)
    for old, new in zip(images, scaled, strict=True):
        new[...] = np.asarray(square(Image.fromarray(old[..., 0] if channels == 1 else old), side)).reshape(new.shape)
    return scaled
