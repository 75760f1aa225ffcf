"""Pictures of cells: Graphviz text, PNG and SVG figures, and text for a terminal.

Nodes carry the names of the figures in the papers: ``c_{k-2}`` and ``c_{k-1}`` are the outputs
of the two cells before, ``0``, ``1``, … the intermediate nodes (number 2 and up in a genotype),
``c_{k}`` the cell's output.
"""

from __future__ import annotations

import contextlib
import io
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dots_core.errors import UsageError, quoted
from dots_core.search_space.cell import CELL_TYPES, CellSpec
from dots_core.search_space.genotype import Genotype
from dots_core.search_space.operations import CONVOLUTIONS, POOLS
from dots_core.storage.atomic import FULL, cannot_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLES = {"normal": "Normal cell", "reduce": "Reduction cell"}
OUTPUT = "c_{k}"
FORMATS = (".png", ".svg")
_DRAWING = threading.Lock()


def node_name(number: int) -> str:
    """Return the name a cell's node has in pictures, for example ``"c_{k-2}"`` for node 0 and ``"0"`` for node 2."""
    return ("c_{k-2}", "c_{k-1}")[number] if number < 2 else str(number - 2)


def dot_text(genotype: Genotype) -> str:
    """Return both cells as one Graphviz digraph, each in a cluster of its own.

    Equal genotypes give equal text. ``dot -Tpdf`` turns it into a figure.
    """
    lines = [
        "digraph genotype {",
        "  rankdir=LR;",
        '  node [shape=box, style="rounded,filled", fillcolor=lightblue, fontname="Helvetica"];',
        '  edge [fontname="Helvetica", fontsize=11];',
    ]
    for kind in CELL_TYPES:
        cell = genotype.cell(kind)

        def quoted(name: str, kind: str = kind) -> str:
            return f'"{kind} {name}"'

        lines += [f'  subgraph "cluster_{kind}" {{', f'    label="{TITLES[kind]}";']
        for number in range(cell.nodes + 2):
            colour = ", fillcolor=darkseagreen2" if number < 2 else ""
            lines.append(f'    {quoted(node_name(number))} [label="{node_name(number)}"{colour}];')
        lines.append(f'    {quoted(OUTPUT)} [label="{OUTPUT}", fillcolor=palegoldenrod];')
        for edge in cell.edges:
            ends = f"{quoted(node_name(edge.source))} -> {quoted(node_name(edge.target))}"
            lines.append(f'    {ends} [label="{edge.operations[0]}"];')
        lines += [f"    {quoted(node_name(number))} -> {quoted(OUTPUT)};" for number in cell.concat]
        lines.append("  }")
    return "\n".join([*lines, "}"]) + "\n"


def terminal_text(genotype: Genotype) -> str:
    """Return both cells as Unicode text, an edge a line: source, operation and, once, the node they lead to."""
    blocks = []
    for kind in CELL_TYPES:
        cell = genotype.cell(kind)
        wide = max(len(edge.operations[0]) for edge in cell.edges)
        lines = [TITLES[kind]]
        for node in range(2, cell.nodes + 2):
            incoming = [cell.edges[number] for number in cell.incoming(node)]
            for place, edge in enumerate(incoming):
                source = f"{node_name(edge.source)} ".ljust(9, "─")
                if len(incoming) == 1:
                    join = f"─→ {node_name(node)}"
                elif place == 0:
                    join = f"┬→ {node_name(node)}"
                else:
                    join = "┘" if place == len(incoming) - 1 else "┤"
                lines.append(f"  {source} {f'{edge.operations[0]} '.ljust(wide + 1, '─')}─{join}")
        sources = ", ".join(node_name(node) for node in cell.concat)
        lines.append(f"  {f'{sources} '.ljust(wide + 12, '─')}─→ {OUTPUT}")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


# The figure. All lengths are inches, x to the right and y downwards.
#
# A node stands in the column of its longest path from the inputs. Left of it stand the operations of
# its incoming edges, one above the other, each leading straight into it. What a node puts out runs to
# the last column that needs it along a lane that is kept free in every column between. Lines bend
# only in the gaps between columns, where nothing else stands: so no line crosses a label or a node.

_ROW = 0.31  # from one incoming edge of a node to the next
_LABEL = (1.08, 0.235)
_ARROW = 0.30
_HEAD = 0.10
_NODE = 0.38
_INPUT = (0.66, 0.41)
_LANE = 0.20
_SPACE = 0.15
_INPUT_SPACE = 0.45
_MARGIN = 0.25
_TITLE = 0.36

