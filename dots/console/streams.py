"""The standard streams of a command: talk that nobody hears is lost, and nothing else is; data that is lost is told."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO


class Talk:
    """A text stream for talk, such as stderr: what cannot be written, because the reader has left, is dropped.

    A run is worth more than what is said about it, and the exit code says how it ended.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text, or drop it; return its length."""
        if self._stream is not None:
            with contextlib.suppress(OSError, ValueError):
                self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Hand on what was written, or drop it."""
        if self._stream is not None:
            with contextlib.suppress(OSError, ValueError):
                self._stream.flush()

    def isatty(self) -> bool:
        """Whether a terminal reads it."""
        return self._stream is not None and self._stream.isatty()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def streams() -> Iterator[None]:
    """Make the standard streams of this process such that no write of talk and no character of data ends it."""
    _occupy()
    closed = sys.stdout is None
    if closed:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (closed below)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and hasattr(stream, "reconfigure"):
            # Not every stream's encoding knows α; an escape is better than no result.
            stream.reconfigure(errors="backslashreplace")
    talk = sys.stderr
    sys.stderr = Talk(talk)
    try:
        yield
    finally:
        sys.stderr = talk
        with contextlib.suppress(ValueError):  # somebody closed it
            _flushed(talk)
        if closed:
            sys.stdout.close()
            sys.stdout = None


def finish_streams() -> OSError | None:
    """Write out what is still held, and return why data could not be; the interpreter's end then finds nothing."""
    return _flushed(sys.stdout)


def _flushed(stream: TextIO | None) -> OSError | None:
    if stream is None:
        return None
    try:
        stream.flush()
    except OSError as error:
        # What is held would be tried again, and again be told of, at the interpreter's end.
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
        return error
    return None


def _occupy() -> None:
    """Open what was closed before we began, so that no file of ours gets its number and then what a library prints."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
