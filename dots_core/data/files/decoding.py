"""Decoding many image files, all at once into memory or each time they are asked for."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dots_core.data.doubts import Remarks
from dots_core.data.files import threads
from dots_core.data.files.pixels import PIXEL_LIMIT, check_total, decode, is_grey, open_image
from dots_core.data.messages import reason
from dots_core.data.on_demand import OnDemand
from dots_core.errors import DataMissing, UsageError

_FILES_PER_TASK = 64
_LOOKUPS_PER_TASK = 4096


class ColourFound(Exception):
    """A colour image turned up while all images so far were grey."""


@dataclass(frozen=True)
class Form:
    """What the decoded images of a folder have in common.

    Attributes
    ----------
    height, width : int
        In pixels.
    channels : {1, 3}
    image_size : int or None
        Side of the central square every image is scaled to; None if all have one size already.
    first : str
        The file the size was taken from, for messages.
    origin : str
        Where the images come from, for messages.
    threads : bool
        Whether an image takes long enough to decode for threads to pay off.
    grey_only : bool
        Raise :class:`ColourFound` at a file that stores colours.
    remarks : Remarks
        Gathers the files in which decoding notices something.
    """

    height: int
    width: int
    channels: int
    image_size: int | None
    first: str
    origin: str
    threads: bool
    grey_only: bool = False
    remarks: Remarks = field(default_factory=lambda: Remarks(""))

    def total(self, count: int) -> int:
        """Bytes of so many decoded images."""
        return count * self.height * self.width * self.channels

    def read(self, path: str) -> NDArray[np.uint8]:
        """Decode one file to a uint8 array, shape (H, W, C)."""
        image = open_image(path)
        if self.grey_only and not is_grey(image):
            raise ColourFound
        pixels = decode(image, path, self.channels, self.image_size, self.remarks)
        height, width, _ = pixels.shape
        if (height, width) != (self.height, self.width):
            raise DataMissing(
                f"{path} is {width}x{height} but {self.first} is {self.width}x{self.height}; "
                "bring all images to one size with --set image_size=32"
            )
        return pixels


def decode_files(paths: Sequence[str], form: Form) -> NDArray[np.uint8]:
    """Decode files into one array.

    Parameters
    ----------
    paths : sequence of str, length n
    form : Form

    Returns
    -------
    uint8 array, shape (n, H, W, C)

    Raises
    ------
    DataMissing
        If a file cannot be read, or has another size and the form does not scale.
    CorruptFile
        If a file is damaged or has more than 64 million pixels. Of several the first in order is reported.
    UsageError
        If the pixels together exceed 16 GiB.
    """
    check_total(len(paths), form.height, form.width, form.channels, form.origin)
    images = np.empty((len(paths), form.height, form.width, form.channels), np.uint8)
    count = threads.workers() if form.threads else 1
    # A batch is little work for many hands, so it is cut finer than a folder.
    per_task = max(1, min(_FILES_PER_TASK, len(paths) // (4 * count)))

    def work(start: int) -> None:
        for row in range(start, min(start + per_task, len(paths))):
            images[row] = form.read(paths[row])

    threads.run_all(work, range(0, len(paths), per_task), count)
    return images


class FileImages(OnDemand):
    """The images of files, decoded by a few threads whenever they are indexed.

    Parameters
    ----------
    folder : str
        A folder above all files; their places in it belong to the identity.
    paths : list of str, length N
        Each begins with ``folder`` and a separator.
    form : Form
        If its ``grey_only`` is set, the headers of all files are read to make sure of it.

    Raises
    ------
    DataMissing
        If a file is missing, empty or not a regular file.
    UsageError
        If one decoded image would have more than 64 million pixels.
    ColourFound
        See :class:`Form`.

    Notes
    -----
    Files must not change while they are in use: what is wrong with the content of one is found
    when it is decoded, and its identity is its place and size as they were at the beginning.
    """

    def __init__(self, folder: str, paths: list[str], form: Form) -> None:
        super().__init__((len(paths), form.height, form.width, form.channels))
        if form.height * form.width > PIXEL_LIMIT:
            raise UsageError(
                f"{form.origin}: one image of {form.width}x{form.height} exceeds the limit of {PIXEL_LIMIT} pixels; "
                "make the images smaller, e.g. with --set image_size=224"
            )
        self._folder = folder
        self._paths = paths
        self._form = form
        self._sizes = np.empty(len(paths), np.int64)
        threads.run_all(self._look_up, range(0, len(paths), _LOOKUPS_PER_TASK), threads.workers())
        if form.grey_only:
            threads.run_all(self._check_grey, range(0, len(paths), _FILES_PER_TASK), threads.workers())

    def decoded(self, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        return decode_files([self._paths[number] for number in numbers.tolist()], self._form)

    def identity(self) -> Iterator[bytes]:
        for path, size in zip(self._paths, self._sizes.tolist(), strict=True):
            place = path[len(self._folder) + 1 :].replace(os.sep, "/")
            # A path holds no zero byte, so none can be read as the end of another.
            yield os.fsencode(place) + b"\0" + size.to_bytes(8, "little")

    def _look_up(self, start: int) -> None:
        for row in range(start, min(start + _LOOKUPS_PER_TASK, len(self._paths))):
            path = self._paths[row]
            try:
                found = os.stat(path)
            except OSError as error:
                raise DataMissing(
                    f"{path}: cannot be read ({reason(error)}); check the file and its permissions"
                ) from error
            if not stat.S_ISREG(found.st_mode) or not found.st_size:
                what = "an empty file" if stat.S_ISREG(found.st_mode) else "no regular file"
                raise DataMissing(f"{path}: is {what}; replace or delete it")
            self._sizes[row] = found.st_size

    def _check_grey(self, start: int) -> None:
        for path in self._paths[start : start + _FILES_PER_TASK]:
            if not is_grey(open_image(path)):
                raise ColourFound
