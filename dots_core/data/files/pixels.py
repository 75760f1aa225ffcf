"""How one image file becomes an array of pixels, and what is refused on the way."""

from __future__ import annotations

import io
import math
import warnings
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dots_core.data.doubts import DARK, TRANSPARENT, Remarks
from dots_core.data.images import SMALLEST_SIDE
from dots_core.data.messages import reason
from dots_core.errors import CorruptFile, DataMissing, UsageError
from dots_core.storage.reading import read_file

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jfif", ".jpe", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm")
)
PIXEL_LIMIT = 64_000_000
BYTE_LIMIT = 16 << 30
FILE_LIMIT = 1 << 30
"""Bytes of an image file: those of 64 million pixels of four channels and 16 bits, uncompressed, and some."""

# Only the decoders of these formats may run: Pillow knows others, such as EPS, that start programs.
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF", "PPM")


SNIFFED = 16
"""Bytes at the beginning of a file that :func:`looks_like_image` needs."""

_ORIENTATION = 0x0112
# EXIF's numbers for how a camera was held, with what undoes it.
_UPRIGHT = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
_SAYING_ORIENTATION = {"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"}
# Damaged EXIF data leaves an image as it is stored, and is nothing to tell a user in Pillow's words.
warnings.filterwarnings("ignore", "Corrupt EXIF data", UserWarning)

_DARK_BELOW = 1 << 14


def looks_like_image(start: bytes) -> bool:
    """Tell by the first bytes of a file whether it has one of the accepted formats."""
    return (
        start.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*"))
        or (start[:4] == b"RIFF" and start[8:12] == b"WEBP")
        or (start[:2] == b"BM" and start[6:10] == bytes(4))
        or (start[:1] == b"P" and start[1:2] in b"123456" and start[2:3].isspace())
    )


def check_image_size(image_size: int | None) -> None:
    """Raise :class:`UsageError` unless ``image_size`` is None or a usable side length in pixels."""
    if image_size is None:
        return
    if isinstance(image_size, bool) or not isinstance(image_size, int) or image_size < SMALLEST_SIDE:
        raise UsageError(
            f"image_size is {image_size!r}, but must be a whole number of at least {SMALLEST_SIDE}; "
            "use e.g. --set image_size=32"
        )


