"""The small data set that comes with the package, so that a first run needs no download."""

from __future__ import annotations

from importlib.resources import files

import numpy as np

from dots_core.data.images import ImageData, Split

CLASSES = tuple("0123456789")


def load_digits() -> ImageData:
    """Load the embedded handwritten digits: 8×8 pixels, one channel, ten classes, 1797 images.

    Of each class, in stored order, the last fifth (rounded down) is the test split. Source
    and licence stand in ``digits.md`` beside the data.

    Returns
    -------
    ImageData
        1442 train and 355 test images, their values 0 … 16 scaled to 0 … 255.
    """
    with (
        files("dots_core.data.sources").joinpath("digits.npz").open("rb") as file,
        np.load(file, allow_pickle=False) as stored,
    ):
        values, labels = stored["images"], stored["labels"].astype(np.int64)
    images = ((values.astype(np.uint16) * 255 + 8) // 16).astype(np.uint8)[..., None]
    test = np.zeros(len(labels), bool)
    for label in range(len(CLASSES)):
        members = np.flatnonzero(labels == label)
        test[members[len(members) - len(members) // 5 :]] = True
    return ImageData("digits", CLASSES, Split(images[~test], labels[~test]), Split(images[test], labels[test]))
