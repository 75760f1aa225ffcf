"""Images sorted into folders by split and class, as ``train/<class>/*`` and ``test/<class>/*``."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from dots_core.data.images import ImageData, Split
from dots_core.data.messages import reason
from dots_core.data.pixels import SUFFIXES, check_image_size, check_total, decode, is_grey, open_image
from dots_core.errors import DataMissing, UsageError

_TEST_NAMES = ("test", "val", "validation")
_FILES_PER_TASK = 64
# Below this, decoding is so short that threads lose more waiting for the interpreter lock than they gain.
_PIXELS_WORTH_THREADS = 192 * 192


class _ColourFound(Exception):
    """A colour image turned up while all images so far were grey."""


def load_folder(path: str | os.PathLike[str], image_size: int | None = None, channels: int | None = None) -> ImageData:
    """Load images from ``train/<class>/*`` and ``test/<class>/*`` below a folder.

    ``val`` or ``validation`` stands in for a missing ``test``. Classes and files are taken in
    the order of their names; names that begin with a dot and files without an image suffix
    are passed over.

    Parameters
    ----------
    path : path of the folder
    image_size : int, optional
        Scale the shorter side of each image to this many pixels and keep the central square.
        Without it, all images must have one size.
    channels : {1, 3}, optional
        Without it, 1 if every file is grey and 3 otherwise.

    Returns
    -------
    ImageData

    Raises
    ------
    DataMissing
        If a folder is missing or has no images, train and test have different classes, or
        sizes differ and ``image_size`` is not given.
    CorruptFile
        If an image is damaged or has more than 64 million pixels.
    UsageError
        If an argument is out of range, or all pixels together exceed 16 GiB.
    """
    check_image_size(image_size)
    if channels not in (None, 1, 3):
        raise UsageError(f"channels is {channels!r}, but must be 1 (grey) or 3 (RGB); leave it out to decide by file")
    root = Path(path)
    train_folder, test_folder = root / "train", _test_folder(root)
    train, test = _files_by_class(train_folder), _files_by_class(test_folder)
    _check_same_classes(train_folder, sorted(train), test_folder, sorted(test))
    classes = tuple(sorted(train))
    parts = [[(file, label) for label, name in enumerate(classes) for file in part[name]] for part in (train, test)]
    origin = str(root)
    if channels is None:
        try:
            splits = _read(parts, 1, image_size, origin, grey_only=True)
        except _ColourFound:
            splits = _read(parts, 3, image_size, origin)
    else:
        splits = _read(parts, channels, image_size, origin)
    train_split, test_split = splits
    return ImageData(root.resolve().name, classes, train_split, test_split, origin)


def _test_folder(root: Path) -> Path:
    for name in _TEST_NAMES:
        if (root / name).is_dir():
            return root / name
    raise DataMissing(f"{root}: no folder 'test' (nor 'val' nor 'validation') beside 'train'; add test/<class>/ images")


def _files_by_class(folder: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
        for name in names:
            with os.scandir(folder / name) as entries:
                found[name] = sorted(
                    entry.path
                    for entry in entries
                    if os.path.splitext(entry.name)[1].lower() in SUFFIXES
                    and not entry.name.startswith(".")
                    # A link to nowhere is kept, to be reported as unreadable instead of dropped in silence.
                    and (entry.is_file() or entry.is_symlink())
                )
    except OSError as error:
        raise DataMissing(
            f"{error.filename or folder}: cannot be listed ({reason(error)}); give a folder with train/<class>/ images"
        ) from error
    if not found:
        raise DataMissing(f"{folder}: no class folders; put the images in {folder.name}/<class>/")
    for name, files in found.items():
        if not files:
            raise DataMissing(
                f"{folder / name}: no images; add files ending in {', '.join(sorted(SUFFIXES))} or delete the folder"
            )
    return found


def _check_same_classes(train_folder: Path, train: list[str], test_folder: Path, test: list[str]) -> None:
    lacks = []
    for folder, names, others in ((test_folder, test, train), (train_folder, train, test)):
        missing = [name for name in others if name not in set(names)]
        if missing:
            shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
            lacks.append(f"{folder} has no folder for class {shown}")
    if lacks:
        raise DataMissing(f"{'; '.join(lacks)}; train and test must have the same classes")


def _read(
    parts: list[list[tuple[str, int]]], channels: int, image_size: int | None, origin: str, grey_only: bool = False
) -> list[Split]:
    first_path = parts[0][0][0]
    first = open_image(first_path)
    if grey_only and not is_grey(first):
        raise _ColourFound
    width, height = (image_size, image_size) if image_size is not None else first.size
    check_total(sum(map(len, parts)), height, width, channels, origin)
    splits = [
        Split(
            np.empty((len(part), height, width, channels), np.uint8), np.array([label for _, label in part], np.int64)
        )
        for part in parts
    ]

    def read_some(split: Split, part: list[tuple[str, int]], start: int) -> None:
        for row in range(start, min(start + _FILES_PER_TASK, len(part))):
            path = part[row][0]
            image = open_image(path)
            if grey_only and not is_grey(image):
                raise _ColourFound
            if image_size is None and image.size != (width, height):
                raise DataMissing(
                    f"{path} is {image.width}x{image.height} but {first_path} is {width}x{height}; "
                    "bring all images to one size with --set image_size=32"
                )
            split.images[row] = decode(image, path, channels, image_size)

    tasks = [
        (split, part, start)
        for split, part in zip(splits, parts, strict=True)
        for start in range(0, len(part), _FILES_PER_TASK)
    ]
    _run_all(read_some, tasks, threads=first.width * first.height >= _PIXELS_WORTH_THREADS)
    return splits


def _run_all(
    work: Callable[[Split, list[tuple[str, int]], int], None],
    tasks: list[tuple[Split, list[tuple[str, int]], int]],
    threads: bool,
) -> None:
    """Run the tasks; if some fail, raise the failure of the first in order, whatever ran first."""
    if not threads:
        for task in tasks:
            work(*task)
        return
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        futures = [pool.submit(work, *task) for task in tasks]
        try:
            for future in futures:
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