def check_total(count: int, height: int, width: int, channels: int, where: str) -> None:
    """Raise :class:`UsageError` if so many images would not fit the limit of 16 GiB of pixels."""
    total = count * height * width * channels
    if total > BYTE_LIMIT:
        side = min(64, math.isqrt(BYTE_LIMIT // (count * channels)))
        remedy = f"make them smaller, e.g. with --set image_size={side}" if side >= SMALLEST_SIDE else "give fewer"
        raise UsageError(
            f"{where}: {count} images of {width}x{height} with {channels} channels need {total / 2**30:.1f} GiB, over "
            f"the limit of {BYTE_LIMIT / 2**30:.1f} GiB; {remedy}"
        )


def open_image(path: str) -> Image:
    """Read an image file and its header; the pixels are decoded later, on first use.

    Raises
    ------
    DataMissing
        If the file cannot be read.
    CorruptFile
        If it is no image of an accepted format or has more than 64 million pixels.
    """
    from PIL import Image

    try:
        content = read_file(path, FILE_LIMIT)
    except OSError as error:
        raise DataMissing(f"{path}: cannot be read ({reason(error)}); check the file and its permissions") from error
    try:
        image = Image.open(io.BytesIO(content), formats=_FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_many_pixels(path, "far more") from error
    # Decoders report damage by whatever exception their parsing stumbles into.
    except Exception as error:
        raise _corrupt(path, error) from error
    pixels = image.width * image.height
    if pixels > PIXEL_LIMIT:
        raise _too_many_pixels(path, str(pixels))
    return image


def is_grey(image: Image) -> bool:
    """Tell whether the file stores grey values only, with or without transparency."""
    return image.mode in ("1", "L", "LA", "I") or image.mode.startswith("I;16")


def decode(
    image: Image, path: str, channels: int, image_size: int | None, remarks: Remarks | None = None
) -> NDArray[np.uint8]:
    """Decode an opened image to one or three channels and, if asked, to a square.

    It is turned as its EXIF orientation says. Transparency is dropped; 16-bit grey values keep
    their upper eight bits.

    Parameters
    ----------
    remarks : Remarks, optional
        Where to note that an image shows nothing because of that.

    Returns
    -------
    uint8 array, shape (H, W, channels)

    Raises
    ------
    CorruptFile
        If the pixels cannot be decoded.
    DataMissing
        If the pixels are floating-point numbers, which have no agreed range.
    """
    try:
        if image.mode == "F":
            raise DataMissing(f"{path}: pixels are floating-point numbers; save the image with 8 bits per channel")
        image.load()
        stored = image = _upright(image)
        if image.mode == "I" or image.mode.startswith("I;16"):
            wide = np.asarray(image).astype(np.int64)
            if remarks is not None and wide.max() < _DARK_BELOW:
                remarks.note(DARK, path)
            image = _eight_bits(wide)
        mode = "L" if channels == 1 else "RGB"
        if image.mode != mode:
            image = image.convert(mode)
        if (
            remarks is not None
            and _has_transparency(stored)
            and _is_constant(image)
            and not _is_evenly_transparent(stored)
        ):
            remarks.note(TRANSPARENT, path)
        if image_size is not None:
            image = square(image, image_size)
        return np.asarray(image).reshape(image.height, image.width, channels)
    except DataMissing:
        raise
    except Exception as error:
        raise _corrupt(path, error) from error


def square(image: Image, side: int) -> Image:
    """Scale the shorter side to ``side`` pixels (bicubic) and keep the central square.

    Only the central square is ever scaled, so a very long image cannot grow out of memory.
    """
    from PIL import Image

    if image.size == (side, side):
        return image
    shorter = min(image.size)
    left, top = (image.width - shorter) / 2, (image.height - shorter) / 2
    return image.resize((side, side), Image.Resampling.BICUBIC, box=(left, top, left + shorter, top + shorter))


def _upright(image: Image) -> Image:
    from PIL import Image as Pillow

    # Most images say nothing, and to find that out by `getexif` takes a tenth of the time of decoding a small one.
    if image.format != "TIFF" and not image.info.keys() & _SAYING_ORIENTATION:
        return image
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    # Damaged EXIF data is no reason to refuse the pixels, which are not damaged.
    except Exception:
        return image
    return image.transpose(Pillow.Transpose[_UPRIGHT[orientation]]) if orientation in _UPRIGHT else image


def _has_transparency(image: Image) -> bool:
    return "A" in image.getbands() or "transparency" in image.info


def _is_evenly_transparent(image: Image) -> bool:
    return _is_constant(image.convert("RGBA").getchannel("A"))


def _is_constant(image: Image) -> bool:
    extremes = image.getextrema()
    pairs = extremes if isinstance(extremes[0], tuple) else (extremes,)
    return all(low == high for low, high in pairs)


def _eight_bits(wide: NDArray[np.int64]) -> Image:
    from PIL import Image

    return Image.fromarray((np.clip(wide, 0, 65535) >> 8).astype(np.uint8))


def _corrupt(path: str, error: Exception) -> CorruptFile:
    # Pillow's "cannot identify" message shows the address of a buffer, which tells a reader nothing.
    why = "not recognised" if "BytesIO" in str(error) else reason(error)
    return CorruptFile(f"{path}: damaged or no image ({why}); replace or delete the file")


def _too_many_pixels(path: str, count: str) -> CorruptFile:
    return CorruptFile(f"{path}: {count} pixels, over the limit of {PIXEL_LIMIT}; scale the image down or delete it")
