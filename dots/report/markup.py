"""The pieces of HTML a run's page is made of; those that every report shares are the conformance report's."""

from __future__ import annotations

from dots_conformance.report.markup import section, table, text

__all__ = ["CELL_NAMES", "node_markup", "section", "table", "text"]


CELL_NAMES = {"normal": "normal cell", "reduce": "reduction cell"}


def node_markup(number: int) -> str:
    """Return the name a cell's node has in pictures, for example ``c`` with the subscript ``k−2`` for node 0."""
    return f"c<sub>k−{2 - number}</sub>" if number < 2 else str(number - 2)
