"""What became of everything that lay where images were read: taken, passed over, converted or doubtful."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from dots_core.errors import printable, quoted

SHOWN = 3
"""Names a message lists before it counts the rest."""


@dataclass(frozen=True)
class PassedOver:
    """Files that were not read, for one reason.

    Attributes
    ----------
    reason : str
        For example ``"unknown suffix .txt"``.
    count : int
    examples : tuple of str
        The first of them in the order of names, at most three: places below the folder of the data.
    """

    reason: str
    count: int
    examples: tuple[str, ...]


@dataclass(frozen=True)
class Account:
    """How a loading went.

    Attributes
    ----------
    passed_over : tuple of PassedOver
    notes : tuple of str
        What was chosen or converted, in plain words.
    warnings : tuple of str
        What makes the data doubtful, as far as it shows before any pixel is looked at.
    """

    passed_over: tuple[PassedOver, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def passed_over_records(self) -> list[dict[str, Any]]:
        """Return what was passed over, ready for JSON."""
        return [
            {"reason": group.reason, "count": group.count, "examples": list(group.examples)}
            for group in self.passed_over
        ]

    def text(self) -> str:
        """Return the notes and what was passed over as one line; empty if there is nothing to say."""
        parts = [*self.notes]
        if self.passed_over:
            whole = sum(group.count for group in self.passed_over)
            groups = (f"{group.count} {group.reason} ({_listed(group)})" for group in self.passed_over)
            parts.append(f"{whole} passed over: {', '.join(groups)}")
        return one_line("; ".join(parts))


NOTHING_TO_TELL = Account()


@dataclass
class Tally:
    """An account being drawn up."""

    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    _passed_over: dict[str, list[str]] = field(default_factory=dict)

    def pass_over(self, reason: str, place: str) -> None:
        """Count a file or a folder that is not read."""
        self._passed_over.setdefault(reason, []).append(place)

    def count(self, reason: str) -> int:
        """Return how many were passed over for a reason."""
        return len(self._passed_over.get(reason, ()))

    def closed(self) -> Account:
        """Return the account."""
        groups = (
            PassedOver(reason, len(places), tuple(sorted(places)[:SHOWN]))
            for reason, places in sorted(self._passed_over.items())
        )
        return Account(tuple(groups), tuple(self.notes), tuple(self.warnings))


def listed(names: Sequence[str], most: int = 5) -> str:
    """Return names as a list that does not grow beyond ``most``: ``a, b and 3 more``."""
    shown = ", ".join(one_line(quoted(name)) for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")


def note(notes: list[str], sentence: str) -> None:
    """Add a sentence to notes that do not have it yet."""
    if sentence not in notes:
        notes.append(sentence)


def one_line(text: str) -> str:
    """Return a text with everything escaped that a terminal might obey, line ends too."""
    return printable(text).replace("\n", "\\n")


def _listed(group: PassedOver) -> str:
    return listed(group.examples) + (", …" if group.count > len(group.examples) else "")
