"""Where a decision on edges is made, and between which edges, as markup."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup


def node_markup(number: int) -> Markup:
    """Return the name a cell's node has in pictures, for example ``c`` with the subscript ``k−2`` for node 0."""
    return Markup(f"c<sub>k−{2 - number}</sub>" if number < 2 else f"{number - 2}")


def edge_markup(edge: str) -> Markup:
    """Return the ends of an edge, which the files call ``"0-2"``."""
    return Markup(" → ").join(node_markup(int(end)) for end in edge.split("-"))


def competing(row: Mapping[str, Any], kind: str) -> str:
    """Return what competes in β of a cell type, as a row of the architecture file says it.

    A node's ``"input"`` or ``"output"`` edges, or each edge ``"alone"`` with its absence. Rows of
    earlier releases do not say; they know input edges only.
    """
    return row.get("competing", {}).get(kind, "input")


def place_markup(place: str, among: str) -> Markup:
    """Return the node whose edges compete, or the edge that does alone."""
    if among == "alone":
        return edge_markup(place)
    return Markup("into " if among == "input" else "out of ") + node_markup(int(place))


def ends_markup(combination: str) -> str | Markup:
    """Return the edges of a combination by their other ends, or what becomes of an edge that competes alone."""
    if combination in ("kept", "dropped"):
        return combination
    return Markup(", ").join(node_markup(int(end)) for end in combination.split(","))
