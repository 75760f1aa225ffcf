"""Cells as PNG and SVG files."""

from __future__ import annotations

import contextlib
import io
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dots.report.cells.layout import Layout, family, layout_of
from dots.report.cells.text import TITLES, dot_text
from dots_core.errors import UsageError, quoted
from dots_core.search_space.cell import CELL_TYPES
from dots_core.search_space.genotype import Genotype
from dots_core.storage.atomic import FULL, cannot_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = (".png", ".svg")
_DRAWING = threading.Lock()

_MARGIN = 0.25
_TITLE = 0.36

_INK = "#222222"
# By an operation's family, or by what else a line or a node is.
_LINES = {"convolution": "#2f6db5", "pool": "#c46210", "skip": "#2e8b57", "plain": "#6a727d", "concat": "#aab1ba"}
_FILLS = {
    "convolution": "#dceafa", "pool": "#fde6d2", "skip": "#d9f2e3",
    "input": "#e4e7eb", "node": "#fff3c9", "output": "#e4e7eb",
}  # fmt: skip


@contextlib.contextmanager
def styled(settings: Any) -> Iterator[None]:
    """Draw with settings of Matplotlib, which has one set for all threads: one thread draws at a time."""
    from matplotlib import rc_context

    with _DRAWING, rc_context(settings):
        yield


def draw(genotype: Genotype, path: str | os.PathLike[str]) -> None:
    """Draw both cells into one figure; equal genotypes give equal bytes.

    Parameters
    ----------
    path : path
        Ends in ``.png``, ``.svg`` or ``.dot`` (Graphviz), which chooses the format. In an SVG labels stay text.

    Raises
    ------
    UsageError
        If the path ends otherwise or cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (*FORMATS, ".dot"):
        raise UsageError(f"cannot draw '{quoted(path.name)}': the name must end in {', '.join(FORMATS)} or .dot")
    content = dot_text(genotype).encode() if suffix == ".dot" else picture(genotype, suffix)
    try:
        path.write_bytes(content)
    except OSError as error:
        if error.errno in FULL:
            raise cannot_write(path, error, "draw it again") from None
        raise UsageError(f"cannot write the picture {quoted(str(path))}: {error.strerror}") from None


def picture(genotype: Genotype, suffix: str) -> bytes:
    """Return what `draw` writes into a file whose name ends in the suffix, one of `FORMATS`."""
    # Matplotlib takes a second to load, which only a picture is worth.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    settings: Any = {
        # DejaVu comes with Matplotlib; who views an SVG may lack it.
        "font.family": ["sans-serif"],
        "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial", "sans-serif"],
        "mathtext.fontset": "dejavusans",
        "text.usetex": False,
        "path.sketch": None,
        "savefig.bbox": None,
        "svg.fonttype": "none",
        "svg.hashsalt": "dots",
    }
    content = io.BytesIO()
    with styled(settings):
        figure = _figure([(TITLES[kind], layout_of(genotype.cell(kind))) for kind in CELL_TYPES])
        if suffix == ".svg":
            FigureCanvasSVG(figure).print_svg(content, metadata={"Date": None, "Creator": None})
        else:
            FigureCanvasAgg(figure).print_png(content, metadata={"Software": None})
    return content.getvalue()


def _figure(cells: Sequence[tuple[str, Layout]]) -> Figure:
    """Build the figure, the cells below one another."""
    from matplotlib.figure import Figure
    from matplotlib.patches import FancyBboxPatch, PathPatch, Polygon
    from matplotlib.path import Path as Curve

    width = max(layout.width for _, layout in cells) + 2 * _MARGIN
    height = sum(layout.height + _TITLE + 2 * _MARGIN for _, layout in cells)
    figure = Figure(figsize=(width, height), dpi=200, facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.set_axis_off()

    def line(curve: Curve, colour: str, thick: float, order: float) -> None:
        style = {"linewidth": thick, "capstyle": "butt", "joinstyle": "round", "zorder": order}
        axes.add_patch(PathPatch(curve, fill=False, edgecolor=colour, **style))

    def text(x: float, y: float, words: str, size: float, **how: Any) -> None:
        axes.text(x, y, words, {"fontsize": size, "color": _INK, "zorder": 6, **how})

    below = 0.0
    for title, layout in cells:
        text(_MARGIN, below + _MARGIN + 0.1, title, 12, weight="bold", va="center")
        below += _MARGIN + _TITLE
        for link in layout.links:
            colour = _LINES[link.family]
            corners = [(x + _MARGIN, y + below) for x, y in link.curve]
            curve = Curve(corners, [Curve.MOVETO, Curve.CURVE4, Curve.CURVE4, Curve.CURVE4, Curve.LINETO])
            # A white border lets a line pass visibly over another; what one node puts out forks without it.
            order = 2 + link.source / 100
            line(curve, "white", 4.6, order)
            line(curve, colour, 1.3, order + 0.005)
            if link.arrow:
                tip = [(x + _MARGIN, y + below) for x, y in link.tip]
                axes.add_patch(Polygon(tip, closed=True, facecolor=colour, edgecolor="none", zorder=4))
        for box in layout.boxes:
            operation = box.role == "operation"
            edge = _LINES[family(box.text)] if operation else _INK
            fill = _FILLS[family(box.text) if operation else box.role]
            x, y = box.left + _MARGIN, box.top + below
            shape = f"round,pad=0,rounding_size={box.height / 2 if operation else 0.08}"
            patch = FancyBboxPatch(
                (x, y), box.width, box.height, boxstyle=shape, facecolor=fill, edgecolor=edge, zorder=5
            )
            patch.set_linewidth(0.9)
            axes.add_patch(patch)
            # Braces keep the space of a binary minus out of the subscript.
            formula = box.role in ("input", "output")
            words = f"${box.text.replace('-', '{-}')}$" if formula else box.text
            fontsize = 8.5 if operation else 12 if formula else 11
            anchor = "center" if formula else "center_baseline"
            text(x + box.width / 2, y + box.height / 2, words, fontsize, ha="center", va=anchor, parse_math=formula)
        below += layout.height + _MARGIN
    return figure
