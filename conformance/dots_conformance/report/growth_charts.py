"""Growth curves: how far each engine drifts from the reference, beside the reference's own float32."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from dots.report.markup import section, text
from dots_conformance.closeness import floor_of
from dots_conformance.comparison import Curve
from dots_conformance.report.summary import Column
from dots_conformance.report.verdict_cells import cell_class, cell_words
from dots_conformance.report.wording import number_text
from dots_conformance.thresholds import GROWTH, ROUNDING

STYLES = 6
"""How many line styles the style sheet has for engines: colours with dashes."""

_WIDTH, _HEIGHT = 360, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 10, 30
_MOST_TICKS = 7


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Attributes
    ----------
    kind : str
        CSS classes.
    label : str
    points : tuple of (float, float)
        Step and relative error.
    """

    kind: str
    label: str
    points: tuple[tuple[float, float], ...]


def growth_charts(engines: Sequence[Column], anchors: Mapping[str, str]) -> str:
    """Return one chart for each free-running case and sort of array, all engines in each; empty without any."""
    charts: dict[tuple[str, str], list[tuple[Column, Curve]]] = {}
    for case in anchors:
        for column in engines:
            verdict = column.engine.cases.get(case)
            for curve in verdict.curves if verdict is not None else ():
                if curve.steps:
                    charts.setdefault((case, curve.sort), []).append((column, curve))
    if not charts:
        return ""
    drawn = []
    for (case, sort), found in charts.items():
        tags = "".join(
            f' <span class="tag {cell_class(column.engine.cases[case])}">{text(column.label)} '
            f"{text(cell_words(column.engine.cases[case]))}</span>"
            for column, _ in found
            if not column.engine.cases[case].agrees
        )
        title = f"{case}: {sort.partition('.')[2] or sort}"
        drawn.append(
            f'<figure><figcaption><a href="#{anchors[case]}">{text(title)}</a>{tags}</figcaption>'
            f"{chart(_lines(found), title)}</figure>\n"
        )
    shown = {column.number: column for found in charts.values() for column, _ in found}
    keys = [_key(_style(column), column.label) for _, column in sorted(shown.items())]
    keys += [_key("reference", "the reference's own float32"), _key("allowed", "what is allowed")]
    note = (
        "<p>Relative distance from the float64 reference, step by step, on a logarithmic scale. "
        "An engine is expected near the reference's own float32; above what is allowed it fails.</p>\n"
    )
    return section(
        "growth", "Growth", note, f'<p class="keys">{"".join(keys)}</p>\n<div class="charts">{"".join(drawn)}</div>\n'
    )


def _lines(found: Sequence[tuple[Column, Curve]]) -> list[Line]:
    longest = max((curve for _, curve in found), key=lambda curve: len(curve.steps))
    places = _places(longest.steps)
    lines = []
    for precision in dict.fromkeys(column.engine.manifest.precision for column, _ in found):
        floor = floor_of(f"{longest.sort}/", precision)
        rounding = ROUNDING.get(precision, 1.0) * GROWTH
        allowed = [max(rounding * own, floor) for own in accumulate(longest.reference, max)]
        points = tuple(zip(places, allowed, strict=True))
        lines.append(Line("allowed", f"what is allowed in {precision}", points))
    lines.append(Line("reference", "the reference's own float32", tuple(zip(places, longest.reference, strict=True))))
    for column, curve in found:
        points = tuple(zip(_places(curve.steps), curve.engine, strict=True))
        lines.append(Line(_style(column), column.label, points))
    return lines


def _places(steps: Sequence[str]) -> list[float]:
    return [float(step) if step.isdecimal() else float(number) for number, step in enumerate(steps, start=1)]


def _style(column: Column) -> str:
    return f"s{column.number % STYLES}"


def _key(kind: str, label: str) -> str:
    return (
        f'<span><svg width="34" height="10" aria-hidden="true"><path class="{kind}" d="M1 5H33"/></svg> '
        f"{text(label)}</span>"
    )


def chart(lines: Sequence[Line], title: str) -> str:
    """Draw lines over steps, errors on a logarithmic scale.

    An error of zero stands on the lower edge, one that is not finite on the upper edge.
    """
    errors = [error for line in lines for _, error in line.points]
    low, high = decades(errors)
    steps = [step for line in lines for step, _ in line.points]
    first, last = min(steps), max(steps)

    def x(step: float) -> float:
        share = (step - first) / (last - first) if last > first else 0.5
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def height(power: float) -> float:
        share = (min(max(power, low), high) - low) / (high - low)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    def y(error: float) -> float:
        return height(high if not math.isfinite(error) else math.log10(error) if error > 0 else low)

    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img"><title>{text(title)}</title>']
    stride = math.ceil((high - low) / _MOST_TICKS)
    for power in range(low, high + 1, stride):
        at = height(power)
        parts.append(f'<path class="grid" d="M{_LEFT} {at:.1f}H{_WIDTH - _RIGHT}"/>')
        parts.append(f'<text x="{_LEFT - 5}" y="{at + 3.5:.1f}" class="ty">1e{power}</text>')
    for step in dict.fromkeys((first, last)):
        parts.append(f'<text x="{x(step):.1f}" y="{_HEIGHT - 12}" class="tx">{number_text(step)}</text>')
    parts.append(f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2:.1f}" y="{_HEIGHT - 3}" class="tx">step</text>')
    for line in lines:
        path = "L".join(f"{x(step):.1f} {y(error):.1f}" for step, error in line.points)
        # A path of one point is drawn only if it goes somewhere.
        path += "h.01" if len(line.points) == 1 else ""
        parts.append(f'<path class="{line.kind}" d="M{path}"><title>{text(line.label)}</title></path>')
        lost = next((step for step, error in line.points if not math.isfinite(error)), None)
        if lost is not None:
            parts.append(f'<text x="{x(lost):.1f}" y="{_TOP + 9}" class="tx">not finite</text>')
    return "".join(parts) + "</svg>"


def decades(errors: Sequence[float]) -> tuple[int, int]:
    """Return the powers of ten between which all errors lie that have a logarithm."""
    powers = [math.log10(error) for error in errors if math.isfinite(error) and error > 0]
    if not powers:
        return -8, 0
    low, high = math.floor(min(powers)), math.ceil(max(powers))
    return low, max(high, low + 1)
