"""A cell as columns of nodes, ordered for few crossings."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations, pairwise

from dots_core.search_space.cell import CellSpec


class Graph:
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
