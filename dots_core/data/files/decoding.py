"""Decoding many image files, all at once into memory or each time they are asked for."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from dots_core.data.doubts import Remarks
from dots_core.data.files import threads
from dots_core.data.files.pixels import PIXEL_LIMIT, check_total, decode, is_grey, open_image
from dots_core.data.messages import reason
from dots_core.data.on_demand import OnDemand
from dots_core.errors import CorruptFile, DataMissing, DotsError, UsageError

_FILES_PER_TASK = 64
_LOOKUPS_PER_TASK = 4096
_TOLD = 10


class ColourFound(Exception):
    """A colour image turned up while all images so far were grey."""


class Unreadable:
    """Image files that cannot be read, gathered by several threads so that all are told at once."""

    def __init__(self) -> None:
        self._errors: dict[str, tuple[type[DotsError], str]] = {}

    def add(self, path: str, error: DotsError) -> None:
        """Remember a file and what was raised about it: no more, as a traceback holds the file's content."""
        self._errors[path] = (type(error), str(error))

    def raise_any(self) -> None:
        """Raise what was raised about the only file; of several, one error that says how many and the first of them.

        Raises
        ------
        CorruptFile, DataMissing
        """
        errors = [self._errors[path] for path in sorted(self._errors)]
        if not errors:
            return
        kinds = {kind for kind, _ in errors}
        kind = CorruptFile if CorruptFile in kinds else errors[0][0]
        if len(errors) == 1:
            raise kind(errors[0][1])
        # Each is a cause and, behind the last semicolon, a remedy.
        causes = [message.rpartition("; ")[0] for _, message in errors[:_TOLD]]
        more = f" and {len(errors) - _TOLD} more" if len(errors) > _TOLD else ""
        remedies = "replace or delete them" + (", or check their permissions" if DataMissing in kinds else "")
        raise kind(f"{len(errors)} images cannot be read: {', '.join(causes)}{more}; {remedies}")


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
    unreadable : Unreadable
        Gathers the files that cannot be read.
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
    unreadable: Unreadable = field(default_factory=Unreadable)

    def total(self, count: int) -> int:
        """Bytes of so many decoded images."""
        return count * self.height * self.width * self.channels

    def read(self, path: str) -> NDArray[np.uint8] | None:
        """Decode one file to a uint8 array, shape (H, W, C); None if it cannot be read, which is remembered."""
        try:
            image = open_image(path)
            if self.grey_only and not is_grey(image):
                raise ColourFound
            pixels = decode(image, path, self.channels, self.image_size, self.remarks)
        except (CorruptFile, DataMissing) as error:
            self.unreadable.add(path, error)
            return None
        height, width, _ = pixels.shape
        if (height, width) != (self.height, self.width):
            raise DataMissing(
                f"{path} is {width}x{height} but {self.first} is {self.width}x{self.height}; "
                "bring all images to one size with --set image_size=32"
            )
        return pixels


def decode_files(paths: Sequence[str], form: Form) -> NDArray[np.uint8]:
    """Decode files into one array; those that cannot be read are remembered by the form.

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
        If a file has another size than the first and the form does not scale.
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
            pixels = form.read(paths[row])
            if pixels is not None:
                images[row] = pixels

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
        If its ``grey_only`` is set, the headers of all files are read to make sure of it. It remembers
        the files that are missing, empty or no regular files.

    Raises
    ------
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
        form = replace(self._form, unreadable=Unreadable())
        images = decode_files([self._paths[number] for number in numbers.tolist()], form)
        form.unreadable.raise_any()
        return images

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
                problem = f"cannot be read ({reason(error)}); check the file and its permissions"
            else:
                self._sizes[row] = found.st_size
                if stat.S_ISREG(found.st_mode) and found.st_size:
                    continue
                what = "an empty file" if stat.S_ISREG(found.st_mode) else "no regular file"
                problem = f"is {what}; replace or delete it"
            self._form.unreadable.add(path, DataMissing(f"{path}: {problem}"))

    def _check_grey(self, start: int) -> None:
        for path in self._paths[start : start + _FILES_PER_TASK]:
            try:
                grey = is_grey(open_image(path))
            except (CorruptFile, DataMissing) as error:
                self._form.unreadable.add(path, error)
                continue
            if not grey:
                raise ColourFound
