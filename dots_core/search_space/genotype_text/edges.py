"""The ways in which publications write a cell's edges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dots_core.bounds import NODES
from dots_core.errors import UsageError, quoted
from dots_core.search_space.cell import CELL_TYPES
from dots_core.search_space.genotype import Genotype, NotDerivable
from dots_core.search_space.operations import OPERATIONS

FIELDS = ("normal", "normal_concat", "reduce", "reduce_concat")
"""A genotype's fields, in the order of DARTS' named tuple."""

Pair = tuple[Any, Any]


@dataclass(frozen=True)
class Reading:
    """A genotype that was read.

    Attributes
    ----------
    genotype : Genotype
    remarks : tuple of str
        What the text says beyond it and was left aside, and what was taken in another sense.
    """

    genotype: Genotype
    remarks: tuple[str, ...] = ()


def genotype_of(record: Mapping[str, Any]) -> Reading:
    """Read the fields of a genotype as publications write them.

    A cell's edges are a flat list with two edges a node, or a list a node. An edge is (operation,
    source), (operation, source, weight) or (operation, target, source).

    Raises
    ------
    UsageError
        If a field is missing, or the edges are of none of these forms, or of two.
    """
    missing = [name for name in FIELDS if name not in record]
    if missing:
        raise UsageError(
            f"not a genotype: fields are missing: {', '.join(missing)} "
            f"(found: {quoted(', '.join(map(str, record))) or 'none'}); "
            "a cell search's genotype has normal, normal_concat, reduce and reduce_concat"
        )
    extra = [str(name) for name in record if name not in FIELDS]
    remarks = [f"fields that are no part of a genotype were left aside: {quoted(', '.join(extra))}"] if extra else []
    cells: dict[str, Any] = {}
    forms: dict[str, str] = {}
    for kind in CELL_TYPES:
        cells[kind], forms[kind], told = _nodes(record[kind], kind)
        cells[f"{kind}_concat"] = record[f"{kind}_concat"]
        remarks += [remark for remark in told if remark not in remarks]
    cells, renamed = with_our_names(cells)
    remarks += renamed
    try:
        genotype = Genotype(**cells)
        for kind in CELL_TYPES:
            if forms[kind] == _FLAT:
                _check_used(getattr(genotype, kind), cells[f"{kind}_concat"], kind)
    except NotDerivable:
        raise
    except UsageError as error:  # perhaps the edges were meant in another way
        kind = next((kind for kind in CELL_TYPES if str(error).startswith(kind)), "normal")
        raise UsageError(f"{error} ({kind} was read as {forms[kind]})") from None
    return Reading(genotype, tuple(remarks))


_FLAT = "a flat list with two edges a node; where nodes have other numbers of edges, write a list a node"


def with_our_names(cells: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Replace the operations' other names by ours, and say which."""
    spellings = OPERATIONS.spellings
    renamed: dict[str, None] = {}

    def ours(operation: Any) -> Any:
        if isinstance(operation, str) and operation in spellings:
            renamed[f"{operation} as {spellings[operation]}"] = None
            return spellings[operation]
        return operation

    changed = dict(cells)
    for kind in CELL_TYPES:
        changed[kind] = [[(ours(operation), source) for operation, source in node] for node in cells[kind]]
    return changed, [f"operations under another name were read: {', '.join(renamed)}"] if renamed else []


def _nodes(value: Any, kind: str) -> tuple[list[list[Pair]], str, list[str]]:
    """Return a cell's nodes, the form in which they were written, and remarks."""
    if not _is_list(value) or not value:
        raise UsageError(
            f"{kind} cell: expected a list of edges such as ('sep_conv_3x3', 0), two edges a node or a list a node, "
            f"not {quoted(value)}"
        )
    if all(_is_edge(item) for item in value):
        pairs, targets, remarks = _pairs(value, kind)
        if targets is not None:
            return _by_target(pairs, targets, kind), "edges (operation, target, source)", remarks
        if len(pairs) % 2:
            raise UsageError(
                f"{kind} cell: {len(pairs)} edges in a flat list, which has two edges a node; "
                "where nodes have other numbers of edges, write a list a node: [[('sep_conv_3x3', 0), …], …]"
            )
        return [list(pairs[at : at + 2]) for at in range(0, len(pairs), 2)], _FLAT, remarks
    if all(_is_list(node) and all(_is_edge(item) for item in node) for node in value):
        return _nested(value, kind)
    strange = next(item for item in value if not _is_edge(item))
    raise UsageError(
        f"{kind} cell: expected edges (operation, source), (operation, source, weight) or (operation, target, source), "
        f"all in one list or all in a list a node; found {quoted(strange)}"
    )


