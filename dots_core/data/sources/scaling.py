"""Bringing images to uint8 values 0 to 255, where it is clear what their values mean."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dots_core.data.account import note
from dots_core.errors import UsageError

_CHUNK = 4 << 20
_OVERSHOOT = 1 / 8
"""Share of a range by which what was interpolated may lie beyond it."""

_APART = 16
"""Splits whose ranges differ by this factor are not on one scale: those in use differ by 127 and more."""


class _Values(NamedTuple):
    """An image array and the range of its values."""

    array: NDArray[Any]
    name: str
    lowest: float
    highest: float

    @property
    def span(self) -> float:
        return self.highest - self.lowest

    @property
    def kind(self) -> str:
        return "iu" if self.array.dtype.kind in "iu" else self.array.dtype.kind

    @property
    def unit(self) -> bool:
        """Whether the values go from 0 to 1, or a little beyond as interpolation leaves them."""
        return 0 < self.highest <= 1 + _OVERSHOOT and self.lowest >= -_OVERSHOOT * self.highest


def scaled(arrays: list[NDArray[Any]], names: tuple[str, ...], where: str, notes: list[str]) -> list[NDArray[np.uint8]]:
    """Return arrays of finite values as uint8, shapes kept, scaled alike; see :func:`.conversions.converted_images`.

    Raises
    ------
    UsageError
        If it is not clear how; the message names what would do, as NumPy code.
    """
    if all(array.dtype == np.uint8 for array in arrays):
        return [np.ascontiguousarray(array) for array in arrays]
    values = [_Values(array, name, *_range(array)) for array, name in zip(arrays, names, strict=True)]
    whole = _Values(arrays[0], "images", min(each.lowest for each in values), max(each.highest for each in values))
    kinds = {each.kind for each in values}
    foreign = [f"{each.name} {each.array.dtype}" for each in values if each.kind not in ("b", "f", "iu")]
    if foreign:
        raise UsageError(f"{where} {' and '.join(foreign)}: give uint8 values 0 to 255 in all splits")
    apart = len(kinds) > 1 or _are_apart(values)
    if not apart and (kinds == {"b"} or (kinds == {"f"} and whole.lowest >= 0 and 0 < whole.highest <= 1)):
        note(notes, "values 0 to 1 scaled to 0 to 255")
        return [_in_chunks(array, 255) for array in arrays]
    if not apart and whole.lowest >= 0 and 1 < whole.highest <= 255 and (kinds == {"iu"} or all(map(_whole, arrays))):
        note(notes, "values 0 to 255 stored as uint8")
        return [_in_chunks(array, 1) for array in arrays]
    if not math.isfinite(whole.span):
        raise UsageError(f"{where} images have values {whole.lowest:g} to {whole.highest:g}, too large to be pixels'")
    if apart:
        found = " and ".join(f"{v.name} {v.array.dtype} with values {v.lowest:g} to {v.highest:g}" for v in values)
        codes = [f"{each.name} = {code}" for each in values if (code := _code(each))]
        why = f"{found}, of different types or scales"
    else:
        types = ", ".join(sorted({str(array.dtype) for array in arrays}))
        codes = [f"images = {_code(whole)}"]
        why = f"{' and '.join(names)} of {types} with values {whole.lowest:g} to {whole.highest:g}"
    raise UsageError(f"{where} {why}; give uint8 values 0 to 255 in all splits, here perhaps {'; '.join(codes)}")


def _are_apart(values: list[_Values]) -> bool:
    varied = [each for each in values if each.span]
    if len({each.unit for each in varied}) > 1:
        return True
    spans = [each.span for each in varied]
    return bool(spans) and not any(each.unit for each in varied) and max(spans) > _APART * min(spans)


def _code(values: _Values) -> str:
    """Return code that brings values to 0 … 255 and keeps their contrast; none for those that are there already."""
    array, name, lowest, highest = values
    if array.dtype.kind == "b":
        return f"{name}.astype('uint8') * 255"
    if values.span and values.unit:
        return f"({name}.clip(0, 1) * 255.0).round().astype('uint8')"
    fits = lowest >= 0 and highest <= 255 and array.dtype.kind in "iu"
    if fits and array.dtype == np.uint8:
        return ""
    interpolated = array.dtype.kind == "f" and 128 <= highest <= 255 * (1 + _OVERSHOOT)
    if not values.span or fits or (interpolated and lowest >= -_OVERSHOOT * highest):
        return f"{name}.round().clip(0, 255).astype('uint8')"
    if 0 <= lowest < highest / 2:
        lowest = 0.0  # what is black stays black
    moved = f"{name}.astype('float64')"
    moved = f"({moved} - ({_digits(lowest)}))" if lowest else moved
    return f"({moved} * (255 / {_digits(highest - lowest)})).round().clip(0, 255).astype('uint8')"


def _digits(number: float) -> str:
    return f"{number:g}" if float(f"{number:g}") == number else repr(number)


def _range(array: NDArray[Any]) -> tuple[float, float]:
    if not array.size or array.dtype.kind not in "biuf":
        return 0.0, 0.0
    return float(array.min()), float(array.max())


def _whole(array: NDArray[Any]) -> bool:
    return all(bool((part == np.rint(part)).all()) for part in _parts(array))


def _in_chunks(array: NDArray[Any], scale: int) -> NDArray[np.uint8]:
    result = np.empty(array.shape, np.uint8)
    start = 0
    for part in _parts(array):
        result[start : start + len(part)] = np.rint(part * np.float64(scale))
        start += len(part)
    return result


def _parts(array: NDArray[Any]) -> list[NDArray[Any]]:
    """Cut an array into pieces small enough to be widened."""
    per_part = max(1, _CHUNK // max(1, math.prod(array.shape[1:])))
    return [array[start : start + per_part] for start in range(0, len(array), per_part)]
