"""Where a decision on edges is made, and between which edges, as markup."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dots.report.markup import node_markup


def competing(row: Mapping[str, Any], kind: str) -> str:
    """Return what competes in β of a cell type, as a row of the architecture file says it.

    A node's ``"input"`` or ``"output"`` edges, or each edge ``"alone"`` with its absence. Rows of
    earlier releases do not say; they know input edges only.
    """
    return row.get("competing", {}).get(kind, "input")


def place_markup(place: str, among: str) -> str:
    """Return the node whose edges compete, or the edge that does alone."""
    if among == "alone":
        source, target = map(int, place.split("-"))
        return f"{node_markup(source)} → {node_markup(target)}"
    return f"{'into' if among == 'input' else 'out of'} {node_markup(int(place))}"


def ends_markup(combination: str) -> str:
    """Return the edges of a combination by their other ends, or what becomes of an edge that competes alone."""
    if combination in ("kept", "dropped"):
        return combination
    return ", ".join(node_markup(int(end)) for end in combination.split(","))
