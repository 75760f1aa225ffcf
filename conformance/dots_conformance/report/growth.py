"""Growth curves: how far each engine drifts from the reference, beside the reference's own rounding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate

from markupsafe import Markup

from dots.pages.charts import Chart, Frame, Line, drawn
from dots.pages.environment import phrase
from dots_conformance.closeness import floor_of
from dots_conformance.comparison import Curve
from dots_conformance.report.summary import Column
from dots_conformance.report.verdict_cells import cell_class, cell_words
from dots_conformance.thresholds import DRAWN, GROWTH, ROUNDING

STYLES = 6
"""How many line styles the style sheet has for engines: colours with dashes."""

Keys = list[tuple[str, str]]


def growth_charts(engines: Sequence[Column], anchors: Mapping[str, str]) -> tuple[list[Chart], Keys]:
    """Return one chart for each free-running case and sort of array, all engines in each, and their legend."""
    found: dict[tuple[str, str], list[tuple[Column, Curve]]] = {}
    for case in anchors:
        for column in engines:
            verdict = column.engine.cases.get(case)
            for curve in verdict.curves if verdict is not None else ():
                if curve.steps:
                    found.setdefault((case, curve.sort), []).append((column, curve))
    charts = []
    for (case, sort), curves in found.items():
        title = f"{case}: {sort.partition('.')[2] or sort}"
        caption = phrase('<a href="#{}">{}</a>{}', anchors[case], title, _tags(case, curves))
        charts.append(Chart(caption, drawn(_lines(curves), Frame(logarithmic=True, axis="step"), title)))
    shown = {column.number: column for curves in found.values() for column, _ in curves}
    keys = [(_style(column), column.label) for _, column in sorted(shown.items())]
    return charts, [*keys, ("reference", "the reference's own rounding"), ("allowed", "what is allowed")]


def _tags(case: str, curves: Sequence[tuple[Column, Curve]]) -> Markup:
    """Which engines the case speaks against."""
    verdicts = [(column.label, column.engine.cases[case]) for column, _ in curves]
    return Markup("").join(
        phrase(' <span class="tag {}">{} {}</span>', cell_class(verdict), label, cell_words(verdict))
        for label, verdict in verdicts
        if not verdict.agrees
    )


def _lines(found: Sequence[tuple[Column, Curve]]) -> list[Line]:
    own: dict[str, Curve] = {}
    lines = []
    for precision in dict.fromkeys(column.engine.manifest.precision for column, _ in found):
        curves = [curve for column, curve in found if column.engine.manifest.precision == precision]
        longest = max(curves, key=lambda curve: len(curve.steps))
        floor = floor_of(f"{longest.sort}/", precision)
        rounding = ROUNDING[precision] * GROWTH
        allowed = [max(rounding * error, floor) for error in accumulate(longest.reference, max)]
        points = tuple(zip(_places(longest.steps), allowed, strict=True))
        lines.append(Line("allowed", f"what is allowed in {precision}", points))
        own.setdefault(DRAWN[precision], longest)
    for drawn_in, longest in own.items():
        points = tuple(zip(_places(longest.steps), longest.reference, strict=True))
        lines.append(Line("reference", f"the reference's own {drawn_in}", points))
    for column, curve in found:
        points = tuple(zip(_places(curve.steps), curve.engine, strict=True))
        lines.append(Line(_style(column), column.label, points))
    return lines


def _places(steps: Sequence[str]) -> list[float]:
    return [float(step) if step.isdecimal() else float(number) for number, step in enumerate(steps, start=1)]


def _style(column: Column) -> str:
    return f"s{column.number % STYLES}"
