"""The standard streams of a command: talk that nobody hears is lost, and nothing else is; data that is lost is told."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO


class Guarded:
    """A text stream whose end is no end of what writes to it: from the first failure on, all is dropped.

    A run is worth more than what is said about it, and the exit code says how it ended.

    Attributes
    ----------
    lost : OSError or None
        Why something could not be written.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self.lost: OSError | None = None

    def write(self, text: str) -> int:
        """Write a text, or drop it; return its length."""
        if self._stream is not None and self.lost is None:
            with self._noting():
                self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Hand on what was written, or drop it."""
        if self._stream is not None and self.lost is None:
            with self._noting():
                self._stream.flush()

    def isatty(self) -> bool:
        """Whether a terminal reads it."""
        return self._stream is not None and self._stream.isatty()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @contextlib.contextmanager
    def _noting(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.lost = error
        except ValueError:  # somebody closed it
            self.lost = OSError(errno.EBADF, os.strerror(errno.EBADF))


@contextlib.contextmanager
def streams() -> Iterator[Guarded]:
    """Make the standard streams of this process such that no write of talk or data ends it; yields that of data."""
    _occupy()
    data, talk = sys.stdout, sys.stderr
    closed = open(1, "w", closefd=False) if data is None else None  # noqa: SIM115 (closed below)
    for stream in (data, talk):
        if stream is not None and hasattr(stream, "reconfigure"):
            # Not every stream's encoding knows α; an escape is better than no result.
            stream.reconfigure(errors="backslashreplace")
    guarded, sys.stderr = Guarded(data or closed), Guarded(talk)
    sys.stdout = guarded
    try:
        yield guarded
    finally:
        sys.stdout, sys.stderr = data, talk
        for stream in (data, talk, closed):
            _emptied(stream)
        if closed is not None:
            closed.close()


def _emptied(stream: TextIO | None) -> None:
    """Write out what is still held, or drop it: at the interpreter's end it would be tried again, and told of."""
    if stream is None:
        return
    try:
        stream.flush()
    except OSError:
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
            stream.flush()
    except ValueError:  # somebody closed it
        pass


def _occupy() -> None:
    """Open what was closed before we began, so that no file of ours gets its number and then what a library prints.

    Data written to a closed stdout is still lost, and still told of: its number is opened for reading alone.
    """
    for descriptor, mode in enumerate((os.O_RDWR, os.O_RDONLY, os.O_RDWR)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, mode)  # takes the lowest number that is free: this one
