"""What a set of images is once it is loaded, whatever it was read from."""

from __future__ import annotations

import hashlib
import math
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from dots_core.data.account import NOTHING_TO_TELL, Account, listed, one_line
from dots_core.data.doubts import CONSTANT, DARK, FAINT, TRANSPARENT, Look, Remarks
from dots_core.data.on_demand import OnDemand
from dots_core.errors import DataMissing, quoted
from dots_core.random import Stream

SMALLEST_SIDE = 4
"""Networks halve the image twice, so a shorter side than this leaves nothing to convolve."""

STATISTICS_SAMPLE = 4096
"""Images the mean and the standard deviation are taken over where images are decoded on demand."""

_TEST_SAMPLE = 256
_CHUNK_BYTES = 1 << 20
_DECODED_BYTES = 32 << 20


@dataclass(frozen=True, eq=False)
class Split:
    """One part of the data, train or test.

    Attributes
    ----------
    images : uint8 array or OnDemand, shape (N, H, W, C)
        Index the first axis; no other operation is common to both.
    labels : int64 array, shape (N,)
        Positions in the class names of the :class:`ImageData` the split belongs to.
    files : sequence of str, length N or 0
        Where each image was read from, if it was a file of its own.
    remarks : Remarks or None
        What was noticed in these files as far as they have been decoded.
    """

    images: NDArray[np.uint8] | OnDemand
    labels: NDArray[np.int64]
    files: Sequence[str] = ()
    remarks: Remarks | None = None

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class ImageData:
    """Labelled images in two splits, checked to fit together.

    The arrays are taken as they are, not copied; they must not be changed afterwards.

    Attributes
    ----------
    name : str
        Short name for reports.
    classes : tuple of str
        Class names; label ``k`` means ``classes[k]``.
    train, test : Split
    origin : str
        Where the images were read from, for messages; empty if they were given as arrays.
    account : Account
        What was taken, passed over and converted when they were read.

    Raises
    ------
    DataMissing
        If a split is empty, an array has the wrong dtype or rank, the splits differ in image
        shape, a label names no class, a class name is blank or repeated, the images are
        neither grey nor RGB, or a side is shorter than 4 pixels.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    test: Split
    origin: str = ""
    account: Account = NOTHING_TO_TELL

    def __post_init__(self) -> None:
        where = f"{self.origin or self.name}:"
        _check_names(where, self.classes)
        _check_split(where, "train", self.train, len(self.classes))
        _check_split(where, "test", self.test, len(self.classes))
        if self.train.images.shape[1:] != self.test.images.shape[1:]:
            raise DataMissing(
                f"{where} train images are {_size(self.train)} but test images are {_size(self.test)}; "
                "give arrays of one height, width and number of channels (of grey images as colour: "
                "numpy.repeat(images.reshape(*images.shape[:3], 1), 3, axis=3))"
            )
        _, height, width, channels = self.train.images.shape
        if len(self.classes) < 2:
            only = f"only one class, '{quoted(self.classes[0])}'" if self.classes else "no class"
            raise DataMissing(f"{where} there is {only}; give images of at least two, as a network tells classes apart")
        if channels not in (1, 3):
            raise DataMissing(f"{where} images have {channels} channels; give greyscale (1) or RGB (3) images")
        if min(height, width) < SMALLEST_SIDE:
            raise DataMissing(
                f"{where} images are {width}x{height} pixels, but both sides must have at least {SMALLEST_SIDE} "
                f"because networks halve the image twice; {_enlarged(self.train, min(height, width))}"
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one image as engines see it: (C, H, W)."""
        _, height, width, channels = self.train.images.shape
        return channels, height, width

    @property
    def summary(self) -> str:
        """What was loaded and what was not, in one line."""
        channels, height, width = self.shape
        colours = "grey" if channels == 1 else "colour"
        parts = [
            f"{one_line(quoted(self.name))}: {len(self.train)} train and {len(self.test)} test images of "
            f"{width}x{height} in {colours}, {len(self.classes)} classes",
            self.account.text(),
        ]
        return "; ".join(filter(None, parts))

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """What makes the data doubtful, in plain words.

        To find images that show nothing, the images the mean is taken over are looked at, and
        the test images: all of them, or 256 of those that are decoded on demand.
        """
        told = [*self.account.warnings, *self._class_warnings()]
        for part, split, look in (
            ("train", self.train, self._train_pass[2]),
            ("test", self.test, self._test_look),
        ):
            unseen: set[str] = set()
            if split.remarks is not None:
                told += split.remarks.sentences()
                unseen = split.remarks.about(TRANSPARENT) | split.remarks.about(DARK)
            # Of a split that is dim as a whole, every image would be named.
            for doubt, numbers in ((CONSTANT, look.constant), (FAINT, [] if look.dim else look.faint)):
                names = [split.files[n] if split.files else f"{part} image {n}" for n in numbers]
                names = [self._place(name) for name in names if name not in unseen]
                if names:
                    told.append(doubt.of(names))
            if look.dim:
                lowest, highest = look.dim
                told.append(f"the {part} images have values {lowest} to {highest} only, of 0 to 255; scale them")
            if look.alike:
                told.append(f"the {part} images are all the same; look at where they come from")
        return tuple(dict.fromkeys(one_line(sentence) for sentence in told))

    def _class_warnings(self) -> Iterator[str]:
        for part, split in (("train", self.train), ("test", self.test)):
            present = np.bincount(split.labels, minlength=len(self.classes)) > 0
            lacking = [name for name, there in zip(self.classes, present, strict=True) if not there]
            if lacking:
                what = "class" if len(lacking) == 1 else f"{len(lacking)} classes"
                effect = "learned" if part == "train" else "measured"
                yield f"no {part} images of {what} {listed(lacking)}; what is not there cannot be {effect}"

    def _place(self, path: str) -> str:
        return path[len(self.origin) + 1 :] if self.origin and path.startswith(self.origin) else path

    @property
    def mean(self) -> NDArray[np.float32]:
        """Mean of the train images on the scale [0, 1]: float32, shape (C,).

        Of images decoded on demand, over 4096 of them drawn at random, always the same ones; over
        all if there are no more.
        """
        return self._train_pass[0]

    @property
    def std(self) -> NDArray[np.float32]:
        """Standard deviation of the train images on the scale [0, 1]: float32, shape (C,).

        Over the same images as the mean. A channel that never varies has 1 here, so that dividing
        by it is harmless.
        """
        return self._train_pass[1]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of class names, shapes, labels and pixels, in hexadecimal; not of the name or origin.

        For images decoded on demand, each file's path below the folder of its split and its size
        in bytes stand in for the pixels, as reading all files to tell data apart may take hours.
        A file changed without a change of size goes unnoticed, and the fingerprint differs from
        that of the same images in memory.
        """
        digest = hashlib.sha256(repr(self.classes).encode())
        for split in (self.train, self.test):
            digest.update(repr(split.images.shape).encode())
            digest.update(np.ascontiguousarray(split.labels, dtype="<i8").data)
            if isinstance(split.images, OnDemand):
                for item in split.images.identity():
                    digest.update(item)
            else:
                for chunk in _chunks(split.images):
                    digest.update(np.ascontiguousarray(chunk).data)
        return digest.hexdigest()

    @cached_property
    def _train_pass(self) -> tuple[NDArray[np.float32], NDArray[np.float32], Look]:
        """Mean, standard deviation and look of the train images, which may be costly to decode, in one pass."""
        channels = self.train.images.shape[3]
        total, squares = np.zeros(channels, np.int64), np.zeros(channels, np.int64)
        count, look = 0, Look()
        for numbers, chunk in _sampled(self.train.images, STATISTICS_SAMPLE):
            look.add(numbers, chunk)
            values = chunk.reshape(-1, channels).astype(np.float64)
            # Integers below 2**53 add up exactly in float64, so neither the chunk size nor the
            # order of summation on a given machine shows in the result.
            total += values.sum(axis=0).astype(np.int64)
            squares += np.einsum("nc,nc->c", values, values).astype(np.int64)
            count += len(values)
        means, deviations = [], []
        for first, second in zip(total, squares, strict=True):
            # Whole numbers again: a difference of large floats would lose a small variance.
            spread = count * int(second) - int(first) ** 2
            means.append(int(first) / (count * 255))
            deviations.append(math.sqrt(spread) / (count * 255) if spread else 1.0)
        return np.array(means, np.float32), np.array(deviations, np.float32), look

    @cached_property
    def _test_look(self) -> Look:
        look = Look()
        for numbers, chunk in _sampled(self.test.images, _TEST_SAMPLE):
            look.add(numbers, chunk)
        return look


def _sampled(images: NDArray[np.uint8] | OnDemand, most: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
    """Cut images into chunks with their numbers: all, or so many of those that are decoded on demand."""
    if not isinstance(images, OnDemand):
        yield from _numbered(np.arange(len(images)), images)
        return
    # One fixed seed, not that of the run, so that all runs on the same files normalise alike.
    chosen = np.sort(Stream(0, "statistics").permutation(len(images))[:most])
    at_once = max(1, _DECODED_BYTES // math.prod(images.shape[1:]))
    for start in range(0, len(chosen), at_once):
        some = chosen[start : start + at_once]
        yield from _numbered(some, images[some])


def _numbered(
    numbers: NDArray[np.int64], images: NDArray[np.uint8]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
    start = 0
    for chunk in _chunks(images):
        yield numbers[start : start + len(chunk)], chunk
        start += len(chunk)


def _chunks(images: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """Cut images into pieces of about a megabyte, so that widening one to float64 costs little memory."""
    per_chunk = max(1, _CHUNK_BYTES // images[0].size)
    for start in range(0, len(images), per_chunk):
        yield images[start : start + per_chunk]


def _check_names(where: str, classes: tuple[str, ...]) -> None:
    blank = [number for number, name in enumerate(classes) if not name.strip()]
    if blank:
        raise DataMissing(
            f"{where} class {blank[0]} has a blank name, '{quoted(classes[blank[0]])}', {len(blank)} of {len(classes)} "
            "do; give each class a name"
        )
    counts = Counter(unicodedata.normalize("NFC", name).strip() for name in classes)
    repeated = [name for name, count in counts.items() if count > 1]
    if repeated:
        raise DataMissing(
            f"{where} {listed(repeated)} {'names' if len(repeated) == 1 else 'name'} more than one class; give each "
            "class a name of its own, or one label to the images of all classes of that name"
        )


def _check_split(where: str, part: str, split: Split, classes: int) -> None:
    images, labels = split.images, split.labels
    if images.dtype != np.uint8 or images.ndim != 4:
        raise DataMissing(
            f"{where} {part} images are {images.dtype} of shape {images.shape}; give uint8 of shape (N, H, W, C)"
        )
    if labels.dtype != np.int64 or labels.ndim != 1:
        raise DataMissing(f"{where} {part} labels are {labels.dtype} of shape {labels.shape}; give int64 of shape (N,)")
    if len(images) != len(labels):
        raise DataMissing(f"{where} {len(images)} {part} images have {len(labels)} labels; give one label per image")
    if len(images) == 0:
        raise DataMissing(f"{where} there are no {part} images; give at least one")
    if labels.min() < 0 or labels.max() >= classes:
        wrong = int(labels.min()) if labels.min() < 0 else int(labels.max())
        raise DataMissing(
            f"{where} {part} label {wrong} names no class; with {classes} classes give labels 0 to {classes - 1}"
        )


def _enlarged(split: Split, side: int) -> str:
    if split.files:
        return "give larger images or set image_size: --set image_size=32"
    if not side:
        return "give images with pixels"
    times = math.ceil(SMALLEST_SIDE / side)
    return f"give larger images, e.g. images.repeat({times}, axis=1).repeat({times}, axis=2)"


def _size(split: Split) -> str:
    _, height, width, channels = split.images.shape
    return f"{width}x{height} with {channels} channel{'s' if channels > 1 else ''}"
