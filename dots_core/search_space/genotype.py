"""Genotype: the cell a search found, as an immutable value with a strict JSON form.

Other forms, as papers and other libraries write cells, are read by `dots_core.search_space.genotype_text`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from dots_core.bounds import NODES
from dots_core.errors import QUOTED, UsageError, nearest, quoted
from dots_core.search_space.cell import CELL_TYPES, CellSpec
from dots_core.search_space.edge import Edge
from dots_core.search_space.operations import NONE, OPERATIONS, UNSUPPORTED
from dots_core.storage.reading import parse_json

FORMAT = "dots-genotype"
VERSION = 1

Node = tuple[tuple[str, int], ...]


class NotDerivable(UsageError):
    """An operation that a derived cell cannot hold."""


@dataclass(frozen=True)
class Genotype:
    """The operations and edges of a normal and a reduction cell.

    Attributes
    ----------
    normal, reduce : tuple of nodes
        For each intermediate node, in order, its incoming edges as (operation, source node),
        sorted by source. Every node has at least one and names a source once.
    normal_concat, reduce_concat : tuple of int
        The nodes whose outputs form the cell's output.

    Raises
    ------
    UsageError
        If a value is of the wrong form, an operation is unknown or ``none``, a source does not come
        before its node or twice, or a node has no edge.
    """

    normal: tuple[Node, ...]
    normal_concat: tuple[int, ...]
    reduce: tuple[Node, ...]
    reduce_concat: tuple[int, ...]

    def __post_init__(self) -> None:
        for kind in CELL_TYPES:
            nodes = _nodes(getattr(self, kind), kind)
            object.__setattr__(self, kind, nodes)
            object.__setattr__(self, f"{kind}_concat", _concat(getattr(self, f"{kind}_concat"), kind, len(nodes)))
            for number, node in enumerate(nodes, start=2):
                _check_node(node, f"{kind} cell: node {number}", number)
            try:
                self.cell(kind)  # checks what holds for every cell
            except UsageError as error:
                raise UsageError(f"{kind} cell: {error}") from None

    def cell(self, kind: str) -> CellSpec:
        """Return the derived cell of the given type, ``"normal"`` or ``"reduce"``."""
        if kind not in CELL_TYPES:
            raise UsageError(f"no type of cell is called {quoted(repr(kind))}; there are {' and '.join(CELL_TYPES)}")
        nodes: tuple[Node, ...] = getattr(self, kind)
        edges = [Edge(s, j, ((o,),)) for j, node in enumerate(nodes, start=2) for o, s in node]
        return CellSpec(len(nodes), tuple(edges), getattr(self, f"{kind}_concat"), mixed=False)

    def skip_count(self, kind: str) -> int:
        """Return how many edges of the given type of cell are skip connections."""
        return sum(OPERATIONS[edge.operations[0]].family == "skip" for edge in self.cell(kind).edges)

    def to_json(self) -> str:
        """Return the strict JSON form, ending in a newline; equal genotypes give equal text."""
        return json.dumps(self.to_record(), indent=2) + "\n"

    def to_record(self) -> dict[str, Any]:
        """Return the genotype as plain lists and names, ready for JSON."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "normal": [[list(edge) for edge in node] for node in self.normal],
            "normal_concat": list(self.normal_concat),
            "reduce": [[list(edge) for edge in node] for node in self.reduce],
            "reduce_concat": list(self.reduce_concat),
        }

    @classmethod
    def from_record(cls, record: Any) -> Genotype:
        """Read what `to_record` wrote.

        Raises
        ------
        UsageError
            If a key is missing, unknown or of the wrong form.
        """
        keys = {"format", "version", "normal", "normal_concat", "reduce", "reduce_concat"}
        if not isinstance(record, dict) or record.get("format") != FORMAT:
            raise UsageError(f'not a genotype: expected an object with "format": "{FORMAT}"')
        version = record.get("version")
        if type(version) is not int or version != VERSION:
            raise UsageError(f"genotype version {quoted(repr(version))} is not known; this release reads {VERSION}")
        if set(record) != keys:
            odd = sorted(map(str, set(record) ^ keys))
            raise UsageError(f"genotype has missing or unknown keys: {quoted(', '.join(odd))}")
        return cls(**{key: record[key] for key in keys - {"format", "version"}})

    @classmethod
    def from_json(cls, text: str) -> Genotype:
        """Read the strict JSON form."""
        if not isinstance(text, str):
            raise UsageError(f"not a genotype: expected text, not {quoted(type(text).__name__)}")
        try:
            record = parse_json(text)
        except ValueError as error:
            raise UsageError(f"not a genotype: the text is not JSON ({quoted(str(error))})") from None
        return cls.from_record(record)


