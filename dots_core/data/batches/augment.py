"""Random changes to training images, and the normalisation every image gets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from dots_core.data.batches.jitter import jittered
from dots_core.data.batches.resized_crop import DRAWS, random_boxes, resized_crops
from dots_core.errors import UsageError
from dots_core.random import Stream


def normalise(images: NDArray[np.uint8], mean: NDArray[np.float32], std: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale images to [0, 1], subtract the mean, divide by the standard deviation and put channels first.

    Parameters
    ----------
    images : uint8 array, shape (N, H, W, C)
    mean, std : float32 array, shape (C,)
        On the scale [0, 1].

    Returns
    -------
    float32 array, shape (N, C, H, W), contiguous
    """
    scale = (1.0 / (255.0 * std.astype(np.float64))).astype(np.float32)
    shift = (mean.astype(np.float64) / std).astype(np.float32)
    result = images.transpose(0, 3, 1, 2).astype(np.float32, order="C")
    result *= scale[:, None, None]
    result -= shift[:, None, None]
    return result


@dataclass(frozen=True)
class Augmentation:
    """Random crops, colour jitter and horizontal flip, then normalisation, then cutout.

    What happens to an image depends on the seed, the epoch and its sample number only, not on
    the batch it is in.

    Attributes
    ----------
    flip : bool
        Mirror each image left to right with probability one half.
    crop : int
        Pad by this many zero pixels on each side (before normalisation, so the border is black,
        not the mean) and cut out the original size at a random place. 0 for none.
    cutout : int
        Side of a square set to zero after normalisation. Its centre is uniform over the pixels,
        so that part of it may lie outside the image. 0 for none.
    resized_crop : float
        Smallest share of the area that is cut out at random, with a ratio of width to height
        between 3/4 and 4/3, and enlarged to the size of the image; see :func:`random_boxes` of
        ``dots_core.data.batches.resized_crop``. 0 for none; 0.08 in the ImageNet training of DARTS. It
        comes before ``crop``, which is set to 0 there.
    jitter : float
        Brightness, contrast and saturation are each scaled by a factor uniform in
        [1 − jitter, 1 + jitter], in this order; see :func:`jittered` of ``dots_core.data.batches.jitter``.
        0 for none; 0.4 in the ImageNet training of DARTS, which also turns the hue, as this does
        not. It comes after the crops.

    Raises
    ------
    UsageError
        If ``crop`` or ``cutout`` is negative, or ``resized_crop`` or ``jitter`` is not in [0, 1].

    Notes
    -----
    The crop of ``resized_crop`` is cut from the image as it is held in memory, already scaled to
    one size, not from the file. Images for evaluation are taken whole.
    """

    flip: bool = True
    crop: int = 4
    cutout: int = 0
    resized_crop: float = 0.0
    jitter: float = 0.0

    def __post_init__(self) -> None:
        for name, value in (("crop", self.crop), ("cutout", self.cutout)):
            if value < 0:
                raise UsageError(f"augmentation: {name} is {value}; give 0 for none or a number of pixels")
        for name, share in (("resized_crop", self.resized_crop), ("jitter", self.jitter)):
            if not 0 <= share <= 1:
                raise UsageError(f"augmentation: {name} is {share}; give 0 for none or a number up to 1")

    def apply(
        self,
        images: NDArray[np.uint8],
        samples: NDArray[np.int64],
        epoch: int,
        seed: int,
        mean: NDArray[np.float32],
        std: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        """Augment and normalise a batch.

        Parameters
        ----------
        images : uint8 array, shape (N, H, W, C)
        samples : int64 array, shape (N,)
            The number of each image in its split, below 2³².
        epoch, seed : int
        mean, std : float32 array, shape (C,)
            On the scale [0, 1].

        Returns
        -------
        float32 array, shape (N, C, H, W), contiguous
        """
        if self.resized_crop:
            draws = Stream(seed, "resized_crop").uniform_per(samples, DRAWS, epoch)
            boxes = random_boxes(draws, images.shape[1], images.shape[2], self.resized_crop)
            images = resized_crops(images, boxes)
        if self.crop:
            draws = Stream(seed, "crop").uniform_per(samples, 2, epoch)
            images = _cropped(images, self.crop, _whole(draws, 2 * self.crop + 1))
        if self.jitter:
            draws = Stream(seed, "jitter").uniform_per(samples, 3, epoch)
            images = jittered(images, 1 + self.jitter * (2 * draws - 1))
        result = normalise(images, mean, std)
        if self.flip:
            # Mirroring comes after normalisation because rows of one channel are contiguous by now.
            mirrored = Stream(seed, "flip").uniform_per(samples, 1, epoch)[:, 0] < 0.5
            result[mirrored] = result[mirrored, :, :, ::-1]
        if self.cutout:
            draws = Stream(seed, "cutout").uniform_per(samples, 2, epoch)
            height, width = images.shape[1:3]
            rows = _covered(_whole(draws[:, 0], height), self.cutout, height)
            columns = _covered(_whole(draws[:, 1], width), self.cutout, width)
            # Multiplying by False is three times faster here than assigning through a mask.
            result *= ~(rows[:, :, None] & columns[:, None, :])[:, None]
        return result


def _whole(uniform: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Turn numbers in [0, 1) into whole numbers 0 … count−1."""
    return (uniform * count).astype(np.int64)


def _cropped(images: NDArray[np.uint8], border: int, offsets: NDArray[np.int64]) -> NDArray[np.uint8]:
    count, height, width, channels = images.shape
    padded = np.zeros((count, height + 2 * border, width + 2 * border, channels), np.uint8)
    padded[:, border : border + height, border : border + width] = images
    # Pixels of a row lie side by side with their channels, so a crop is a window over whole rows
    # of bytes; NumPy then copies long runs instead of single pixels.
    windows = sliding_window_view(padded.reshape(count, height + 2 * border, -1), (1, height, width * channels))
    cut = windows[np.arange(count), offsets[:, 0], offsets[:, 1] * channels]
    return cut.reshape(count, height, width, channels)


def _covered(centres: NDArray[np.int64], side: int, length: int) -> NDArray[np.bool_]:
    """Mark the positions of a line covered by an interval: bool, shape (len(centres), length)."""
    distance = np.arange(length) - (centres[:, None] - side // 2)
    return (distance >= 0) & (distance < side)
