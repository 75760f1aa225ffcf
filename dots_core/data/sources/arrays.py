"""Images a user already has as arrays, in memory or in an ``.npz`` file."""

from __future__ import annotations

import contextlib
import os
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dots_core.data.account import Tally, listed
from dots_core.data.files.layout import TEST_NAMES
from dots_core.data.files.pixels import BYTE_LIMIT
from dots_core.data.held_out import SHARE_REMEDY, HeldOut
from dots_core.data.images import ImageData, Split
from dots_core.data.messages import reason
from dots_core.data.sources.conversions import converted_images, converted_labels
from dots_core.errors import CorruptFile, DataMissing, DotsError, UsageError, quoted
from dots_core.storage.reading import check_regular

# Our own names and MedMNIST's, then those of Keras.
_PAIRS = (("{}_images", "{}_labels"), ("x_{}", "y_{}"))
_CLASSES = ("classes", "class_names")
_ACCEPTED = "train_images, train_labels, test_images, test_labels, or x_train, y_train, x_test, y_test"


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
        C is 1 or 3; without C the images are grey. What else is converted stands in
        :func:`dots_core.data.sources.conversions.converted_images`.
    train_labels, test_labels : integer array, shape (N,)
        Class numbers from 0. What else is converted stands in
        :func:`dots_core.data.sources.conversions.converted_labels`.
    classes : sequence of str, optional
        Class names; without them, the numbers that occur.
    name : str
        Short name for reports.

    Returns
    -------
    ImageData

    Raises
    ------
    UsageError
        If an array has another dtype or shape and it is not clear what is meant, or a label is
        negative, above 65535 or has no class name.
    DataMissing
        If the arrays are right one by one but empty, too small or do not fit together.
    """
    if not isinstance(name, str):
        raise UsageError(f"name is a text, not {quoted(name)}")
    given = {"train": (train_images, train_labels), "test": (test_images, test_labels)}
    keys = {part: (f"{part}_images", f"{part}_labels") for part in given}
    return _build(given, keys, classes, name, "", Tally(), HeldOut())


def load_npz(path: str | os.PathLike[str], held_out: HeldOut = HeldOut()) -> ImageData:  # noqa: B008 (immutable)
    """Load an ``.npz`` file with ``train_images``, ``train_labels``, ``test_images`` and ``test_labels``.

    The arrays are those of :func:`from_arrays`; an optional array of text ``classes`` or
    ``class_names`` names the classes. ``x_train``, ``y_train``, ``x_test`` and ``y_test`` are other names for them, and
    ``val`` or ``validation`` stands in for a missing ``test``.

    Parameters
    ----------
    path : path of the file
    held_out : HeldOut
        What is said about the test images.

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
    with _reading(where), np.load(where, allow_pickle=False) as stored:
        keys = _keys(stored.files, where)
        others = [part for part in keys if part != "train"]
        held_out.check_split(where, others)
        test = next((part for part in others if held_out.split in (None, part)), None)
        if test is not None:
            held_out.check_unneeded(where, keys[test][0])
        elif held_out.share is None:
            raise DataMissing(
                f"{where}: no arrays test_images and test_labels; save the file with {_ACCEPTED}, or {SHARE_REMEDY}"
            )
        chosen = {"train": keys["train"]} | ({} if test is None else {"test": keys[test]})
        given = {
            part: (_held(stored, images, where), _held(stored, labels, where))
            for part, (images, labels) in chosen.items()
        }
        named = next((name for name in stored.files if name.lower() in _CLASSES), None)
        classes = None if named is None else _held(stored, named, where).ravel().tolist()
        unused = [name for name in stored.files if name not in (named, *chain.from_iterable(chosen.values()))]
    tally = Tally()
    if test not in (None, "test"):
        tally.notes.append(f"test images are {keys[test][0]}")
    if unused:
        tally.notes.append(f"{listed(unused)} not used")
    return _build(given, chosen, classes, Path(where).stem, where, tally, held_out)