_INK = "#222222"
_LINE = "#6a727d"
_CONCAT = "#aab1ba"
_FILLS = {"input": "#e4e7eb", "node": "#fff3c9", "output": "#e4e7eb"}
# Line and fill of an operation's family.
_FAMILIES = {"convolution": ("#2f6db5", "#dceafa"), "pool": ("#c46210", "#fde6d2"), "skip": ("#2e8b57", "#d9f2e3")}


@dataclass(frozen=True)
class _Box:
    """A node (role input, node or output) or an operation (role is its name)."""

    role: str
    text: str
    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True)
class _Link:
    """A curve from start to end, straight on to ``until``; it carries what ``source`` puts out.

    ``concat`` tells the lines that go to the output and nowhere else.
    """

    source: int
    start: tuple[float, float]
    end: tuple[float, float]
    until: float
    operation: str | None
    concat: bool
    arrow: bool


@dataclass(frozen=True)
class _Layout:
    width: float
    height: float
    boxes: tuple[_Box, ...]
    links: tuple[_Link, ...]


def _family(operation: str) -> tuple[str, str]:
    if operation in CONVOLUTIONS:
        return _FAMILIES["convolution"]
    return _FAMILIES["pool" if operation in POOLS else "skip"]


class _Graph:
    """A cell as columns of node numbers; a number stands in its own column and, as a lane, in later ones."""

    def __init__(self, cell: CellSpec) -> None:
        self.output = cell.nodes + 2
        self.sources = {node: [cell.edges[e].source for e in cell.incoming(node)] for node in range(self.output)}
        self.sources[self.output] = sorted(cell.concat)
        self.operation = {(edge.source, edge.target): edge.operations[0] for edge in cell.edges}
        self.depth = {0: 0, 1: 0}
        for node in range(2, self.output):
            self.depth[node] = 1 + max(self.depth[source] for source in self.sources[node])
        # The output closes the figure even where the deepest node does not lead to it.
        self.depth[self.output] = 1 + max(self.depth.values())
        last = dict(self.depth)
        for node, sources in self.sources.items():
            for source in sources:
                last[source] = max(last[source], self.depth[node] - 1)
        self.columns = self._ordered(
            [
                [node for node in self.depth if self.depth[node] <= column <= last[node]]
                for column in range(self.depth[self.output] + 1)
            ]
        )
        for column, (left, here) in enumerate(pairwise(self.columns), start=1):
            for node in here:
                if self.depth[node] == column:
                    self.sources[node].sort(key=left.index)

    def feeders(self, node: int, column: int) -> list[int]:
        """What leads to a node or lane from the column before."""
        return self.sources[node] if self.depth[node] == column else [node]

    def tall(self, node: int) -> float:
        """Height of a node: a row for each incoming edge."""
        return len(self.sources[node]) * _ROW if node > 1 else _INPUT[1]

    def _cost(self, columns: list[list[int]]) -> tuple[int, int]:
        """Crossings of lines, then how far lines stray from the level."""
        crossings = stray = 0
        for column, (left, here) in enumerate(pairwise(columns), start=1):
            place = {node: number for number, node in enumerate(left)}
            ends = [(place[s], number) for number, node in enumerate(here) for s in self.feeders(node, column)]
            crossings += sum((a[0] - b[0]) * (a[1] - b[1]) < 0 for a, b in combinations(ends, 2))
            stray += sum(abs(2 * a - len(left) - 2 * b + len(here)) for a, b in ends)
        return crossings, stray

    def _ordered(self, columns: list[list[int]]) -> list[list[int]]:
        """Order every column for few crossings: first by one order for all of them, then each by itself."""

        def sort(order: list[list[int]]) -> list[list[int]]:
            # The inputs always stand in their order of age.
            return [columns[0], *(sorted(column, key=order[0].index) for column in columns[1:])]

        # A climb may end short of the best order; from several starts it seldom does.
        nodes = list(self.depth)
        starts = [nodes[turn:] + nodes[:turn] for turn in range(len(nodes))]
        climbs = [_improved([start], lambda order: self._cost(sort(order))) for start in starts]
        order = min(climbs, key=lambda order: self._cost(sort(order)))
        return [columns[0], *_improved(sort(order)[1:], lambda rest: self._cost([columns[0], *rest]))]