def _nodes(value: Any, kind: str) -> tuple[Node, ...]:
    if not isinstance(value, (list, tuple)) or any(not isinstance(node, (list, tuple)) for node in value):
        raise _wrong(kind, value)
    if len(value) > NODES:
        raise UsageError(
            f"{kind} cell: {len(value):,} nodes; a cell has at most {NODES}, as its edges grow with their square"
        )
    nodes = []
    for number, node in enumerate(value, start=2):
        edges = []
        for edge in node:
            if not isinstance(edge, (list, tuple)) or len(edge) != 2 or not isinstance(edge[0], str):
                raise _wrong(f"{kind} cell: node {number}", edge)
            edges.append((edge[0], _whole(edge[1], f"{kind} cell: node {number}: a source node")))
        nodes.append(tuple(sorted(edges, key=lambda pair: (pair[1], pair[0]))))
    return tuple(nodes)


def _wrong(place: str, found: Any) -> UsageError:
    return UsageError(
        f"{place}{'' if ':' in place else ' cell'}: expected, for each node, a list of [operation, source node], "
        f"not {quoted(found)}"
    )


def _whole(value: Any, name: str) -> int:
    """Return a whole number of Python or NumPy, which numbers a node."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        shown = repr(value[:QUOTED]) if isinstance(value, str) else value
        raise UsageError(f"{name} is not an integer: {quoted(shown)}")
    if not -NODES <= value < 2 * NODES:
        raise UsageError(f"{name} is out of range: {quoted(int(value))}; a cell has at most {NODES} nodes")
    return int(value)


def _concat(value: Any, kind: str, count: int) -> tuple[int, ...]:
    if not isinstance(value, (list, tuple)):
        raise UsageError(f"{kind}_concat: expected a list of node numbers, not {quoted(value)}")
    if len(value) > NODES:
        raise UsageError(f"{kind}_concat names {len(value):,} nodes; a cell has at most {NODES}")
    nodes = tuple(_whole(node, f"{kind}_concat: a node") for node in value)
    strange = [node for node in nodes if not 2 <= node < count + 2]
    if strange and count:
        which = "an input of the cell" if strange[0] in (0, 1) else "no node of the cell"
        raise UsageError(
            f"{kind}_concat names {strange[0]}, {which}; concat may name intermediate nodes, 2 to {count + 1}: "
            f"leave {strange[0]} out, or give the nodes it means"
        )
    return nodes


def _check_node(node: Node, place: str, number: int) -> None:
    if not node:
        raise UsageError(f"{place} has no incoming edge; give it one, or renumber the nodes without it")
    for operation, _ in node:
        if operation == NONE:
            raise NotDerivable(
                f"{place} holds 'none', which a derived cell cannot; leave that edge out "
                "(a node may have one edge: write a list a node)"
            )
        if operation not in OPERATIONS:
            known = ", ".join(o for o in OPERATIONS.names if o != NONE)
            if operation in UNSUPPORTED:
                raise NotDerivable(
                    f"{place}: operation '{operation}' is not supported; install a package that has it, or put "
                    f"another in its place, which makes it another cell: {known}"
                )
            hint = nearest(quoted(operation), OPERATIONS.names)
            raise NotDerivable(
                f"{place}: unknown operation '{quoted(operation)}'{hint}; known: {known}; one of another package is "
                "known where that package is installed"
            )
    sources = [source for _, source in node]
    for first, second in pairwise(node):
        if first[1] == second[1]:
            raise UsageError(
                f"{place}: edge {first[1]}-{number} appears twice, with {first[0]} and {second[0]}; "
                "parallel edges are not supported: keep one, which makes it another cell"
            )
    if sources[0] < 0 or sources[-1] >= number:
        wrong = sources[0] if sources[0] < 0 else sources[-1]
        raise UsageError(
            f"{place}: edge {wrong}-{number} does not lead forward; a node hears the nodes before it, 0 to {number - 1}"
        )
