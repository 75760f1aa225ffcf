"""Cells as drawings in a page, whose colours are the page's, light or dark."""

from __future__ import annotations

from itertools import groupby

from markupsafe import Markup

from dots.pages.environment import render
from dots.report.cells.layout import family, layout_of
from dots.report.cells.text import OUTPUT, TITLES, node_name
from dots_core.search_space.cell import CELL_TYPES, CellSpec
from dots_core.search_space.genotype import Genotype

_UNITS = 100
"""Units of a drawing in an inch."""

_BORDER = 2.0


def drawings(genotype: Genotype) -> list[tuple[str, Markup]]:
    """Return the title and the SVG of both cells."""
    return [(TITLES[kind], _drawing(genotype.cell(kind), TITLES[kind])) for kind in CELL_TYPES]


def _drawing(cell: CellSpec, title: str) -> Markup:
    layout = layout_of(cell)
    links = sorted(layout.links, key=lambda link: link.source)
    return render(
        "dots.report",
        "cell.svg.jinja",
        title=title,
        words=_words(cell),
        width=round(_UNITS * layout.width + 2 * _BORDER),
        height=round(_UNITS * layout.height + 2 * _BORDER),
        bundles=[
            [(link.family, _path(link.curve)) for link in bundle]
            for _, bundle in groupby(links, key=lambda link: link.source)
        ],
        tips=[(link.family, "M" + "L".join(map(_point, link.tip)) + "Z") for link in links if link.arrow],
        boxes=[
            {
                "kind": f"operation {family(box.text)}" if box.role == "operation" else box.role,
                "name": box.text[3:-1] if box.role in ("input", "output") else box.text,
                "x": _scaled(box.left),
                "y": _scaled(box.top),
                "width": _scaled(box.width) - _BORDER,
                "height": _scaled(box.height) - _BORDER,
            }
            for box in layout.boxes
        ],
    )


def _scaled(inches: float) -> float:
    return round(_UNITS * inches + _BORDER, 1)


def _point(place: tuple[float, float]) -> str:
    return f"{_scaled(place[0])} {_scaled(place[1])}"


def _path(curve: tuple[tuple[float, float], ...]) -> str:
    start, first, second, end, last = map(_point, curve)
    return f"M{start}C{first} {second} {end}L{last}"


def _words(cell: CellSpec) -> str:
    """What is drawn, for who cannot see it."""
    edges = [f"{edge.operations[0]} from {node_name(edge.source)} to {node_name(edge.target)}" for edge in cell.edges]
    return "; ".join([*edges, f"{', '.join(map(node_name, cell.concat))} to {OUTPUT}"])
