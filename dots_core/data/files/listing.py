"""Finding the image files in folders, and accounting for everything else that lies there."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from dots_core.data.account import Tally
from dots_core.data.files.pixels import SNIFFED, SUFFIXES, looks_like_image
from dots_core.data.messages import reason
from dots_core.errors import DataMissing, quoted

DROPPINGS = frozenset(
    (
        *("@eadir", "#recycle", "__macosx", "$recycle.bin", "system volume information", "lost+found"),
        *("thumbs.db", "ehthumbs.db", "desktop.ini"),
    )
)
"""Names, in small letters, under which systems leave things in any folder; those with a dot in front are hidden."""


def subfolders(folder: Path) -> list[str]:
    """Return the names of the folders in a folder that could be classes or splits, in order.

    Raises
    ------
    DataMissing
        If the folder cannot be listed.
    """
    return sorted(entry.name for entry in _entries(os.fspath(folder)) if not _foreign(entry.name) and entry.is_dir())


def class_folders(folder: Path) -> dict[str, str]:
    """Return the paths of the class folders in a folder by the names of the classes, in order.

    Names are compared in Unicode's composed form (NFC), as systems differ in the form they keep.

    Raises
    ------
    DataMissing
        If the folder cannot be listed, or two of its folders have one name in different forms.
    """
    found: dict[str, str] = {}
    for name in subfolders(folder):
        composed = unicodedata.normalize("NFC", name)
        if composed in found:
            raise DataMissing(
                f"{folder}: holds two folders '{quoted(composed)}', written in different Unicode forms; "
                "put their images into one of them and delete the other"
            )
        found[composed] = os.path.join(folder, name)
    return dict(sorted(found.items()))


def count_beside(root: Path, tally: Tally) -> None:
    """Add the images that lie in the folder of the data itself, beside its splits, to what is passed over."""
    for entry in _entries(os.fspath(root)):
        if not _foreign(entry.name) and os.path.splitext(entry.name)[1].lower() in SUFFIXES and not entry.is_dir():
            tally.pass_over("beside the folders of the splits", _place(entry.path, root))


def list_classes(folder: Path, root: Path, tally: Tally) -> dict[str, list[str]]:
    """Find the image files of each class folder.

    Parameters
    ----------
    folder : Path
        It holds a folder for each class.
    root : Path
        The folder of the data, at or above ``folder``.
    tally : Tally
        What is passed over is added to it.

    Returns
    -------
    dict from class name to paths in order
        A class whose folder has no images has an empty list.

    Raises
    ------
    DataMissing
        If a folder cannot be listed.
    """
    for entry in _entries(os.fspath(folder)):
        if why := _foreign(entry.name):
            tally.pass_over(why, _place(entry.path, root))
        elif not entry.is_dir():
            tally.pass_over("not in a class folder", _place(entry.path, root))
    return {name: list_images(path, root, tally) for name, path in class_folders(folder).items()}


def _identity(folder: str | Path) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def list_images(folder: str, root: Path, tally: Tally) -> list[str]:
    """Find the image files in a folder and the folders in it, in the order of their paths.

    A file is an image by its suffix, or without one by the first bytes of its content.
    """
    found: list[str] = []
    # Folders yet to be looked into, each with those above it: a link may lead back to one, and so to other classes.
    beyond = {*Path(folder).absolute().parents, *Path(folder).resolve().parents}
    waiting = [(folder, tuple(map(_identity, beyond)))]
    while waiting:
        current, above = waiting.pop()
        here = _identity(current)
        if here in above:
            tally.pass_over("a link to a folder above it", _place(current, root))
            continue
        path = (*above, here)
        for entry in _entries(current):
            suffix = os.path.splitext(entry.name)[1].lower()
            if why := _foreign(entry.name):
                tally.pass_over(why, _place(entry.path, root))
            # A link to nowhere is kept, to be reported as unreadable instead of dropped.
            elif suffix in SUFFIXES and (entry.is_file() or entry.is_symlink()):
                found.append(entry.path)
            elif entry.is_dir():
                waiting.append((entry.path, path))
            elif why := _no_image(entry, suffix):
                tally.pass_over(why, _place(entry.path, root))
            else:
                found.append(entry.path)
    return sorted(found)


def _no_image(entry: os.DirEntry[str], suffix: str) -> str:
    """Say why a file without an image suffix is none; empty if it is one."""
    if suffix:
        return "with an unknown suffix"
    if not entry.is_file():
        return "no regular file"
    try:
        with open(entry.path, "rb") as file:
            return "" if looks_like_image(file.read(SNIFFED)) else "without a suffix and no image"
    except OSError:
        return "unreadable"


def _foreign(name: str) -> str:
    """Say why a name is passed over whatever bears it; empty if it is not."""
    if name.startswith("."):
        return "hidden"
    return "left by the system" if name.lower() in DROPPINGS else ""


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except OSError as error:
        raise DataMissing(
            f"{error.filename or folder}: cannot be listed ({reason(error)}); give a folder with train/<class>/ images"
        ) from error


def _place(path: str, root: Path) -> str:
    return path[len(os.fspath(root)) + 1 :]
