"""Where images can come from, and how a source is told from the others."""

from __future__ import annotations

import os
from pathlib import Path

from dots_core.data.arrays import load_npz
from dots_core.data.cifar import is_cifar, load_cifar
from dots_core.data.digits import load_digits
from dots_core.data.folder import load_folder
from dots_core.data.images import ImageData
from dots_core.data.resize import resized
from dots_core.errors import DataMissing, nearest

_ACCEPTED = (
    "give 'digits', a folder with train/<class>/ and test/<class>/ images, "
    "a folder or .tar.gz archive of CIFAR-10 or CIFAR-100, or an .npz file"
)


def load(source: str | os.PathLike[str] | ImageData, image_size: int | None = None) -> ImageData:
    """Load images from whatever ``source`` turns out to be.

    Parameters
    ----------
    source : str, path or ImageData
        ``"digits"`` for the embedded digits (write ``"./digits"`` for a folder of that name); a
        folder with ``train/<class>/`` and ``test/<class>/``; a folder or ``.tar.gz`` archive
        with CIFAR-10 or CIFAR-100; an ``.npz`` file; or image data, which passes through.
    image_size : int, optional
        Scale the shorter side of every image to this many pixels and keep the central square.

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
        If ``image_size`` or the contents of an ``.npz`` file are not acceptable.
    """
    if isinstance(source, ImageData):
        return resized(source, image_size)
    if source == "digits":
        return resized(load_digits(), image_size)
    path = Path(source).expanduser()
    if (path / "train").is_dir():
        return load_folder(path, image_size)
    if is_cifar(path):
        return resized(load_cifar(path), image_size)
    if path.is_file() and path.suffix.lower() == ".npz":
        return resized(load_npz(path), image_size)
    if path.exists():
        raise DataMissing(f"{path}: not recognised as images; {_ACCEPTED}")
    raise DataMissing(f"{path}: does not exist{nearest(str(source), ['digits'])}; {_ACCEPTED}")
