"""Line charts over epochs as SVG, written by hand: equal lines give equal text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from dots.report.markup import text

_MOST_TICKS = 5
_ROUND_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0, 20.0)


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Attributes
    ----------
    kind : str
        CSS classes.
    label : str
    points : tuple of (float, float)
        Epoch and value.
    single : bool
        Whether the points stand alone, no line joining them.
    """

    kind: str
    label: str
    points: tuple[tuple[float, float], ...]
    single: bool = False


@dataclass(frozen=True)
class Frame:
    """Size and scales of a chart.

    Attributes
    ----------
    limits : (float, float), optional
        Of the values; by default what the lines need.
    logarithmic : bool
        For values above 0; others are left out.
    marks : tuple of (float, str)
        Vertical lines between epochs, for example where a stage begins, and what each says.
    small : bool
        One of many: fewer ticks, no word below the axis.
    """

    limits: tuple[float, float] | None = None
    logarithmic: bool = False
    marks: tuple[tuple[float, str], ...] = ()
    small: bool = False


def figure(caption: str, lines: Sequence[Line], frame: Frame, title: str) -> str:
    """Return a captioned chart.

    Parameters
    ----------
    caption : str
        Markup.
    title : str
        Plain text, for who cannot see the lines.
    """
    return f"<figure><figcaption>{caption}</figcaption>{chart(lines, frame, title)}</figure>\n"


def key(lines: Sequence[tuple[str, str]]) -> str:
    """Return a legend of (CSS classes, label) pairs."""
    marks = "".join(
        f'<span><svg width="34" height="10" aria-hidden="true"><path class="{kind}" d="M1 5H33"/></svg> '
        f"{text(label)}</span>"
        for kind, label in lines
    )
    return f'<p class="keys">{marks}</p>\n'


def chart(lines: Sequence[Line], frame: Frame, title: str) -> str:
    """Draw lines over epochs; a value that is missing or, on a logarithmic scale, not above 0 breaks none."""
    width, height = (220, 120) if frame.small else (380, 210)
    left, right, top, bottom = (26, 6, 8, 16) if frame.small else (48, 10, 10, 30)
    lines = [replace(line, points=_drawable(line.points, frame.logarithmic)) for line in lines]
    values = [value for line in lines for _, value in line.points]
    if not values:
        return f'<svg viewBox="0 0 {width} {height}" role="img"><title>{text(title)}: nothing to draw</title></svg>'
    epochs = [epoch for line in lines for epoch, _ in line.points]
    first, last = min(epochs), max(epochs)
    ticks = decades(values) if frame.logarithmic else linear_ticks(*(frame.limits or (min(values), max(values))))
    if frame.small and not frame.logarithmic:
        ticks = [ticks[0], ticks[-1]]

    def x(epoch: float) -> float:
        share = (epoch - first) / (last - first) if last > first else 0.5
        return left + share * (width - left - right)

    def scaled(value: float) -> float:
        return math.log10(value) if frame.logarithmic else value

    low, high = scaled(ticks[0]), scaled(ticks[-1])

    def y(value: float) -> float:
        share = (min(max(scaled(value), low), high) - low) / (high - low)
        return height - bottom - share * (height - top - bottom)

    parts = [f'<svg viewBox="0 0 {width} {height}" role="img"><title>{text(title)}</title>']
    for tick in ticks:
        at = y(tick)
        parts.append(f'<path class="grid" d="M{left} {at:.1f}H{width - right}"/>')
        parts.append(f'<text x="{left - 4}" y="{at + 3.5:.1f}" class="ty">{tick:g}</text>')
    for epoch in dict.fromkeys((first, last)):
        parts.append(f'<text x="{x(epoch):.1f}" y="{height - bottom + 12}" class="tx">{epoch:g}</text>')
    if not frame.small:
        parts.append(f'<text x="{(left + width - right) / 2:.1f}" y="{height - 3}" class="tx">epoch</text>')
    for place, label in frame.marks:
        if first < place < last:
            parts.append(
                f'<path class="mark" d="M{x(place):.1f} {top}V{height - bottom}"><title>{text(label)}</title></path>'
            )
    for line in lines:
        if line.points:
            # A path of one point is drawn only if it goes somewhere.
            dot = "h.01" if line.single or len(line.points) == 1 else ""
            join = f"{dot}M" if line.single else "L"
            path = join.join(f"{x(epoch):.1f} {y(value):.1f}" for epoch, value in line.points) + dot
            parts.append(f'<path class="{line.kind}" d="M{path}"><title>{text(line.label)}</title></path>')
    return "".join(parts) + "</svg>"


def _drawable(points: Sequence[tuple[float, float]], logarithmic: bool) -> tuple[tuple[float, float], ...]:
    return tuple((e, v) for e, v in points if math.isfinite(v) and (v > 0 or not logarithmic))


def linear_ticks(low: float, high: float) -> list[float]:
    """Return a few round numbers, evenly spaced, the first at most ``low`` and the last at least ``high``."""
    largest = max(1.0, abs(low), abs(high))
    if high - low <= 1e-9 * largest:  # closer than what can be told apart, or equal
        low, high = low - largest / 2, high + largest / 2
    power = 10.0 ** math.floor(math.log10((high - low) / _MOST_TICKS))
    for multiple in _ROUND_STEPS:
        step = multiple * power
        # The quotient of two decimal fractions may fall short of a whole number by a rounding.
        begin, end = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        if end - begin <= _MOST_TICKS:
            break
    return [round(number * step, 12) for number in range(begin, end + 1)]


def decades(values: Sequence[float]) -> list[float]:
    """Return powers of ten, the first at most the least value and the last at least the largest, all above 0."""
    low, high = math.floor(math.log10(min(values)) + 1e-9), math.ceil(math.log10(max(values)) - 1e-9)
    high = max(high, low + 1)
    stride = math.ceil((high - low) / _MOST_TICKS)
    count = math.ceil((high - low) / stride)
    return [10.0 ** (low + number * stride) for number in range(count + 1)]
