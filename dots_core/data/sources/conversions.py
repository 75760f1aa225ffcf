"""Bringing image and label arrays of other conventions to ours, where it is clear which one they follow."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dots_core.data.account import note
from dots_core.data.sources.given import UNIQUE, array_of, check_finite, check_finite_labels
from dots_core.data.sources.scaling import scaled
from dots_core.errors import UsageError, quoted

LABEL_LIMIT = 1 << 16
"""Class numbers up to this are taken as they come; no data set of images has so many classes."""

_ACCEPTED = "(N, H, W, 3) for colour, or (N, H, W, 1) or (N, H, W) for grey images"


def converted_images(
    given: tuple[ArrayLike, ...], names: tuple[str, ...], where: str, notes: list[str]
) -> list[NDArray[np.uint8]]:
    """Return the image arrays of all splits as uint8 arrays, shape (N, H, W, C), converted alike.

    Taken as they are: uint8 values. Converted, and noted: channels before height and width;
    floating-point and truth values from 0 to 1, which are scaled; whole numbers 0 to 255 of
    another type.

    Raises
    ------
    UsageError
        If that does not suffice; the message names what would do, as NumPy code.
    """
    arrays = [array_of(array, name, where) for array, name in zip(given, names, strict=True)]
    check_finite(arrays, names, where)
    shaped = [_channels_last(array, name, where, notes) for array, name in zip(arrays, names, strict=True)]
    return scaled(shaped, names, where, notes)


def _channels_last(images: NDArray[Any], name: str, where: str, notes: list[str]) -> NDArray[Any]:
    if images.ndim == 3 and images.shape[2] not in (1, 3):
        return images[..., None]
    if images.ndim == 4 and images.shape[3] in (1, 3):
        return images
    if images.ndim == 4 and images.shape[1] in (1, 3):
        note(notes, "channels moved behind height and width")
        return images.transpose(0, 2, 3, 1)
    found = f"{where} {name} is {images.dtype} of shape {quoted(images.shape)}; give {_ACCEPTED}"
    code = _shaping(images.shape)
    raise UsageError(f"{found}, here perhaps {name} = {code.format(name)}" if code else found)


def _shaping(shape: tuple[int, ...]) -> str:
    """Return code that brings images of another shape to ours, ``{0}`` standing for them; empty if none is known."""
    if len(shape) == 3:
        return "{0}[None]"  # one image in colour
    if len(shape) == 4:
        for axis, cut in ((3, "..., "), (1, ":, ")):  # grey or colour with transparency
            if shape[axis] in (2, 4):
                return f"{{0}}[{cut}:{shape[axis] - 1}]"
    if len(shape) == 2:
        for channels, sides in ((3, "3, {1}, {1}"), (1, "{1}, {1}")):
            side = math.isqrt(shape[1] // channels)
            if side > 1 and shape[1] == channels * side * side:
                return "{0}.reshape(-1, " + sides.replace("{1}", str(side)) + ")"
    if len(shape) > 4 and len([size for size in shape if size > 1]) in (3, 4):
        return "numpy.squeeze({0})"
    return ""


def converted_labels(
    given: tuple[ArrayLike, ...], names: tuple[str, ...], classes: tuple[str, ...] | None, where: str, notes: list[str]
) -> tuple[list[NDArray[np.int64]], tuple[str, ...]]:
    """Return the labels of all splits as positions in class names, and these names.

    Taken as they are: whole numbers from 0 without gaps. Converted, and noted: shape (N, 1);
    one-hot rows; whole numbers of a floating-point type; numbers from 1 with a class name for
    each; numbers with gaps and without names, which become the names.

    Raises
    ------
    UsageError
        If that does not suffice; the message names what would do, as NumPy code.
    """
    found = [
        _flat(array_of(array, name, where), name, f"{where} {name}", notes)
        for array, name in zip(given, names, strict=True)
    ]
    widths = {width for _, width in found}
    if len(widths) > 1:
        raise UsageError(
            f"{where} {' and '.join(names)} do not have the same columns; give whole numbers of shape (N,), "
            "of one-hot rows labels.argmax(axis=1)"
        )
    labels = [array for array, _ in found]
    width = widths.pop()
    filled = [array for array in labels if len(array)]
    lowest = min((int(array.min()) for array in filled), default=0)
    highest = max((int(array.max()) for array in filled), default=0)
    if lowest < 0 or highest >= LABEL_LIMIT:
        unlabelled = "; if -1 says that an image has no label, leave these out: keep = labels >= 0, images[keep], "
        raise UsageError(
            f"{where} {' and '.join(names)} have labels {lowest} to {highest}, outside 0 to {LABEL_LIMIT - 1}; give "
            f"class numbers from 0, here perhaps by: {UNIQUE}{f'{unlabelled}labels[keep]' if lowest == -1 else ''}"
        )
    if classes is not None:
        if lowest == 1 and highest == len(classes):
            note(notes, f"labels 1 to {highest} counted from 0")
            return [array - 1 for array in labels], classes
        if highest >= len(classes) or (width or 0) > len(classes):
            raise UsageError(
                f"{where} label {max(highest, (width or 0) - 1)} has no name among {len(classes)} classes; give a name "
                f"per class, or number the classes from 0 without gaps: {UNIQUE}"
            )
        return labels, classes
    if width:
        return labels, tuple(map(str, range(width)))
    present = np.unique(np.concatenate(labels)) if filled else np.zeros(1, np.int64)
    if len(present) <= highest:
        note(notes, f"labels {lowest} to {highest} with gaps: {len(present)} classes, named by their numbers")
        labels = [np.searchsorted(present, array).astype(np.int64) for array in labels]
    return labels, tuple(map(str, present.tolist()))


def _flat(labels: NDArray[Any], name: str, what: str, notes: list[str]) -> tuple[NDArray[np.int64], int | None]:
    """Bring labels to whole numbers of shape (N,); of one-hot rows tell also how many classes they have."""
    width = None
    found = f"{what} is {labels.dtype} of shape {quoted(labels.shape)}; give whole numbers of shape (N,)"
    if labels.dtype.kind in "US":
        raise UsageError(f"{found}, here by: {UNIQUE}")
    flat = labels.ndim > 0 and labels.size == max(labels.shape) and labels.ndim != 1
    if labels.dtype.kind not in "biuf" or labels.ndim not in (1, 2):
        raise UsageError(f"{found}: {name} = numpy.ravel({name})" if flat else found)
    check_finite_labels(labels, name, what)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    elif labels.ndim == 2:
        width = labels.shape[1]
        marks = ((labels == 0) | (labels == 1)).all()
        counts = labels.sum(axis=1)
        if flat and not (marks and (counts == 1).all()):
            raise UsageError(f"{found}: {name} = numpy.ravel({name})")
        if not marks:
            raise UsageError(f"{found}, one class per image: of scores, labels.argmax(axis=1)")
        if not (counts == 1).all():
            raise UsageError(
                f"{found}, one class per image, where rows mark {int(counts.min())} to {int(counts.max())}; leave the "
                "others out: keep = labels.sum(axis=1) == 1, images[keep], labels[keep]"
            )
        note(notes, "one-hot labels turned into class numbers")
        labels = labels.argmax(axis=1)
    if labels.dtype.kind == "b":
        note(notes, "labels of bool taken as 0 (False) and 1 (True)")
    elif labels.dtype.kind == "f":
        if not ((np.abs(labels) < 1 << 31) & (labels == np.rint(labels))).all():
            raise UsageError(f"{found}, e.g. labels.astype(int), which cuts fractions off")
        note(notes, f"labels of {labels.dtype} taken as whole numbers")
    elif len(labels) and labels.dtype.kind == "u" and int(labels.max()) >= 1 << 63:
        raise UsageError(f"{found} below {LABEL_LIMIT}")
    return labels.astype(np.int64), width