def _improved(lists: list[list[int]], cost: Callable[[list[list[int]]], tuple[int, int]]) -> list[list[int]]:
    """Move single entries within their lists as long as that lowers the cost."""
    best = cost(lists)
    better = True
    while better:
        better = False
        for number, entries in enumerate(lists):
            for old in range(len(entries)):
                for new in range(len(entries)):
                    moved = [*entries[:old], *entries[old + 1 :]]
                    moved.insert(new, entries[old])
                    trial = [*lists[:number], moved, *lists[number + 1 :]]
                    value = cost(trial)
                    if value < best:
                        best, lists, entries, better = value, trial, moved, True
    return lists


def _spread(wanted: Sequence[float], weights: Sequence[float], gaps: Sequence[float]) -> list[float]:
    """Return the positions nearest to the wanted ones (weighted least squares) that keep their order and the gaps."""
    shift = [0.0]
    for gap in gaps:
        shift.append(shift[-1] + gap)
    pools: list[tuple[float, float, int]] = []  # pool-adjacent-violators: mean, weight and size of each pool
    for value, weight, offset in zip(wanted, weights, shift, strict=True):
        mean, size = value - offset, 1
        while pools and pools[-1][0] > mean:
            other, heavy, count = pools.pop()
            mean = (mean * weight + other * heavy) / (weight + heavy)
            weight, size = weight + heavy, size + count
        pools.append((mean, weight, size))
    level = [mean for mean, _, size in pools for _ in range(size)]
    return [mean + offset for mean, offset in zip(level, shift, strict=True)]


def _heights(graph: _Graph) -> list[dict[int, float]]:
    """Return the y of every node and lane, column by column."""

    def size(node: int, column: int) -> float:
        return graph.tall(node) if graph.depth[node] == column else _LANE

    def gap(upper: int, lower: int, column: int) -> float:
        lanes = graph.depth[upper] != column != graph.depth[lower]
        space = 0.0 if lanes else _SPACE if column else _INPUT_SPACE
        return (size(upper, column) + size(lower, column)) / 2 + space

    gaps = [[gap(a, b, column) for a, b in pairwise(nodes)] for column, nodes in enumerate(graph.columns)]
    heights = [
        dict(zip(nodes, _spread([0.0] * len(nodes), [1.0] * len(nodes), gaps[column]), strict=True))
        for column, nodes in enumerate(graph.columns)
    ]
    # Each sweep draws every node towards what it is linked to, the stronger the longer a line runs on, so
    # that long lines run level.
    numbers = list(range(len(graph.columns)))
    for _ in range(60):
        for column in [*numbers, *reversed(numbers)]:
            pulls: dict[int, list[tuple[float, float]]] = {node: [] for node in graph.columns[column]}
            for side in (column, column + 1):
                for node in graph.columns[side] if 0 < side <= numbers[-1] else ():
                    for source, offset in _ports(graph, node, side):
                        ends = (graph.depth[source] == side - 1, graph.depth[node] == side)
                        pull = (8.0, 2.0, 1.0)[sum(ends)]
                        if side == column:
                            pulls[node].append((pull, heights[column - 1][source] - offset))
                        else:
                            pulls[source].append((pull, heights[side][node] + offset))
            for node, pulled in pulls.items():
                pulled.append((1e-6, heights[column][node]))
            weights = [sum(pull for pull, _ in pulled) for pulled in pulls.values()]
            wanted = [
                sum(pull * y for pull, y in pulled) / weight
                for pulled, weight in zip(pulls.values(), weights, strict=True)
            ]
            heights[column] = dict(zip(pulls, _spread(wanted, weights, gaps[column]), strict=True))
    return heights


def _ports(graph: _Graph, node: int, column: int) -> Iterator[tuple[int, float]]:
    """Yield what leads to a node or lane, from the top, and how far from its middle it arrives."""
    feeders = graph.feeders(node, column)
    for number, source in enumerate(feeders):
        yield source, (number - (len(feeders) - 1) / 2) * _ROW


