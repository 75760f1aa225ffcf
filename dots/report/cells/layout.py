"""Where everything in a picture of a cell stands. All lengths are inches, x to the right and y downwards.

A node stands in the column of its longest path from the inputs. Left of it stand the operations of
its incoming edges, one above the other, each leading straight into it. What a node puts out runs to
the last column that needs it along a lane that is kept free in every column between. Lines bend
only in the gaps between columns, where nothing else stands: so no line crosses a label or a node.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from dots.report.cells.graph import Graph
from dots.report.cells.text import OUTPUT, node_name
from dots_core.search_space.cell import CellSpec
from dots_core.search_space.operations import OPERATIONS

_ROW = 0.31  # from one incoming edge of a node to the next
_LABEL = (1.08, 0.235)
_LETTER = 0.07
_ARROW = 0.30
HEAD = 0.10
HEAD_SIDE = 0.045
_NODE = 0.38
_INPUT = (0.66, 0.41)
_LANE = 0.20
_SPACE = 0.15
_INPUT_SPACE = 0.45


def family(operation: str) -> str:
    """Return which operations have its colour: ``"convolution"``, ``"pool"`` or ``"skip"``."""
    found = OPERATIONS[operation]
    return "convolution" if found.learnable else "skip" if found.family == "skip" else "pool"


@dataclass(frozen=True)
class Box:
    """A node or an operation; its role is ``"input"``, ``"node"``, ``"output"`` or ``"operation"``."""

    role: str
    text: str
    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True)
class Link:
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

    @property
    def curve(self) -> tuple[tuple[float, float], ...]:
        """Where it starts, two points that bend it, where it runs straight, and where its stroke ends."""
        (x0, y0), (x1, y1) = self.start, self.end
        middle = (x0 + x1) / 2
        return (x0, y0), (middle, y0), (middle, y1), (x1, y1), (self.until - (HEAD / 2 if self.arrow else 0), y1)

    @property
    def tip(self) -> tuple[tuple[float, float], ...]:
        """The corners of its arrow's head."""
        back, y = self.until - HEAD, self.end[1]
        return (self.until, y), (back, y - HEAD_SIDE), (back, y + HEAD_SIDE)

    @property
    def family(self) -> str:
        """What its colour tells: the `family` of its operation, ``"concat"`` or ``"plain"``."""
        return family(self.operation) if self.operation else "concat" if self.concat else "plain"


@dataclass(frozen=True)
class Layout:
    """A cell's nodes and operations and the lines between them."""

    width: float
    height: float
    boxes: tuple[Box, ...]
    links: tuple[Link, ...]


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


def _heights(graph: Graph) -> list[dict[int, float]]:
    """Return the y of every node and lane, column by column."""

    def size(node: int, column: int) -> float:
        return _tall(graph, node) if graph.depth[node] == column else _LANE

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


def _tall(graph: Graph, node: int) -> float:
    """Height of a node: a row for each incoming edge."""
    return len(graph.sources[node]) * _ROW if node > 1 else _INPUT[1]


def _ports(graph: Graph, node: int, column: int) -> Iterator[tuple[int, float]]:
    """Yield what leads to a node or lane, from the top, and how far from its middle it arrives."""
    feeders = graph.feeders(node, column)
    for number, source in enumerate(feeders):
        yield source, (number - (len(feeders) - 1) / 2) * _ROW


def layout_of(cell: CellSpec) -> Layout:
    """Return where everything in a picture of a derived cell stands."""
    graph = Graph(cell)
    heights = _heights(graph)
    boxes: list[Box] = []
    links: list[Link] = []
    right = 0.0
    longest = max((len(name) for name in graph.operation.values()), default=0)
    label = max(_LABEL[0], _LABEL[1] + _LETTER * longest)
    for column, nodes in enumerate(graph.columns):
        final = column == len(graph.columns) - 1
        if column:
            steps = [
                abs(heights[column][node] + offset - heights[column - 1][source])
                for node in nodes
                for source, offset in _ports(graph, node, column)
            ]
            left = right + min(1.7, 0.45 + 0.45 * max(steps, default=0.0))
            labels = 0.0 if final else label + _ARROW
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
                    links.append(Link(source, start, end, right, None, concat, arrow=False))
                elif operation is None:
                    end = (left - HEAD, y + offset)
                    links.append(Link(source, start, end, left, None, concat=True, arrow=True))
                else:
                    links.append(Link(source, start, end, left + labels, operation, concat=False, arrow=True))
                    top = y + offset - _LABEL[1] / 2
                    boxes.append(Box("operation", operation, left, top, label, _LABEL[1]))
            if graph.depth[node] == column:
                role = "output" if final else "input" if node < 2 else "node"
                text = OUTPUT if final else node_name(node)
                tall = _tall(graph, node)
                boxes.append(Box(role, text, left + labels, y - tall / 2, width, tall))
    top = min([box.top for box in boxes] + [link.end[1] for link in links])
    bottom = max([box.top + box.height for box in boxes] + [link.end[1] for link in links])
    return Layout(
        right,
        bottom - top,
        tuple(replace(b, top=b.top - top) for b in boxes),
        tuple(replace(k, start=(k.start[0], k.start[1] - top), end=(k.end[0], k.end[1] - top)) for k in links),
    )
