"""Images sorted into folders by split and class, as ``train/<class>/*`` and ``test/<class>/*``."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from dots_core.data.files import ColourFound, FileImages, Form, decode_files
from dots_core.data.images import ImageData, Split
from dots_core.data.messages import reason
from dots_core.data.pixels import SUFFIXES, check_image_size, is_grey, open_image
from dots_core.errors import DataMissing, UsageError

IN_MEMORY_LIMIT = 2 << 30
"""Bytes of decoded pixels up to which a split is decoded at once; a larger one is decoded on demand."""

_TEST_NAMES = ("test", "val", "validation")
# Below this, decoding is so short that threads lose more waiting for the interpreter lock than they gain.
_PIXELS_WORTH_THREADS = 192 * 192


def load_folder(path: str | os.PathLike[str], image_size: int | None = None, channels: int | None = None) -> ImageData:
    """Load images from ``train/<class>/*`` and ``test/<class>/*`` below a folder.

    ``val`` or ``validation`` stands in for a missing ``test``. Classes and files are taken in
    the order of their names; names that begin with a dot and files without an image suffix
    are passed over.

    A split whose pixels take up to 2 GiB is decoded here. Of a larger one every file is looked up
    here and decoded, by a few threads, each time it is part of a batch; the batches are the same.
    It differs in three ways. What is wrong with the content of a file is reported when the file
    is decoded. The mean and the standard deviation are those of a sample. The fingerprint is
    over places and sizes of the files; see :class:`ImageData`.

    Parameters
    ----------
    path : path of the folder
    image_size : int, optional
        Scale the shorter side of each image to this many pixels and keep the central square.
        Without it, all images must have one size.
    channels : {1, 3}, optional
        Without it, 1 if every file is grey and 3 otherwise. To find this out, files are opened
        up to the first one in colour.

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
        If an argument is out of range, or an image would be scaled to more than 64 million pixels.

    Notes
    -----
    What lies outside the central square is not kept. Random crops, those of
    ``Augmentation.resized_crop`` included, are cut from the scaled square, not from the whole
    picture, and so see less of a picture's margins and enlarge small parts more than crops from
    the file would. A larger ``image_size`` does not help, as it is the size networks see too.
    """
    check_image_size(image_size)
    if channels not in (None, 1, 3):
        raise UsageError(f"channels is {channels!r}, but must be 1 (grey) or 3 (RGB); leave it out to decide by file")
    root = Path(path)
    folders = train_folder, test_folder = root / "train", _test_folder(root)
    train, test = _files_by_class(train_folder), _files_by_class(test_folder)
    _check_same_classes(train_folder, sorted(train), test_folder, sorted(test))
    classes = tuple(sorted(train))
    parts = [[(file, label) for label, name in enumerate(classes) for file in part[name]] for part in (train, test)]
    origin = str(root)
    if channels is None:
        try:
            splits = _read(folders, parts, 1, image_size, origin, grey_only=True)
        except ColourFound:
            splits = _read(folders, parts, 3, image_size, origin)
    else:
        splits = _read(folders, parts, channels, image_size, origin)
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
    folders: tuple[Path, Path],
    parts: list[list[tuple[str, int]]],
    channels: int,
    image_size: int | None,
    origin: str,
    grey_only: bool = False,
) -> list[Split]:
    first_path = parts[0][0][0]
    first = open_image(first_path)
    if grey_only and not is_grey(first):
        raise ColourFound
    width, height = (image_size, image_size) if image_size is not None else first.size
    threads = first.width * first.height >= _PIXELS_WORTH_THREADS
    form = Form(height, width, channels, image_size, first_path, origin, threads, grey_only)
    splits = []
    for folder, part in zip(folders, parts, strict=True):
        paths = [path for path, _ in part]
        large = form.total(len(paths)) > IN_MEMORY_LIMIT
        images = FileImages(str(folder), paths, form) if large else decode_files(paths, form)
        splits.append(Split(images, np.array([label for _, label in part], np.int64)))
    return splits
