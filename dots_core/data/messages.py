"""How an exception of another library becomes part of a one-line message."""

from __future__ import annotations


def reason(error: Exception) -> str:
    """Return what an exception says, on one line; its type if it says nothing."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__
