"""Reading a pickle of plain values and NumPy arrays without running anything it asks for.

The CIFAR data sets are distributed as pickles. Here the names such a pickle refers to are
replaced by stand-ins that rebuild arrays from their bytes, so neither foreign code nor
NumPy's own unpickling, which trusts its input, ever sees the file's contents.
"""

from __future__ import annotations

import math
import pickle
import pickletools
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dots_core.data.messages import reason
from dots_core.errors import CorruptFile

_MEMO_LIMIT = 1 << 20
_ITEM_TYPES = frozenset(("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"))


def load_dict(content: bytes, path: str) -> dict[Any, Any]:
    """Decode a pickled dict of numbers, text, bytes, None, lists, tuples, dicts and numeric arrays.

    Byte strings written by Python 2 come back as bytes. Arrays are rebuilt where they are values
    of the dict itself, as the CIFAR files have them, not where they are nested deeper.

    Parameters
    ----------
    content : bytes
    path : str
        Where the content comes from, for messages.

    Returns
    -------
    dict
        Its arrays are NumPy arrays, read-only.

    Raises
    ------
    CorruptFile
        If the pickle is damaged, is no dict or refers to anything else.
    """
    try:
        _check_memo(content)
        values = _Reader(BytesIO(content), encoding="bytes").load()
        if not isinstance(values, dict):
            raise _Refused(f"holds a {type(values).__name__} instead of a dict")
        return {key: value.value if isinstance(value, _Array) else value for key, value in values.items()}
    except _Refused as refusal:
        raise CorruptFile(f"{path}: {refusal}; do not trust this file, download it again from its source") from None
    # Damage shows as whatever exception the decoder stumbles into.
    except Exception as error:
        raise CorruptFile(f"{path}: damaged pickle ({reason(error)}); download the file again") from error


class _Refused(Exception):
    """The pickle asks for something that is not admitted."""


class _Dtype:
    """Stands in for ``numpy.dtype``."""

    def __init__(self, spec: str | bytes, *_: object) -> None:
        self._item = _text(spec).lstrip("<>|=")
        self._order = "<"
        if self._item not in _ITEM_TYPES:
            raise _Refused(f"array of type '{self._item}', only numbers are admitted")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._order = ">" if _text(state[1]) == ">" else "<"

    def plain(self) -> np.dtype[Any]:
        return np.dtype(self._order + self._item)


class _Array:
    """Stands in for ``numpy.ndarray`` and the function that makes an empty one to be filled by its state."""

    def __init__(self, *_: object) -> None:
        self.value: NDArray[Any] | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, content = state
        self._fill(content, dtype, shape, "F" if fortran else "C")

    def _fill(self, content: Any, dtype: Any, shape: Any, order: str) -> None:
        if not isinstance(dtype, _Dtype) or not isinstance(content, (bytes, bytearray)):
            raise _Refused("array that is not made of plain numbers")
        flat = np.frombuffer(bytes(content), dtype.plain())
        if not isinstance(shape, tuple) or math.prod(shape) != flat.size:
            raise ValueError(f"array of shape {shape} has {flat.size} values")
        self.value = flat.reshape(shape, order="F" if order == "F" else "C")


class _Buffered(_Array):
    """Stands in for the function that rebuilds arrays in pickle protocol 5."""

    def __init__(self, content: Any, dtype: Any, shape: Any, order: str) -> None:
        self._fill(content, dtype, shape, order)


class _Bytes(bytes):
    """Stands in for the calls by which Python 3 writes bytes in protocols without them.

    These are ``_codecs.encode(text, "latin1")`` and, for no bytes at all, ``bytes()``.
    """

    def __new__(cls, text: str = "", encoding: str | bytes = "latin1") -> bytes:  # type: ignore[misc]
        if _text(encoding) not in ("latin1", "latin-1"):
            raise _Refused(f"text in encoding '{_text(encoding)}'")
        return text.encode("latin1")

    def __setstate__(self, state: object) -> None:
        # Without this method a pickle could set attributes of the class itself.
        raise _Refused("state for a byte string")


_ADMITTED: dict[tuple[str, str], type] = {
    ("_codecs", "encode"): _Bytes,
    ("__builtin__", "bytes"): _Bytes,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
}
for _numpy in ("numpy.core", "numpy._core"):
    _ADMITTED[_numpy + ".multiarray", "_reconstruct"] = _Array
    _ADMITTED[_numpy + ".numeric", "_frombuffer"] = _Buffered


class _Reader(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> type:
        try:
            return _ADMITTED[module_name, global_name]
        except KeyError:
            raise _Refused(f"refers to '{module_name}.{global_name}', which is not admitted") from None


def _check_memo(content: bytes) -> None:
    # The decoder makes its memo as long as the largest number it is told, before anything else
    # could notice that a file of ten bytes asks for gigabytes.
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and isinstance(argument, int) and argument > _MEMO_LIMIT:
            raise _Refused(f"numbers its values up to {argument}")


def _text(value: str | bytes) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else value
