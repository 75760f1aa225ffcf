"""Images a user already has as arrays, in memory or in an ``.npz`` file."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dots_core.data.images import ImageData, Split
from dots_core.data.messages import reason
from dots_core.data.pixels import BYTE_LIMIT
from dots_core.errors import CorruptFile, DataMissing, UsageError

NPZ_KEYS = ("train_images", "train_labels", "test_images", "test_labels")


def from_arrays(
    train_images: ArrayLike,
    train_labels: ArrayLike,
    test_images: ArrayLike,
    test_labels: ArrayLike,
    classes: Sequence[str] | None = None,
    name: str = "arrays",
) -> ImageData:
    """Make image data of arrays.

    The image arrays are not copied where that can be avoided, so leave them unchanged.

    Parameters
    ----------
    train_images, test_images : uint8 array, shape (N, H, W, C) or (N, H, W)
        C is 1 or 3; without C the images are grey.
    train_labels, test_labels : integer array, shape (N,)
        Class numbers from 0.
    classes : sequence of str, optional
        Class names; without them, the numbers 0 … largest label.
    name : str
        Short name for reports.

    Returns
    -------
    ImageData

    Raises
    ------
    UsageError
        If an array has another dtype or shape, or a label is negative or has no class name.
    DataMissing
        If the arrays are right one by one but empty, too small or do not fit together.
    """
    return _build(train_images, train_labels, test_images, test_labels, classes, name, "")


def load_npz(path: str | os.PathLike[str]) -> ImageData:
    """Load an ``.npz`` file with ``train_images``, ``train_labels``, ``test_images`` and ``test_labels``.

    The arrays are those of :func:`from_arrays`; an optional array of text ``classes`` names
    the classes.

    Parameters
    ----------
    path : path of the file

    Returns
    -------
    ImageData

    Raises
    ------
    DataMissing
        If the file cannot be read or an array is missing.
    CorruptFile
        If the file is damaged, is no ``.npz`` file, holds pickled objects or exceeds 16 GiB.
    UsageError
        As :func:`from_arrays`.
    """
    where = os.fspath(path)
    stored = _read_npz(where)
    missing = [key for key in NPZ_KEYS if key not in stored]
    if missing:
        raise DataMissing(
            f"{where}: no array {', '.join(missing)}; save the file with the arrays {', '.join(NPZ_KEYS)}"
        )
    classes = stored.get("classes")
    names = None if classes is None else [str(name) for name in classes.ravel()]
    train_images, train_labels, test_images, test_labels = (stored[key] for key in NPZ_KEYS)
    return _build(train_images, train_labels, test_images, test_labels, names, Path(where).stem, where)


def _read_npz(where: str) -> dict[str, NDArray[Any]]:
    try:
        with zipfile.ZipFile(where) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > BYTE_LIMIT:
            raise CorruptFile(
                f"{where}: {size / 2**30:.1f} GiB of arrays, over the limit of 16 GiB; store fewer images"
            )
        with np.load(where, allow_pickle=False) as stored:
            return {key: stored[key] for key in (*NPZ_KEYS, "classes") if key in stored.files}
    except CorruptFile:
        raise
    except OSError as error:
        raise DataMissing(f"{where}: cannot be read ({reason(error)}); check the file and its permissions") from error
    # Damage shows as whatever exception unpacking or parsing stumbles into; a pickle as ValueError.
    except Exception as error:
        raise CorruptFile(
            f"{where}: damaged, no .npz file, or with pickled objects ({reason(error)}); "
            "save plain arrays with numpy.savez"
        ) from error


def _build(
    train_images: ArrayLike,
    train_labels: ArrayLike,
    test_images: ArrayLike,
    test_labels: ArrayLike,
    classes: Sequence[str] | None,
    name: str,
    origin: str,
) -> ImageData:
    where = f"{origin or name}:"
    train = Split(_images(train_images, f"{where} train_images"), _labels(train_labels, f"{where} train_labels"))
    test = Split(_images(test_images, f"{where} test_images"), _labels(test_labels, f"{where} test_labels"))
    largest = max((int(split.labels.max()) for split in (train, test) if len(split)), default=0)
    names = tuple(map(str, range(largest + 1) if classes is None else classes))
    if largest >= len(names):
        raise UsageError(f"{where} label {largest} has no name among {len(names)} classes; give a name per class")
    return ImageData(name, names, train, test, origin=origin)


def _images(given: ArrayLike, what: str) -> NDArray[np.uint8]:
    images = np.asarray(given)
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] not in (1, 3)):
        raise UsageError(
            f"{what} is {images.dtype} of shape {images.shape}; give uint8 values 0 to 255 of shape "
            "(N, H, W, 3) for colour, or (N, H, W, 1) or (N, H, W) for grey images"
        )
    return np.ascontiguousarray(images if images.ndim == 4 else images[..., None])


def _labels(given: ArrayLike, what: str) -> NDArray[np.int64]:
    labels = np.asarray(given)
    if not np.issubdtype(labels.dtype, np.integer) or labels.ndim != 1:
        raise UsageError(f"{what} is {labels.dtype} of shape {labels.shape}; give whole numbers of shape (N,)")
    if len(labels) and (labels.min() < 0 or labels.max() >= 1 << 31):
        raise UsageError(f"{what} has a label outside 0 to {2**31 - 1}; give class numbers counted from 0")
    return labels.astype(np.int64)
