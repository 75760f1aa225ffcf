"""Cells as plain records, for checkpoints."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from dots_core.errors import CorruptFile, UsageError
from dots_core.search_space.cell import CellSpec
from dots_core.search_space.edge import Edge
from dots_core.search_space.topology import Topology


def cell_to_record(cell: CellSpec) -> dict[str, Any]:
    """Return a cell as lists, numbers and names, ready for JSON."""
    return {
        "nodes": cell.nodes,
        "edges": [[e.source, e.target, [list(group) for group in e.groups]] for e in cell.edges],
        "concat": list(cell.concat),
        "topology": _topology_record(cell.topology),
        "mixed": cell.mixed,
        **({"sampling": cell.sampling} if cell.sampling != "none" else {}),
        **({"partial": cell.partial} if cell.partial != 1 else {}),
        **({"attention": [list(pair) for pair in cell.attention]} if cell.attention else {}),
    }


def _topology_record(topology: Topology) -> dict[str, Any]:
    record = asdict(topology)
    # Left out at its default, so that records of input-side searches stay what they were.
    if topology.side == "input":
        del record["side"]
    return record


def cell_from_record(record: Any) -> CellSpec:
    """Read what `cell_to_record` wrote.

    Raises
    ------
    CorruptFile
        If the record is of another form or describes no valid cell.
    """
    try:
        numbers = [record["nodes"], *record["concat"], record["topology"]["edges_per_node"], record.get("partial", 1)]
        numbers += [end for source, target, _ in record["edges"] for end in (source, target)]
        if any(type(number) is not int for number in numbers) or record["nodes"] > len(record["edges"]):
            raise ValueError("a number is not whole or too large")
        return CellSpec(
            record["nodes"],
            tuple(Edge(s, t, tuple(tuple(group) for group in groups)) for s, t, groups in record["edges"]),
            tuple(record["concat"]),
            Topology(**record["topology"]),
            bool(record["mixed"]),
            str(record.get("sampling", "none")),
            record.get("partial", 1),
            tuple((str(operation), _finite(constant)) for operation, constant in record.get("attention", ())),
        )
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError, UsageError) as error:
        raise CorruptFile(f"a cell's record is damaged ({error})") from None


def _finite(number: Any) -> float:
    if type(number) not in (int, float) or not math.isfinite(number):
        raise ValueError(f"{number!r} is no number to add")
    return float(number)
