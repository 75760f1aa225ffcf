"""Messages between two processes: a JSON record and named arrays as safetensors, with their lengths before them."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

_LENGTHS = struct.Struct("<QQ")

Record = dict[str, Any]
Arrays = dict[str, NDArray[Any]]


def send(stream: IO[bytes], record: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write one message."""
    # Safetensors keeps no order, a dict does.
    text = json.dumps({"record": record, "names": list(arrays)}).encode()
    data = save({name: np.asarray(array, order="C") for name, array in arrays.items()})
    stream.write(_LENGTHS.pack(len(text), len(data)) + text + data)
    stream.flush()


def receive(stream: IO[bytes]) -> tuple[Record, Arrays]:
    """Read one message; the arrays are the caller's own.

    Raises
    ------
    EOFError
        If the other side closed the stream.
    """
    text, data = (_read(stream, length) for length in _LENGTHS.unpack(_read(stream, _LENGTHS.size)))
    message, arrays = json.loads(text), load(data)
    return message["record"], {name: arrays[name].copy() for name in message["names"]}


def _read(stream: IO[bytes], length: int) -> bytes:
    data = stream.read(length)
    if len(data) < length:
        raise EOFError("the other side closed the stream")
    return data
