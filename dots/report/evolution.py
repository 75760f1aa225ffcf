"""How α, β and γ developed: one small chart for each edge or node of each cell type in each stage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dots.report.cell_figure import TITLES
from dots.report.charts import Frame, Line, figure, key
from dots.report.markup import node_markup, section
from dots.report.places import competing, ends_markup, place_markup
from dots_core.search_space.cell import CELL_TYPES
from dots_core.search_space.operations import OPERATIONS

STYLES = 7
"""How many line styles the style sheet has beside those of the operations."""

Row = Mapping[str, Any]


def evolution_sections(evolution: Sequence[Row]) -> str:
    """Return the sections on α, β and γ; empty without rows."""
    return "".join(
        section(anchor, title, f"<p>{note}</p>\n", drawn)
        for anchor, title, note, drawn in (
            ("alpha", "Operation weights α", _ALPHA, _stages(evolution, "alpha", _alpha)),
            ("beta", "Edge-combination weights β", _BETA, _stages(evolution, "beta", _beta)),
            ("gamma", "Edge weights γ", _GAMMA, _stages(evolution, "gamma", _gamma)),
        )
        if drawn
    )


_ALPHA = (
    "Weights of the operations on each edge after the softmax, at the temperature of the epoch. "
    "The operation that would be derived last is named."
)
_BETA = (
    "Weights of the combinations of edges that compete, at the temperature of the epoch; a combination is named "
    "by the edges' other ends. The strongest at the end are coloured, the strongest is named."
)
_GAMMA = "What each edge's output is multiplied by: its share in the combinations, γ = A · softmax(β′ / T)."


def _stages(evolution: Sequence[Row], part: str, draw: Any) -> str:
    drawn = []
    for stage in dict.fromkeys(row["stage"] for row in evolution):
        rows = [row for row in evolution if row["stage"] == stage and part in row]
        for kind in CELL_TYPES:
            if rows and kind in rows[-1][part]:
                drawn.append(f"<h3>{TITLES[kind]}, {stage} search</h3>\n{draw(rows, kind)}")
    return "".join(drawn)


def _series(rows: Sequence[Row], part: str, kind: str, *keys: str) -> tuple[tuple[float, float], ...]:
    points = []
    for row in rows:
        value = row[part][kind]
        for name in keys:
            value = value[name]
        points.append((float(row["epoch"]), float(value)))
    return tuple(points)


def _frame(series: Iterable[Sequence[tuple[float, float]]]) -> Frame:
    """One scale for all charts of a grid, so that they can be compared."""
    return Frame(limits=(0.0, max(value for points in series for _, value in points)), small=True)


def _grid(figures: Iterable[str]) -> str:
    return f'<div class="many">{"".join(figures)}</div>\n'


def operation_style(operation: str) -> str:
    """Return the CSS class of an operation's line."""
    return f"o{OPERATIONS.index(operation)}"


def _alpha(rows: Sequence[Row], kind: str) -> str:
    edges = rows[-1]["alpha"][kind]
    genotype = rows[-1]["genotype"][kind]
    derived = {(source, node): operation for node, pairs in enumerate(genotype, 2) for operation, source in pairs}
    used = [o for o in OPERATIONS if any(o in operations for operations in edges.values())]
    series = {(name, o): _series(rows, "alpha", kind, name, o) for name in edges for o in edges[name]}
    frame = _frame(series.values())
    figures = []
    for name, operations in edges.items():
        source, target = map(int, name.split("-"))
        kept = derived.get((source, target))
        caption = f"{node_markup(source)} → {node_markup(target)} <small>{kept or 'not kept'}</small>"
        lines = [Line(operation_style(o), o, series[name, o]) for o in operations]
        figures.append(figure(caption, lines, frame, f"α of edge {name}"))
    return key([(operation_style(o), o) for o in used]) + _grid(figures)


def _beta(rows: Sequence[Row], kind: str) -> str:
    nodes = rows[-1]["beta"][kind]
    among = competing(rows[-1], kind)
    series = {(node, name): _series(rows, "beta", kind, node, name) for node in nodes for name in nodes[node]}
    frame = _frame(series.values())
    figures = []
    for node, weights in nodes.items():
        ranked = sorted(weights, key=lambda name: -weights[name])
        style = {name: f"s{place}" if place < STYLES else "rest" for place, name in enumerate(ranked)}
        # What is coloured lies on top of what is not.
        lines = [Line(style[name], f"edges from {name}", series[node, name]) for name in ranked[::-1]]
        caption = f"{place_markup(node, among)} <small>{ends_markup(ranked[0])}: {weights[ranked[0]]:.2f}</small>"
        what = f"edge {node}" if among == "alone" else f"node {node}"
        figures.append(figure(caption, lines, frame, f"β of {what}"))
    return _grid(figures)


def _gamma(rows: Sequence[Row], kind: str) -> str:
    nodes: dict[int, list[Line]] = {}
    sources: set[int] = set()
    for name in rows[-1]["gamma"][kind]:
        source, target = map(int, name.split("-"))
        sources.add(source)
        line = Line(f"s{source % STYLES}", f"edge {name}", _series(rows, "gamma", kind, name))
        nodes.setdefault(target, []).append(line)
    names = [(f"s{source % STYLES}", f"from {_plain(source)}") for source in sorted(sources)]
    frame = _frame(line.points for lines in nodes.values() for line in lines)
    return key(names) + _grid(
        figure(f"into {node_markup(target)}", lines, frame, f"γ of node {target}") for target, lines in nodes.items()
    )


def _plain(node: int) -> str:
    return ("c(k−2)", "c(k−1)")[node] if node < 2 else str(node - 2)
