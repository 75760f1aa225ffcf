"""The metrics and the architecture weights of a run, one JSON line an epoch."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from dots_core.errors import CorruptFile
from dots_core.storage.atomic import cannot_write
from dots_core.storage.reading import parse_json, read_file

_LIMIT = 4 << 30
"""Bytes: a hundred thousand epochs of the largest rows."""

_CHUNK = 1 << 20
_REMEDY = "put the file back as it was, or start a new run with the config.yaml beside it as the preset"


class MetricsFile:
    """Appends rows, knows their sha256, and can be cut back to a checkpoint.

    Rows hold no times and no paths, so two runs of one plan write the same bytes.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sum: hashlib._Hash | None = None

    @property
    def sha256(self) -> str:
        """Of the whole file, in hexadecimal; the file is read for it once, and no more after `begin` or `cut`."""
        return self._summed().hexdigest()

    def begin(self) -> None:
        """Create the file empty; rows that no checkpoint knows of are dropped."""
        try:
            self._path.write_bytes(b"")
        except OSError as error:
            raise cannot_write(self._path, error) from None
        self._sum = hashlib.sha256()

    def append(self, row: dict[str, Any]) -> int:
        """Append a row durably and return the file's new length in bytes."""
        line = json.dumps(row, allow_nan=False).encode() + b"\n"
        total = self._summed()
        try:
            with open(self._path, "ab") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
                length = file.tell()
        except OSError as error:
            raise cannot_write(self._path, error) from None
        total.update(line)
        return length

    def last(self) -> dict[str, Any]:
        """Return the last row, or an empty one if there is none."""
        rows = read_metrics(self._path) if self._path.exists() else []
        return rows[-1] if rows else {}

    def check(self, length: int, sha256: str = "") -> None:
        """Check that the rows from before a checkpoint stand as they were written.

        Parameters
        ----------
        length : int
            Bytes from before the checkpoint.
        sha256 : str
            Theirs; empty if the checkpoint is of a release that kept none.

        Raises
        ------
        CorruptFile
            If rows from before the checkpoint are missing or not those that were written.
        """
        size = self._path.stat().st_size if self._path.exists() else 0
        if size < length:
            raise CorruptFile(
                f"{self._path} has {size} bytes, the checkpoint knows of {length}: rows are missing; {_REMEDY}"
            )
        self._sum = self._read(length)
        if sha256 and self._sum.hexdigest() != sha256:
            raise CorruptFile(
                f"{self._path} is not as the run wrote it: up to the checkpoint its sha256 is another; {_REMEDY}"
            )

    def cut(self, length: int) -> None:
        """Drop everything after a checkpoint; see `check`."""
        self.check(length)
        if self._path.exists() and self._path.stat().st_size > length:
            os.truncate(self._path, length)

    def _summed(self) -> hashlib._Hash:
        if self._sum is None:
            self._sum = self._read(self._path.stat().st_size if self._path.exists() else 0)
        return self._sum

    def _read(self, length: int) -> hashlib._Hash:
        """Sum up the beginning of the file, which need not exist for a length of 0."""
        total = hashlib.sha256()
        if length:
            with open(self._path, "rb") as file:
                while length and (chunk := file.read(min(length, _CHUNK))):
                    total.update(chunk)
                    length -= len(chunk)
        return total


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
