"""Tables that pages and Markdown show alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """Rows of text under heads.

    Attributes
    ----------
    heads : sequence of str
        One a column.
    rows : sequence of sequences of str
        The first entry of a row is its heading.
    align : str
        A letter a column: ``l`` for words, ``r`` for numbers. By default the first has words, the others numbers.
    groups : sequence of (str, int)
        Heads above the heads, each with how many columns it spans.
    """

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    align: str = ""
    groups: Sequence[tuple[str, int]] = ()

    @property
    def sides(self) -> str:
        """`align`, or what stands for it."""
        return self.align or "l" + "r" * (len(self.heads) - 1)

    def markdown(self) -> list[str]:
        """Return its lines in GitHub-flavoured Markdown, without `groups`."""
        rule = ["---:" if side == "r" else "---" for side in self.sides]
        return [f"| {' | '.join(cells)} |" for cells in (self.heads, rule, *self.rows)]
