"""Images sorted into folders by split and class, as ``train/<class>/*`` and ``test/<class>/*``."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from dots_core.data.doubts import Remarks
from dots_core.data.files.decoding import ColourFound, FileImages, Form, Unreadable, decode_files
from dots_core.data.files.layout import Layout, Part, find_layout
from dots_core.data.files.pixels import check_image_size, decode, is_grey, open_image
from dots_core.data.held_out import HeldOut
from dots_core.data.images import ImageData, Split
from dots_core.errors import CorruptFile, DataMissing, UsageError

IN_MEMORY_LIMIT = 2 << 30
"""Bytes of decoded pixels up to which a split is decoded at once; a larger one is decoded on demand."""

# Below this, decoding is so short that threads lose more waiting for the interpreter lock than they gain.
_PIXELS_WORTH_THREADS = 192 * 192


def load_folder(
    path: str | os.PathLike[str],
    image_size: int | None = None,
    channels: int | None = None,
    held_out: HeldOut = HeldOut(),  # noqa: B008 (immutable)
    decoded_at_most: int | None = None,
) -> ImageData:
    """Load images from ``train/<class>/*`` and ``test/<class>/*``, or from ``<class>/*``, below a folder.

    Where the test images come from stands in :func:`dots_core.data.files.layout.find_layout`. Classes
    and files are taken in the order of their names, files in folders below a class's too. What
    is passed over stands in the account of the result.

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
    held_out : HeldOut
        What is said about the test images.
    decoded_at_most : int, optional
        Images of a split beyond which it is decoded on demand, whatever its size.

    Returns
    -------
    ImageData

    Raises
    ------
    DataMissing
        If there are no train or no test images or only one class, or sizes differ and
        ``image_size`` is not given.
    CorruptFile
        If an image is damaged or has more than 64 million pixels; of several all are counted.
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
    layout = find_layout(root, held_out)
    if channels is None:
        try:
            train, test = _read(layout, 1, image_size, str(root), decoded_at_most, grey_only=True)
        except ColourFound:
            train, test = _read(layout, 3, image_size, str(root), decoded_at_most)
    else:
        train, test = _read(layout, channels, image_size, str(root), decoded_at_most)
    return ImageData(root.resolve().name, layout.classes, train, test, str(root), layout.account)


def _read(
    layout: Layout,
    channels: int,
    image_size: int | None,
    origin: str,
    decoded_at_most: int | None,
    grey_only: bool = False,
) -> tuple[Split, Split]:
    form = _form(layout.train.files, channels, image_size, origin, grey_only)

    def split(part: Part) -> Split:
        remarks = Remarks(origin)
        of_split = replace(form, remarks=remarks)
        many = decoded_at_most is not None and len(part.files) > decoded_at_most
        large = many or form.total(len(part.files)) > IN_MEMORY_LIMIT
        images = FileImages(part.folder, part.files, of_split) if large else decode_files(part.files, of_split)
        return Split(images, part.labels, part.files, remarks)

    splits = split(layout.train), split(layout.test)
    form.unreadable.raise_any()
    return splits


def _form(files: list[str], channels: int, image_size: int | None, origin: str, grey_only: bool) -> Form:
    """Return the form of images as the first of them that can be read has it."""
    unreadable = Unreadable()
    for path in files:
        try:
            image = open_image(path)
            if grey_only and not is_grey(image):
                raise ColourFound
            threads = image.width * image.height >= _PIXELS_WORTH_THREADS
            height = width = image_size or 0
            if image_size is None:
                height, width, _ = decode(image, path, channels, None).shape
            return Form(height, width, channels, image_size, path, origin, threads, grey_only, unreadable=unreadable)
        except (CorruptFile, DataMissing) as error:
            unreadable.add(path, error)
    unreadable.raise_any()
    raise AssertionError("a folder without images was refused before")
