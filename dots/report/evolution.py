"""How α, β and γ developed: one small chart for each edge or node of each cell type in each stage."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import getitem
from typing import Any

from dots.pages.charts import Chart, Frame, Line, drawn, keys_of
from dots.pages.environment import phrase
from dots.report.cells.text import TITLES
from dots.report.places import competing, edge_markup, ends_markup, node_markup, place_markup
from dots_core.search.diagnostics import UNDECIDED
from dots_core.search_space.cell import CELL_TYPES
from dots_core.search_space.operations import DARTS, OPERATIONS

STYLES = 7
"""How many line styles the style sheet has beside those of the operations."""

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Charts:
    """The charts of one cell type in one stage, on one scale.

    Attributes
    ----------
    undecided : list of Chart
        Of edges whose operations weigh nearly the same.
    lines : list of Line
        What a legend must explain.
    """

    title: str
    shown: list[Chart]
    undecided: list[Chart]
    lines: list[Line]


def evolution_of(part: str, evolution: Sequence[Row]) -> tuple[list[Charts], list[tuple[str, str]]]:
    """Return the charts of ``"alpha"``, ``"beta"`` or ``"gamma"``, a grid a cell type and stage, and their legend."""
    draw = {"alpha": _alpha, "beta": _beta, "gamma": _gamma}[part]
    charts = []
    for stage in dict.fromkeys(row["stage"] for row in evolution):
        rows = [row for row in evolution if row["stage"] == stage and part in row]
        for kind in CELL_TYPES:
            if rows and kind in rows[-1][part]:
                charts.append(draw(rows, kind, f"{TITLES[kind]}, {stage} search"))
    return charts, sorted(keys_of([line for grid in charts for line in grid.lines]))


def _series(rows: Sequence[Row], *names: str) -> tuple[tuple[float, float], ...]:
    """What stands under the names in every row."""

    def leaf(of: Any) -> float:
        return float(reduce(getitem, names, of))

    return tuple((float(row["epoch"]), leaf(row)) for row in rows)


def _frame(series: Iterable[Sequence[tuple[float, float]]]) -> Frame:
    """One scale for all charts of a grid, so that they can be compared."""
    return Frame(limits=(0.0, max(value for points in series for _, value in points)), small=True)


def operation_style(operation: str) -> str:
    """Return the CSS class of an operation's line."""
    place = OPERATIONS.names.index(operation)
    return f"o{place}" if place < len(DARTS) else f"s{(place - len(DARTS)) % STYLES}"


def undecided(weights: Iterable[float]) -> bool:
    """Whether weights are nearly the same, by their entropy as a share of the largest possible."""
    found = list(weights)
    total = sum(found)
    entropy = -sum(p * math.log(p) for p in (weight / total for weight in found if weight > 0) if p > 0)
    return len(found) > 1 and entropy >= UNDECIDED * math.log(len(found))


def _alpha(rows: Sequence[Row], kind: str, title: str) -> Charts:
    edges = rows[-1]["alpha"][kind]
    derived = {
        f"{source}-{node}": operation
        for node, pairs in enumerate(rows[-1]["genotype"][kind], 2)
        for operation, source in pairs
    }
    lines = {
        edge: [Line(operation_style(o), o, _series(rows, "alpha", kind, edge, o)) for o in operations]
        for edge, operations in edges.items()
    }
    frame = _frame(line.points for of in lines.values() for line in of)
    grid = Charts(title, [], [], [line for of in lines.values() for line in of])
    for edge, operations in edges.items():
        caption = phrase("{} <small>{}</small>", edge_markup(edge), derived.get(edge, "not kept"))
        chart = Chart(caption, drawn(lines[edge], frame, f"α of edge {edge}"))
        (grid.undecided if undecided(operations.values()) else grid.shown).append(chart)
    return grid


def _beta(rows: Sequence[Row], kind: str, title: str) -> Charts:
    among, nodes = competing(rows[-1], kind), rows[-1]["beta"][kind]
    series = {node: {name: _series(rows, "beta", kind, node, name) for name in nodes[node]} for node in nodes}
    frame = _frame(points for of in series.values() for points in of.values())
    charts = []
    for node, weights in nodes.items():
        ranked = sorted(weights, key=lambda name: -weights[name])
        style = {name: f"s{place}" if place < STYLES else "rest" for place, name in enumerate(ranked)}
        # What is coloured lies on top of what is not.
        lines = [Line(style[name], f"edges from {name}", series[node][name]) for name in ranked[::-1]]
        strongest = ends_markup(ranked[0]), f"{weights[ranked[0]]:.2f}"
        caption = phrase("{} <small>{}: {}</small>", place_markup(node, among), *strongest)
        charts.append(Chart(caption, drawn(lines, frame, f"β of {'edge' if among == 'alone' else 'node'} {node}")))
    return Charts(title, charts, [], [])


def _gamma(rows: Sequence[Row], kind: str, title: str) -> Charts:
    nodes: dict[int, list[Line]] = {}
    for edge in rows[-1]["gamma"][kind]:
        source, target = map(int, edge.split("-"))
        label = f"from {('c(k−2)', 'c(k−1)')[source] if source < 2 else source - 2}"
        line = Line(f"s{source % STYLES}", label, _series(rows, "gamma", kind, edge))
        nodes.setdefault(target, []).append(line)
    frame = _frame(line.points for lines in nodes.values() for line in lines)
    charts = [
        Chart(phrase("into {}", node_markup(target)), drawn(lines, frame, f"γ of node {target}"))
        for target, lines in nodes.items()
    ]
    return Charts(title, charts, [], [line for lines in nodes.values() for line in lines])