def _keys(there: list[str], where: str) -> dict[str, tuple[str, str]]:
    """Find the names of each split's images and labels; whatever their case, they may be ours or those of Keras."""
    stored = {name.lower(): name for name in there}
    found: dict[str, tuple[str, str]] = {}
    for part in ("train", *TEST_NAMES):
        for pair in _PAIRS:
            names = [name.format(part) for name in pair]
            missing = [name for name in names if name not in stored]
            if len(missing) == 1 and part not in found:
                raise DataMissing(f"{where}: no array {missing[0]}; save the file with {_ACCEPTED}")
            if not missing:
                found.setdefault(part, (stored[names[0]], stored[names[1]]))
    if "train" not in found:
        held = f"the file holds {quoted(listed(there))}" if there else "the file is empty"
        raise DataMissing(f"{where}: no arrays train_images and train_labels ({held}); save the file with {_ACCEPTED}")
    return found


def _held(stored: Mapping[str, NDArray[Any]], name: str, where: str) -> NDArray[Any]:
    """Return an array of a file that holds no Python objects, which only a pickle could."""
    try:
        return stored[name]
    except ValueError as error:
        if "Object arrays" not in str(error):
            raise
        form = "numpy.stack({0})" if "images" in name or name.lower().startswith("x_") else "{0}.astype(int)"
        form = "{0}.astype(str)" if name.lower() in _CLASSES else form
        raise CorruptFile(
            f"{where}: {name} was saved as pickled objects, which are not read; save numbers or text, here perhaps "
            f"{form.format(name)}"
        ) from None


@contextlib.contextmanager
def _reading(where: str) -> Iterator[None]:
    """Check the size of a file, and turn what reading it stumbles into into our errors."""
    try:
        check_regular(where)
        with zipfile.ZipFile(where) as archive:
            size = sum(member.file_size for member in archive.infolist())
            # Names that differ in their case are not told apart either.
            stored = Counter(name.removesuffix(".npy").lower() for name in archive.namelist())
        if size > BYTE_LIMIT:
            raise CorruptFile(
                f"{where}: {size / 2**30:.1f} GiB of arrays, over the limit of 16 GiB; store fewer images"
            )
        if repeated := [name for name, count in stored.items() if count > 1]:
            raise CorruptFile(
                f"{where}: holds more than one array {listed(repeated)}, and which is meant is not clear; save each "
                "under a name of its own with numpy.savez"
            )
        yield
    except DotsError:
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
    given: Mapping[str, tuple[ArrayLike, ArrayLike]],
    keys: Mapping[str, tuple[str, str]],
    classes: Sequence[str] | None,
    name: str,
    origin: str,
    tally: Tally,
    held_out: HeldOut,
) -> ImageData:
    where = f"{origin or name}:"
    image_names, label_names = zip(*keys.values(), strict=True)
    images = converted_images(tuple(pair[0] for pair in given.values()), image_names, where, tally.notes)
    named = None if classes is None else _names(classes, where)
    labels, names = converted_labels(tuple(pair[1] for pair in given.values()), label_names, named, where, tally.notes)
    splits = [Split(*pair) for pair in zip(images, labels, strict=True)]
    if len(splits) == 1 and len(images[0]) == len(labels[0]):
        mask = held_out.mask(labels[0], origin)
        splits = [Split(images[0][which], labels[0][which]) for which in (~mask, mask)]
        tally.notes.append(held_out.told(image_names[0]))
    return ImageData(name, names, splits[0], splits[-1], origin, tally.closed())


def _names(classes: object, where: str) -> tuple[str, ...]:
    """Return class names as text; that none is blank or repeated is checked with the images."""
    if isinstance(classes, Mapping):
        raise UsageError(
            f"{where} classes is a mapping, {quoted(classes)}; give the names in the order of the labels: "
            "[classes[number] for number in sorted(classes)]"
        )
    if isinstance(classes, Set):
        raise UsageError(f"{where} classes is a set, which has no order; give a list, in the order of the labels")
    if not isinstance(classes, Iterable):
        raise UsageError(f"{where} classes is {quoted(classes)}; give a sequence of names")
    names = ["" if name is None else name for name in classes]
    return tuple(name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name) for name in names)
