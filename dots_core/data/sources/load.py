"""Where images can come from, and how a source is told from the others."""

from __future__ import annotations

import os
from pathlib import Path

from dots_core.data.files.layout import has_train_folder
from dots_core.data.files.listing import subfolders
from dots_core.data.files.pixels import SUFFIXES
from dots_core.data.held_out import HeldOut
from dots_core.data.images import ImageData
from dots_core.data.sources.arrays import load_npz
from dots_core.data.sources.cifar import is_cifar, load_cifar
from dots_core.data.sources.digits import load_digits
from dots_core.data.sources.folder import load_folder
from dots_core.data.sources.resize import resized
from dots_core.errors import DataMissing, UsageError, nearest, quoted

_ACCEPTED = (
    "give 'digits', a folder with train/<class>/ and test/<class>/ images or with <class>/ images, "
    "a folder or archive (.tar, .tar.gz, .tar.bz2, .tar.xz, .zip) of CIFAR-10 or CIFAR-100, or an .npz file"
)


def load(
    source: str | os.PathLike[str] | ImageData,
    image_size: int | None = None,
    *,
    test_split: str | None = None,
    test_share: float | None = None,
    test_seed: int = 0,
    decoded_at_most: int | None = None,
) -> ImageData:
    """Load images from whatever ``source`` turns out to be.

    Parameters
    ----------
    source : str, path or ImageData
        ``"digits"`` for the embedded digits (write ``"./digits"`` for a folder of that name); a
        folder with ``train/<class>/`` and ``test/<class>/``, or with ``<class>/``; a folder or an
        archive with CIFAR-10 or CIFAR-100; an ``.npz`` file; or image data, which passes through.
    image_size : int, optional
        Scale the shorter side of every image to this many pixels and keep the central square.
    test_split : str, optional
        Name of the folder, or of the arrays of an ``.npz`` file, that is tested on; by default the
        first of ``test``, ``val`` and ``validation`` that fits.
    test_share : float, optional
        Share of each class's images to hold out for testing, where there are no test images.
    test_seed : int
        Decides which images that are.
    decoded_at_most : int, optional
        Files of a split beyond which a folder's images are decoded only when they are asked for.

    Returns
    -------
    ImageData

    Raises
    ------
    DataMissing
        If there is no such source, its kind is not recognised, or its images are incomplete.
    CorruptFile
        If a file is damaged or not to be trusted.
    UsageError
        If ``image_size`` or the contents of an ``.npz`` file are not acceptable, or there is
        nothing to choose for ``test_split`` or ``test_share``.
    """
    held_out = HeldOut(test_split, test_share, test_seed)
    if isinstance(source, ImageData):
        held_out.check_split(source.name, ["test"])
        held_out.check_unneeded(source.name, "test")
        return resized(source, image_size)
    place = source if isinstance(source, str) else os.fspath(source) if isinstance(source, os.PathLike) else None
    if not isinstance(place, str):
        raise UsageError(f"the place of the images is a text or a path, not {quoted(source)}; {_ACCEPTED}")
    if not place:
        raise DataMissing(f"the place of the images is empty; {_ACCEPTED}")
    if is_address(place):
        raise DataMissing(f"{quoted(place)} is an address, and nothing is downloaded; fetch it first, and {_ACCEPTED}")
    path = Path(os.path.expanduser(source))
    if source != "digits":
        if path.is_dir() and has_train_folder(path):
            return load_folder(path, image_size, held_out=held_out, decoded_at_most=decoded_at_most)
        if path.is_file() and path.suffix.lower() == ".npz":
            return resized(load_npz(path, held_out), image_size)
        if not is_cifar(path):
            if path.is_dir() and subfolders(path):
                return load_folder(path, image_size, held_out=held_out, decoded_at_most=decoded_at_most)
            if path.exists():
                raise DataMissing(f"{path}: {_found(path)}; {_ACCEPTED}")
            raise DataMissing(f"{path}: does not exist{nearest(str(source), ['digits'])}; {_ACCEPTED}")
    # The other sources have one test split each.
    where = str(source)
    held_out.check_split(where, ["test"])
    held_out.check_unneeded(where, "test")
    return resized(load_digits() if source == "digits" else load_cifar(path), image_size)


def is_address(place: str) -> bool:
    """Whether a place is one on another machine, such as ``https://…``, and no path."""
    return "://" in place and not os.path.exists(place)


def _found(path: Path) -> str:
    """What a place that is no data set is instead."""
    if not path.is_dir():
        return "not recognised as images"
    names = os.listdir(path)
    images = sum(os.path.splitext(name)[1].lower() in SUFFIXES for name in names)
    if images:
        return f"{images} images, not in folders of their classes; put them into {path.name}/<class>/"
    return "a folder that holds no folders of images" if names else "an empty folder"
