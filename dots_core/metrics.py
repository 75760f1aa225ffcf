"""The metrics and the architecture weights of a run, one JSON line an epoch."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from dots_core.errors import CorruptFile
from dots_core.files import cannot_write
from dots_core.reading import parse_json, read_file

_LIMIT = 4 << 30
"""Bytes: a hundred thousand epochs of the largest rows."""


class MetricsFile:
    """Appends rows and can be cut back to a checkpoint.

    Rows hold no times and no paths, so two runs of one plan write the same bytes.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def begin(self) -> None:
        """Create the file empty; what a run without a checkpoint left in it is dropped."""
        self._path.write_bytes(b"")

    def append(self, row: dict[str, Any]) -> int:
        """Append a row durably and return the file's new length in bytes."""
        try:
            with open(self._path, "ab") as file:
                file.write(json.dumps(row, allow_nan=False).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
                return file.tell()
        except OSError as error:
            raise cannot_write(self._path, error) from None

    def last(self) -> dict[str, Any]:
        """Return the last row, or an empty one if there is none."""
        rows = read_metrics(self._path) if self._path.exists() else []
        return rows[-1] if rows else {}

    def cut(self, length: int) -> None:
        """Drop everything after a checkpoint.

        Raises
        ------
        CorruptFile
            If rows from before the checkpoint are missing.
        """
        size = self._path.stat().st_size if self._path.exists() else 0
        if size < length:
            raise CorruptFile(f"{self._path} has {size} bytes, the checkpoint knows of {length}: rows are missing")
        if size > length:
            os.truncate(self._path, length)


def read_metrics(path: Path, growing: bool = False) -> list[dict[str, Any]]:
    """Return the rows of a metrics file; raise `CorruptFile` if a line is damaged.

    Parameters
    ----------
    growing : bool
        Whether another process may be writing the file: what follows the last end of line is left out.
    """
    rows = []
    content = read_file(path, _LIMIT)
    if growing:
        content = content[: content.rfind(b"\n") + 1]
    for number, line in enumerate(content.splitlines(), start=1):
        try:
            row = parse_json(line.decode())
        except ValueError:  # also of the text's encoding
            raise CorruptFile(f"{path}, line {number} is not JSON") from None
        if not isinstance(row, dict):
            raise CorruptFile(f"{path}, line {number} is no row of an epoch")
        rows.append(row)
    return rows
