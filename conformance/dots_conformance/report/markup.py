"""The few pieces of HTML that every section of the page is made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from dots_conformance.report.wording import writable


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