def _layout(cell: CellSpec) -> _Layout:
    graph = _Graph(cell)
    heights = _heights(graph)
    boxes: list[_Box] = []
    links: list[_Link] = []
    right = 0.0
    for column, nodes in enumerate(graph.columns):
        final = column == len(graph.columns) - 1
        if column:
            steps = [
                abs(heights[column][node] + offset - heights[column - 1][source])
                for node in nodes
                for source, offset in _ports(graph, node, column)
            ]
            left = right + min(1.7, 0.45 + 0.45 * max(steps, default=0.0))
            labels = 0.0 if final else _LABEL[0] + _ARROW
        else:
            left = labels = 0.0
        width = _INPUT[0] if column == 0 or final else _NODE
        before, right = right, left + labels + width
        for node in nodes:
            y = heights[column][node]
            for source, offset in _ports(graph, node, column) if column else ():
                start, end = (before, heights[column - 1][source]), (left, y + offset)
                operation = graph.operation.get((source, node))
                if graph.depth[node] != column:
                    concat = all(graph.depth[j] <= column for i, j in graph.operation if i == source)
                    links.append(_Link(source, start, end, right, None, concat, arrow=False))
                elif operation is None:
                    end = (left - _HEAD, y + offset)
                    links.append(_Link(source, start, end, left, None, concat=True, arrow=True))
                else:
                    links.append(_Link(source, start, end, left + labels, operation, concat=False, arrow=True))
                    top = y + offset - _LABEL[1] / 2
                    boxes.append(_Box(operation, operation, left, top, *_LABEL))
            if graph.depth[node] == column:
                role = "output" if final else "input" if node < 2 else "node"
                text = OUTPUT if final else node_name(node)
                tall = graph.tall(node)
                boxes.append(_Box(role, text, left + labels, y - tall / 2, width, tall))
    top = min([box.top for box in boxes] + [link.end[1] for link in links])
    bottom = max([box.top + box.height for box in boxes] + [link.end[1] for link in links])
    return _Layout(
        right,
        bottom - top,
        tuple(replace(b, top=b.top - top) for b in boxes),
        tuple(replace(k, start=(k.start[0], k.start[1] - top), end=(k.end[0], k.end[1] - top)) for k in links),
    )


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
        Ends in ``.png`` or ``.svg``, which chooses the format. In an SVG labels stay text.

    Raises
    ------
    UsageError
        If the path ends otherwise or cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise UsageError(f"cannot draw '{path.name}': the name must end in {' or '.join(FORMATS)}")
    content = picture(genotype, suffix)
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
        figure = _figure([(TITLES[kind], _layout(genotype.cell(kind))) for kind in CELL_TYPES])
        if suffix == ".svg":
            FigureCanvasSVG(figure).print_svg(content, metadata={"Date": None, "Creator": None})
        else:
            FigureCanvasAgg(figure).print_png(content, metadata={"Software": None})
    return content.getvalue()


def _figure(cells: Sequence[tuple[str, _Layout]]) -> Figure:
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
            colour = _family(link.operation)[0] if link.operation else _CONCAT if link.concat else _LINE
            (x0, y0), (x1, y1) = link.start, link.end
            x0, x1, until = x0 + _MARGIN, x1 + _MARGIN, link.until + _MARGIN
            y0, y1, middle = y0 + below, y1 + below, (x0 + x1) / 2
            corners = [(x0, y0), (middle, y0), (middle, y1), (x1, y1), (until - (_HEAD / 2 if link.arrow else 0), y1)]
            curve = Curve(corners, [Curve.MOVETO, Curve.CURVE4, Curve.CURVE4, Curve.CURVE4, Curve.LINETO])
            # A white border lets a line pass visibly over another; what one node puts out forks without it.
            order = 2 + link.source / 100
            line(curve, "white", 4.6, order)
            line(curve, colour, 1.3, order + 0.005)
            if link.arrow:
                tip = [(until, y1), (until - _HEAD, y1 - 0.045), (until - _HEAD, y1 + 0.045)]
                axes.add_patch(Polygon(tip, closed=True, facecolor=colour, edgecolor="none", zorder=4))
        for box in layout.boxes:
            operation = box.role not in _FILLS
            edge, fill = _family(box.role) if operation else (_INK, _FILLS[box.role])
            x, y = box.left + _MARGIN, box.top + below
            shape = f"round,pad=0,rounding_size={box.height / 2 if operation else 0.08}"
            patch = FancyBboxPatch(
                (x, y), box.width, box.height, boxstyle=shape, facecolor=fill, edgecolor=edge, zorder=5
            )
            patch.set_linewidth(0.9)
            axes.add_patch(patch)
            # Braces keep the space of a binary minus out of the subscript.
            words = f"${box.text.replace('-', '{-}')}$" if box.text.startswith("c_") else box.text
            fontsize = 8.5 if operation else 12 if words.startswith("$") else 11
            anchor = "center" if words.startswith("$") else "center_baseline"
            text(x + box.width / 2, y + box.height / 2, words, fontsize, ha="center", va=anchor)
        below += layout.height + _MARGIN
    return figure
