"""Line charts as SVG; equal lines give equal text."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from dots.pages.environment import render
from dots.pages.scales import decade_ticks, decades, linear_ticks


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Attributes
    ----------
    kind : str
        CSS classes.
    label : str
        Lines of one kind and label are one entry of a legend.
    points : tuple of (float, float)
        Epoch or step, and value.
    single : bool
        Whether the points stand alone, no line joining them.
    """

    kind: str
    label: str
    points: tuple[tuple[float, float], ...]
    single: bool = False


@dataclass(frozen=True)
class Mark:
    """An upright line between epochs, for example where a stage begins, and what it says."""

    place: float
    label: str


@dataclass(frozen=True)
class Frame:
    """Size and scales of a chart.

    Attributes
    ----------
    limits : (float, float), optional
        Of the values on a linear scale; by default what the lines need. What lies beyond stands on an edge.
    logarithmic : bool
        Values of 0 and below stand on the lower edge.
    marks : tuple of Mark
    small : bool
        One of many: fewer ticks, no word below the axis.
    axis : str
        The word below the axis.
    """

    limits: tuple[float, float] | None = None
    logarithmic: bool = False
    marks: tuple[Mark, ...] = ()
    small: bool = False
    axis: str = "epoch"


@dataclass(frozen=True)
class Chart:
    """A drawn chart in a page.

    Attributes
    ----------
    caption : str or Markup
    drawing : Markup
        The SVG.
    keys : tuple of (str, str)
        The legend: CSS classes and label of its lines.
    """

    caption: str | Markup
    drawing: Markup
    keys: tuple[tuple[str, str], ...] = ()


def keys_of(lines: Sequence[Line]) -> tuple[tuple[str, str], ...]:
    """Return the legend of lines, each kind and label once."""
    return tuple(dict.fromkeys((line.kind, line.label) for line in lines))


def drawn(lines: Sequence[Line], frame: Frame, title: str) -> Markup:
    """Draw lines.

    A value that is not finite stands on the upper edge and is said to be so.

    Parameters
    ----------
    title : str
        For who cannot see the lines.
    """
    width, height = (220, 120) if frame.small else (380, 210)
    left, right, top, bottom = (26, 6, 8, 16) if frame.small else (48, 10, 10, 30)
    values = [value for line in lines for _, value in line.points]
    labels = _labels(values, frame)
    lowest, highest = labels[0][0], labels[-1][0]
    places = [place for line in lines for place, _ in line.points] or [0.0]
    first, last = min(places), max(places)

    def x(place: float) -> float:
        share = (place - first) / (last - first) if last > first else 0.5
        return round(left + share * (width - left - right), 1)

    def y(scaled: float) -> float:
        share = (min(max(scaled, lowest), highest) - lowest) / (highest - lowest)
        return round(height - bottom - share * (height - top - bottom), 1)

    def height_of(value: float) -> float:
        if not math.isfinite(value):
            return y(highest)
        if not frame.logarithmic:
            return y(value)
        return y(math.log10(value) if value > 0 else lowest)

    lost = (next((place for place, value in line.points if not math.isfinite(value)), None) for line in lines)
    return render(
        __package__,
        "chart.svg.jinja",
        box={"width": width, "height": height, "left": left, "right": width - right, "top": top,
             "bottom": height - bottom},
        title=title if values else f"{title}: nothing to draw",
        ticks=[(y(at), label) for at, label in labels] if values else [],
        ends=[(x(place), f"{place:g}") for place in dict.fromkeys((first, last))] if values else [],
        axis="" if frame.small or not values else frame.axis,
        marks=[(x(mark.place), mark.label) for mark in frame.marks if first < mark.place < last],
        paths=[(_kind(line), _path(line, x, height_of), line.label) for line in lines if line.points],
        lost=[x(place) for place in lost if place is not None],
    )  # fmt: skip


def _labels(values: Sequence[float], frame: Frame) -> list[tuple[float, str]]:
    """Where on the scale, or its logarithm, ticks stand, and what they say."""
    finite = [value for value in values if math.isfinite(value)] or [0.0]
    if frame.logarithmic:
        ticks = decade_ticks(*decades(values))
        below = "≤ " if min(finite) <= 0 else ""
        return [(power, f"{below * (place == 0)}1e{power}") for place, power in enumerate(ticks)]
    found = linear_ticks(*(frame.limits or (min(finite), max(finite))))
    return [(tick, f"{tick:g}") for tick in ([found[0], found[-1]] if frame.small else found)]


def _kind(line: Line) -> str:
    return f"{line.kind} points" if line.single or len(line.points) == 1 else line.kind


def _path(line: Line, x: Callable[[float], float], y: Callable[[float], float]) -> str:
    # A path of one point is drawn only if it goes somewhere.
    dot = "h.01" if line.single or len(line.points) == 1 else ""
    join = f"{dot}M" if line.single else "L"
    return "M" + join.join(f"{x(place)} {y(value)}" for place, value in line.points) + dot
