"""Bringing images that are already in memory to another size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dots_core.data.images import ImageData, Split
from dots_core.data.pixels import check_image_size, check_total, square


def resized(data: ImageData, image_size: int | None) -> ImageData:
    """Scale the shorter side of every image to ``image_size`` and keep the central square.

    Parameters
    ----------
    data : ImageData
    image_size : int or None
        None, or the size the images have already, gives ``data`` back as it is.

    Returns
    -------
    ImageData

    Raises
    ------
    UsageError
        If ``image_size`` is out of range, or all pixels together would exceed 16 GiB.
    """
    check_image_size(image_size)
    channels, height, width = data.shape
    if image_size is None or (height, width) == (image_size, image_size):
        return data
    check_total(len(data.train) + len(data.test), image_size, image_size, channels, data.origin or data.name)
    return replace(data, train=_resized(data.train, image_size), test=_resized(data.test, image_size))


def _resized(split: Split, side: int) -> Split:
    from PIL import Image

    count, _, _, channels = split.images.shape
    images = np.empty((count, side, side, channels), np.uint8)
    for old, new in zip(split.images, images, strict=True):
        new[...] = np.asarray(square(Image.fromarray(old[..., 0] if channels == 1 else old), side)).reshape(new.shape)
    return Split(images, split.labels)
