"""The architectures that NNI exports of its DARTS space: a dictionary, an entry a choice.

NNI 1 names its choices ``normal_n2_p0`` (the operation on the edge from node 0 into node 2) and
``normal_n2_switch`` (which edges of node 2 are kept); NNI 2 and 3 ``normal/op_2_0`` (the operation
of node 2's first edge) and ``normal/input_2_0`` (where that edge comes from). Neither writes which
nodes are concatenated; the DARTS space of both concatenates all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from dots_core.errors import UsageError, quoted
from dots_core.search_space.cell import CELL_TYPES
from dots_core.search_space.genotype import Genotype
from dots_core.search_space.genotype_text.edges import Pair, Reading, with_our_names

_FIRST = re.compile(r"(normal|reduce)_n(\d{1,4})_(?:p(\d{1,4})|switch)")
_SECOND = re.compile(r"(normal|reduce)/(op|input)_(\d{1,4})_(\d{1,4})")
_DARTS_NODES = 4

Nodes = dict[int, list[Pair]]


def exported(record: Iterable[Any]) -> bool:
    """Whether a dictionary's keys are those of an architecture from NNI."""
    return any(isinstance(key, str) and (_FIRST.fullmatch(key) or _SECOND.fullmatch(key)) for key in record)


def genotype_of_export(record: Mapping[str, Any]) -> Reading:
    """Read an architecture that NNI exported.

    Raises
    ------
    UsageError
        If choices are missing, are numbers instead of names, or leave the genotype open.
    """
    first = {key: match for key in record if (match := _FIRST.fullmatch(key))}
    second = {key: match for key in record if (match := _SECOND.fullmatch(key))}
    if first and second:
        raise UsageError("an architecture from NNI names its choices in two ways; give one of them")
    cells: dict[str, Any] = {}
    for kind in CELL_TYPES:
        nodes = (_first if first else _second)(record, first or second, kind)
        count = len(nodes)
        if sorted(nodes) != list(range(2, count + 2)) or not count:
            found = ", ".join(map(str, sorted(nodes))) or "none"
            raise UsageError(
                f"{kind} cell: found the nodes {quoted(found)} where 2, 3, … were expected; give all of NNI's choices"
            )
        cells[kind] = [nodes[number] for number in sorted(nodes)]
        cells[f"{kind}_concat"] = list(range(2, count + 2))
        leaving = {source for node in cells[kind] for _, source in node}
        if second and count != _DARTS_NODES and leaving & set(cells[f"{kind}_concat"]):
            raise UsageError(
                f"{kind} cell: {count} nodes, and NNI's spaces of other than {_DARTS_NODES} differ in which nodes they "
                "concatenate, which the export does not say; write it as Genotype(normal=…, normal_concat=…, …)"
            )
    cells, remarks = with_our_names(cells)
    other = [str(key) for key in record if key not in first and key not in second]
    if other:
        remarks.append(f"choices of NNI that are no part of a cell were left aside: {quoted(', '.join(other))}")
    remarks.append("an architecture from NNI does not say what a cell concatenates: all nodes, as its DARTS space does")
    return Reading(Genotype(**cells), tuple(remarks))


def _first(record: Mapping[str, Any], matches: Mapping[str, re.Match[str]], kind: str) -> Nodes:
    nodes: Nodes = {}
    for match in matches.values():
        if match[1] == kind:
            number = int(match[2])
            if number not in nodes:
                nodes[number] = _kept(record, kind, number)
    return nodes


def _kept(record: Mapping[str, Any], kind: str, number: int) -> list[Pair]:
    key = f"{kind}_n{number}_switch"
    chosen = record.get(key)
    if isinstance(chosen, str):
        chosen = [chosen]
    if not isinstance(chosen, list) or not all(isinstance(c, str) or type(c) is int for c in chosen):
        raise UsageError(
            f"{key} is {quoted(chosen) if key in record else 'missing'}; it lists the edges that are kept, "
            f'for example ["{kind}_n{number}_p0", "{kind}_n{number}_p1"]'
        )
    edges: list[Pair] = []
    for choice in chosen:
        edge = f"{kind}_n{number}_p{choice}" if isinstance(choice, int) else choice
        match = _FIRST.fullmatch(edge)
        if match is None or match[3] is None or (match[1], int(match[2])) != (kind, number):
            raise UsageError(f"{key} names {quoted(edge)}, which is no edge into node {number} of the {kind} cell")
        edges.append((_operation(record, edge), int(match[3])))
    return edges


def _second(record: Mapping[str, Any], matches: Mapping[str, re.Match[str]], kind: str) -> Nodes:
    nodes: Nodes = {}
    for match in matches.values():
        if match[1] != kind:
            continue
        number, slot = int(match[3]), match[4]
        operation, source = f"{kind}/op_{number}_{slot}", f"{kind}/input_{number}_{slot}"
        if match[2] == "input":
            if operation not in record:
                raise UsageError(f"{operation} is missing beside {source}; give all of NNI's choices")
            continue
        found = record.get(source)
        if isinstance(found, list) and len(found) == 1:
            found = found[0]
        if type(found) is not int:
            raise UsageError(
                f"{source} is {quoted(found) if source in record else 'missing'}; it is the number of the node that "
                f"the edge comes from, 0 to {number - 1}"
            )
        nodes.setdefault(number, []).append((_operation(record, operation), found))
    return nodes


def _operation(record: Mapping[str, Any], key: str) -> str:
    operation = record.get(key)
    if isinstance(operation, list) and len(operation) == 1:
        operation = operation[0]
    if not isinstance(operation, str):
        found = f"is {quoted(operation)}" if key in record else "is missing"
        raise UsageError(
            f"{key} {found}; operations are read by name: what a number or a mask means is decided by NNI's list of "
            'candidates, which is not in the export; write for example "sepconv3x3"'
        )
    return operation