def _nested(value: Sequence[Any], kind: str) -> tuple[list[list[Pair]], str, list[str]]:
    nodes: list[list[Pair]] = []
    remarks: list[str] = []
    for number, node in enumerate(value, start=2):
        pairs, targets, told = _pairs(node, f"{kind} cell: node {number}")
        if targets is not None and set(targets) != {number}:
            raise UsageError(
                f"{kind} cell: list {number - 1} holds the edges of node {number}, but ends some in "
                f"{quoted(', '.join(map(str, sorted(set(targets) - {number}))))}, read as (operation, target, source); "
                "if the last is a weight, write it as a decimal"
            )
        nodes.append(pairs)
        remarks += [remark for remark in told if remark not in remarks]
    return nodes, "a list a node", remarks


def _pairs(edges: Sequence[Any], place: str) -> tuple[list[Pair], list[int] | None, list[str]]:
    """Return edges as (operation, source), their targets where these are given, and remarks."""
    place = place if ":" in place else f"{place} cell"
    lengths = {len(edge) for edge in edges}
    if lengths <= {2}:
        return [(edge[0], edge[1]) for edge in edges], None, []
    if lengths != {3}:
        odd = next(edge for edge in edges if len(edge) not in (2, 3) or len(edge) != len(edges[0]))
        raise UsageError(
            f"{place}: found {quoted(odd)} among edges of {len(edges[0])} entries; write all as (operation, source), "
            "(operation, source, weight) or (operation, target, source)"
        )
    lasts = [edge[2] for edge in edges]
    if any(isinstance(last, float) for last in lasts) and all(type(last) in (int, float) for last in lasts):
        told = "the weights in (operation, source, weight) were left aside"
        return [(edge[0], edge[1]) for edge in edges], None, [told]
    if all(_leads_forward(edge) for edge in edges):
        return [(edge[0], edge[2]) for edge in edges], [edge[1] for edge in edges], []
    wrong = next((edge for edge in edges if not _leads_forward(edge)), edges[0])
    raise UsageError(
        f"{place}: {quoted(wrong)} is neither (operation, target, source), where an edge leads forward into "
        "node 2 or later, nor (operation, source, weight), where the weight is a decimal; write it as one of them, "
        "or without the third entry as (operation, source)"
    )


def _leads_forward(edge: Sequence[Any]) -> bool:
    """Whether an edge (operation, target, source) leads forward into an intermediate node."""
    _, target, source = edge
    return type(target) is int and type(source) is int and 0 <= source < target and 2 <= target < NODES + 2


def _by_target(pairs: list[Pair], targets: list[int], kind: str) -> list[list[Pair]]:
    nodes: dict[int, list[Pair]] = {target: [] for target in range(2, max(targets) + 1)}
    for target, pair in zip(targets, pairs, strict=True):
        nodes[target].append(pair)
    bare = [number for number, node in nodes.items() if not node]
    if bare:
        raise UsageError(
            f"{kind} cell: node {bare[0]} has no incoming edge; renumber the nodes after it, without it, "
            "in edges and in concat"
        )
    return list(nodes.values())


def _check_used(nodes: Sequence[Sequence[Pair]], concat: Sequence[int], kind: str) -> None:
    """Refuse a flat list in which a node leads nowhere: its nodes have other numbers of edges than two."""
    used = {source for node in nodes for _, source in node} | set(concat)
    idle = [number for number in range(2, len(nodes) + 2) if number not in used]
    if idle:
        raise UsageError(
            f"{kind} cell: {2 * len(nodes)} edges, two a node, make {len(nodes)} nodes, of which {idle[0]} leads "
            "nowhere: no edge leaves it and concat leaves it out"
        )


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple))


def _is_edge(value: Any) -> bool:
    return _is_list(value) and len(value) > 0 and isinstance(value[0], str)
