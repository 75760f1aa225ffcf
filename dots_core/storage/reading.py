"""Reading files that anyone may have written: only regular ones, only up to a size, JSON without surprises."""

from __future__ import annotations

import errno
import json
import math
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from dots_core.errors import CorruptFile, UsageError, quoted

JSON_LIMIT = 16 << 20
"""Bytes up to which a JSON file of ours is read."""

_DIGITS = 19
"""Digits of the largest whole number a file of ours holds: 64 bits."""


def read_file(path: str | os.PathLike[str], limit: int) -> bytes:
    """Read a regular file that holds at most ``limit`` bytes.

    A pipe, a device or a folder is refused before it is read, and so can neither hang nor go on
    for ever; so is a larger file, whatever its size claims.

    Raises
    ------
    CorruptFile
        If the path is no regular file, or the file is larger.
    OSError
        If it cannot be opened or read.
    """
    # Opening a pipe would wait for a writer.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    status = os.fstat(descriptor)
    if stat.S_ISDIR(status.st_mode):
        os.close(descriptor)
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    with open(descriptor, "rb") as file:
        _check_regular(path, status)
        content = b"" if status.st_size > limit else file.read(limit + 1)
        if status.st_size > limit or len(content) > limit:
            raise CorruptFile(
                f"{quoted(os.fspath(path))} has {max(status.st_size, len(content)):,} bytes, over the limit of "
                f"{limit:,}; it cannot be what it is taken for: replace or remove it"
            )
        return content


def checked_path(given: object, what: str) -> Path:
    """Return a place as a path, refusing what no file can be called; whether there is one is not looked at.

    A leading ``~`` is the user's home, as in a shell, which leaves it in place in ``--out=~/run``.

    Raises
    ------
    UsageError
        If it is no text and no path, is not UTF-8, or too long for the file system.
    """
    if not isinstance(given, str | os.PathLike) or not isinstance(name := os.fspath(given), str):
        raise UsageError(f"{what} is a text or a path, not {quoted(given)}")
    if not name:
        raise UsageError(f"{what} is an empty text; give a name, or . for the current directory")
    name = os.path.expanduser(name)
    try:
        # A run keeps its places absolute.
        if "\0" in os.path.abspath(name).encode().decode():
            raise UsageError(f"{what} '{quoted(name)}' holds a zero byte; give another name")
        os.lstat(name)
    except UnicodeError:
        raise UsageError(f"{what} '{quoted(name)}' is not UTF-8 text; rename it, or where it lies") from None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise UsageError(f"{what} '{quoted(name)}' is longer than a name of a file can be") from None
    return Path(name)


def check_regular(path: str | os.PathLike[str]) -> None:
    """Refuse what another library would open and wait for or never come to the end of.

    Raises
    ------
    CorruptFile
        If the path is a pipe or a device.
    OSError
        If it cannot be looked up.
    """
    _check_regular(path, os.stat(path))


def _check_regular(path: str | os.PathLike[str], status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise CorruptFile(
            f"{quoted(os.fspath(path))} is no regular file but a pipe or device; give a file in its place, or remove it"
        )


def read_json(path: Path, limit: int = JSON_LIMIT) -> Any:
    """Read a JSON file: finite numbers, whole ones of at most 64 bits, no key twice in an object.

    Raises
    ------
    CorruptFile
        If it is not such a file; the message names it.
    OSError
        If it cannot be opened or read.
    """
    content = read_file(path, limit)
    try:
        return parse_json(content.decode("utf-8-sig"))
    except ValueError as error:
        raise CorruptFile(f"{quoted(str(path))} is damaged: it is not JSON ({quoted(str(error))})") from None


def parse_json(text: str) -> Any:
    """Parse such JSON.

    Raises
    ------
    ValueError
        If the text is not; nesting that is too deep included.
    """
    try:
        return json.loads(
            text, object_pairs_hook=_unique, parse_constant=_refuse, parse_int=_whole, parse_float=_finite
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _unique(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        raise ValueError("a key is repeated")
    return record


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError("a number beyond all bounds")
    return number


def _whole(digits: str) -> int:
    if len(digits.lstrip("-")) > _DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)
