"""How α, β and γ developed: one small chart for each edge or node of each cell type in each stage."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dots.pages.charts import Chart, Frame, Line, drawn, keys_of
from dots.pages.environment import phrase
from dots.report.cells.text import TITLES
from dots.report.places import competing, edge_markup, ends_markup, node_markup, place_markup
from dots_core.search.diagnostics import UNDECIDED
from dots_core.search_space.cell import CELL_TYPES
from dots_core.search_space.operations import OPERATIONS

STYLES = 7
"""How many line styles the style sheet has beside those of the operations."""

OPERATION_STYLES = 8

Row = Mapping[str, Any]
_Weights = dict[tuple[str, ...], tuple[tuple[float, float], ...]]


@dataclass(frozen=True)
class Charts:
    """The charts of one cell type in one stage, on one scale.

    Attributes
    ----------
    undecided : list of Chart
        Of edges whose operations weigh nearly the same.
    """

    title: str
    shown: list[Chart]
    undecided: list[Chart]


@dataclass(frozen=True)
class Part:
    """The charts of α, β or γ, and the legend they share, which may be empty."""

    anchor: str
    title: str
    note: str
    keys: tuple[tuple[str, str], ...]
    charts: list[Charts]


_Drawn = tuple[list[Line], Charts]


def evolution_parts(evolution: Sequence[Row]) -> list[Part]:
    """Return what is to be shown of α, β and γ; nothing without rows."""
    parts = []
    for name, title, note, draw in _PARTS:
        lines: list[Line] = []
        charts = []
        for stage in dict.fromkeys(row["stage"] for row in evolution):
            rows = [row for row in evolution if row["stage"] == stage and name in row]
            for kind in CELL_TYPES:
                if rows and kind in rows[-1][name]:
                    legend, found = draw(rows, kind, f"{TITLES[kind]}, {stage} search")
                    lines += legend
                    charts.append(found)
        if charts:
            parts.append(Part(name, title, note, tuple(sorted(keys_of(lines))), charts))
    return parts


def _series(rows: Sequence[Row], part: str, kind: str) -> _Weights:
    """The weights of every edge, node or combination over the epochs, by the names they have last."""

    def leaves(of: Mapping[str, Any], names: tuple[str, ...] = ()) -> Iterable[tuple[str, ...]]:
        for name, value in of.items():
            yield from leaves(value, (*names, name)) if isinstance(value, Mapping) else [(*names, name)]

    def value_of(row: Row, names: tuple[str, ...]) -> float:
        value = row[part][kind]
        for name in names:
            value = value[name]
        return float(value)

    return {
        names: tuple((float(row["epoch"]), value_of(row, names)) for row in rows)
        for names in leaves(rows[-1][part][kind])
    }


def _frame(series: _Weights) -> Frame:
    """One scale for all charts of a grid, so that they can be compared."""
    return Frame(limits=(0.0, max(value for points in series.values() for _, value in points)), small=True)


def operation_style(operation: str) -> str:
    """Return the CSS class of an operation's line."""
    return f"o{OPERATIONS.index(operation) % OPERATION_STYLES}"


def undecided(weights: Iterable[float]) -> bool:
    """Whether weights are nearly the same, by their entropy as a share of the largest possible."""
    found = list(weights)
    total = sum(found)
    entropy = -sum(p * math.log(p) for p in (weight / total for weight in found if weight > 0) if p > 0)
    return len(found) > 1 and entropy >= UNDECIDED * math.log(len(found))


def _alpha(rows: Sequence[Row], kind: str, title: str) -> _Drawn:
    edges = rows[-1]["alpha"][kind]
    derived = {
        f"{source}-{node}": operation
        for node, pairs in enumerate(rows[-1]["genotype"][kind], 2)
        for operation, source in pairs
    }
    series = _series(rows, "alpha", kind)
    frame = _frame(series)
    legend: list[Line] = []
    shown: list[Chart] = []
    folded: list[Chart] = []
    for name, operations in edges.items():
        lines = [Line(operation_style(o), o, series[name, o]) for o in operations]
        caption = phrase("{} <small>{}</small>", edge_markup(name), derived.get(name, "not kept"))
        chart = Chart(caption, drawn(lines, frame, f"α of edge {name}"))
        (folded if undecided(operations.values()) else shown).append(chart)
        legend += lines
    return legend, Charts(title, shown, folded)


def _beta(rows: Sequence[Row], kind: str, title: str) -> _Drawn:
    among = competing(rows[-1], kind)
    series = _series(rows, "beta", kind)
    frame = _frame(series)
    charts = []
    for node, weights in rows[-1]["beta"][kind].items():
        ranked = sorted(weights, key=lambda name: -weights[name])
        style = {name: f"s{place}" if place < STYLES else "rest" for place, name in enumerate(ranked)}
        # What is coloured lies on top of what is not.
        lines = [Line(style[name], f"edges from {name}", series[node, name]) for name in ranked[::-1]]
        strongest = ends_markup(ranked[0]), f"{weights[ranked[0]]:.2f}"
        caption = phrase("{} <small>{}: {}</small>", place_markup(node, among), *strongest)
        what = f"edge {node}" if among == "alone" else f"node {node}"
        charts.append(Chart(caption, drawn(lines, frame, f"β of {what}")))
    return [], Charts(title, charts, [])


def _gamma(rows: Sequence[Row], kind: str, title: str) -> _Drawn:
    series = _series(rows, "gamma", kind)
    frame = _frame(series)
    nodes: dict[int, list[Line]] = {}
    for (name,), points in series.items():
        source, target = map(int, name.split("-"))
        label = f"from {('c(k−2)', 'c(k−1)')[source] if source < 2 else source - 2}"
        nodes.setdefault(target, []).append(Line(f"s{source % STYLES}", label, points))
    charts = [
        Chart(phrase("into {}", node_markup(target)), drawn(lines, frame, f"γ of node {target}"))
        for target, lines in nodes.items()
    ]
    return [line for lines in nodes.values() for line in lines], Charts(title, charts, [])


_PARTS: tuple[tuple[str, str, str, Callable[[Sequence[Row], str, str], _Drawn]], ...] = (
    (
        "alpha",
        "Operation weights α",
        "Weights of the operations on each edge after the softmax, at the temperature of the epoch. "
        "The operation that would be derived last is named. Edges whose operations weigh nearly the same are folded.",
        _alpha,
    ),
    (
        "beta",
        "Edge-combination weights β",
        "Weights of the combinations of edges that compete, at the temperature of the epoch; a combination is named "
        "by the edges' other ends. The strongest at the end are coloured, the strongest is named.",
        _beta,
    ),
    (
        "gamma",
        "Edge weights γ",
        "What each edge's output is multiplied by: its share in the combinations, γ = A · softmax(β′ / T).",
        _gamma,
    ),
)
