"""Pictures of a study's results, as SVG; equal results give equal bytes."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import TYPE_CHECKING, Any

from dots.report.cells.figure import styled
from dots.study.study import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LETTERS_AN_INCH = 11
"""Letters of a title that fit into an inch of a figure."""

_LEVEL_LABELS = 6
"""Names beside each other that do not run into one another; more are slanted."""

_PALE = "#7a9cc6"
"""Of single runs and of spreads; told from the paper on white and, inverted, on black."""

_SETTINGS = {
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial", "sans-serif"],
    "svg.fonttype": "none",
    "svg.hashsalt": "dots",
    "axes.spines.top": False,
    "axes.spines.right": False,
}


@dataclass(frozen=True)
class Panel:
    """Points of one scatter plot.

    Attributes
    ----------
    points : tuple of (label, x, row)
    """

    title: str
    x_label: str
    points: tuple[tuple[str, float, Row], ...]


def scatter(panels: Sequence[Panel]) -> str:
    """Draw panels side by side: accuracy, with its standard deviation, against a predicted importance."""

    def paint(figure: Figure) -> None:
        for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            for label, x, row in panel.points:
                axes.errorbar(x, 100 * row.mean, yerr=_percent(row), fmt="o", color="C0", ecolor=_PALE, markersize=4)
                axes.annotate(label, (x, 100 * row.mean), xytext=(4, 4), textcoords="offset points", fontsize=7)
            axes.set_title(panel.title, fontsize=10)
            axes.set_xlabel(panel.x_label)
            axes.set_ylabel("accuracy (%)")
            axes.margins(x=0.12)

    return _svg((4.6 * len(panels), 3.8), paint)


def ranked(rows: Sequence[Row], title: str) -> str:
    """Draw the accuracies of many rows in ascending order."""

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        ordered = sorted(rows, key=lambda row: row.mean)
        for place, row in enumerate(ordered, start=1):
            axes.errorbar(place, 100 * row.mean, yerr=_percent(row), fmt="o", color="C0", ecolor=_PALE, markersize=2)
        axes.locator_params("x", integer=True)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("rank, worst first")
        axes.set_ylabel("accuracy (%)")

    return _svg((6.4, 3.8), paint)


def compared(rows: Sequence[Row], title: str) -> str:
    """Draw the rows of an ablation: each run as a point, mean and standard deviation beside them."""

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for place, row in enumerate(rows):
            values = [100 * accuracy for accuracy in row.accuracies]
            axes.plot([place] * len(values), values, "o", color=_PALE, markersize=4)
            axes.errorbar(place + 0.15, 100 * row.mean, yerr=_percent(row), fmt="s", color="C0", markersize=5)
        labels = axes.set_xticks(range(len(rows)), [row.name for row in rows], fontsize=8)
        if many:
            for label in labels:
                label.label1.set(rotation=45, horizontalalignment="right", rotation_mode="anchor")
        axes.set_title(fill(title, int(_LETTERS_AN_INCH * width)), fontsize=10)
        axes.set_ylabel("accuracy (%)")
        axes.margins(x=0.3 / len(rows))

    many = len(rows) > _LEVEL_LABELS
    width = max(4.8, (0.45 if many else 1.3) * len(rows))
    return _svg((width, 4.6 if many else 3.8), paint)


def _percent(row: Row) -> float | None:
    return None if row.deviation is None else 100 * row.deviation


def _svg(size: tuple[float, float], paint: Callable[[Figure], None]) -> str:
    # Matplotlib takes a second to load, which only a picture is worth.
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    content = io.BytesIO()
    settings: Any = _SETTINGS
    with styled(settings):
        figure = Figure(figsize=size, layout="constrained")
        paint(figure)
        FigureCanvasSVG(figure).print_svg(content, metadata={"Date": None, "Creator": None})
    return content.getvalue().decode("utf-8")
