"""The few pieces of HTML that every section of every page is made of."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape

_TERMINAL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
# What XML 1.0 has no way to write: a process's last words may hold anything.
_UNWRITABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

CELL_NAMES = {"normal": "normal cell", "reduce": "reduction cell"}


def writable(text: str) -> str:
    """Return text without terminal colours; characters that no document may hold become ``�``."""
    return _UNWRITABLE.sub("�", _TERMINAL.sub("", text))


def text(value: str) -> str:
    """Return foreign text so that nothing in it is markup, in attributes too."""
    return escape(writable(value))


def section(anchor: str, title: str, *parts: str) -> str:
    """Return a section of the page under a heading."""
    return f'<section id="{anchor}"><h2>{title}</h2>\n{"".join(parts)}</section>\n'


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "") -> str:
    """Return a table that scrolls by itself where the page is narrow.

    Parameters
    ----------
    heads, rows : sequences of str
        Markup; the first cell of a row is its heading.
    kind : str
        CSS classes of the table.
    """
    head = "".join(f"<th>{cell}</th>" for cell in heads)
    body = "\n".join(f"<tr><th>{row[0]}</th>{''.join(f'<td>{cell}</td>' for cell in row[1:])}</tr>" for row in rows)
    return (
        f'<div class="wide"><table class="{kind}"><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>\n'
    )


def node_markup(number: int) -> str:
    """Return the name a cell's node has in pictures, for example ``c`` with the subscript ``k−2`` for node 0."""
    return f"c<sub>k−{2 - number}</sub>" if number < 2 else str(number - 2)
