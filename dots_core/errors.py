"""Errors a user can act on, each with the exit code the command line gives it."""

from __future__ import annotations


class DotsError(Exception):
    """A failure whose message names the cause, the place and the remedy.

    Attributes
    ----------
    exit_code : int
        What the ``dots`` command exits with when this error ends it.
    """

    exit_code = 1


class UsageError(DotsError):
    """An impossible request: unknown name, misspelt key, value out of range."""

    exit_code = 2


class EngineMissing(DotsError):
    """The engine, its framework or the device asked for is not there."""

    exit_code = 3


class DataMissing(DotsError):
    """The images asked for are missing, empty or do not fit together."""

    exit_code = 4


class CorruptFile(DotsError):
    """A file is damaged, of another kind than claimed, or not to be trusted."""

    exit_code = 5


class NonFiniteLoss(DotsError):
    """A loss became infinite or not a number."""

    exit_code = 6


def nearest(name: str, known: list[str] | tuple[str, ...]) -> str:
    """Return a hint such as ``"; did you mean 'cifar'?"``, or an empty string."""
    import difflib

    matches = difflib.get_close_matches(name[:QUOTED], list(known), n=1, cutoff=0.5)
    return f"; did you mean '{matches[0]}'?" if matches else ""


QUOTED = 200
"""Characters of a value that a message shows at most."""


def quoted(value: object) -> str:
    """Return a value as it may stand in a message: without control characters, at most `QUOTED` characters."""
    text = value if isinstance(value, str) else _bounded_repr(value)
    shown = printable(text if len(text) <= QUOTED else f"{text[: QUOTED // 2]} … {text[-QUOTED // 4 :]}")
    return shown if len(shown) <= QUOTED else f"{shown[: QUOTED - 2]} …"


def printable(text: str) -> str:
    """Return a text with everything escaped that a terminal might obey instead of show; line ends stay."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def _bounded_repr(value: object) -> str:
    # The whole text of a nested value can be exponentially longer than the file it was read from.
    import reprlib

    shortener = reprlib.Repr()
    shortener.maxstring = shortener.maxother = shortener.maxlong = QUOTED
    try:
        return shortener.repr(value)
    except ValueError:  # Python writes no whole number of thousands of digits out
        kind = type(value).__name__
        return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind} too long to show"
