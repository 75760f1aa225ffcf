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

    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean '{matches[0]}'?" if matches else ""
