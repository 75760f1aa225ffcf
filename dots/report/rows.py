"""What the rows of a run's files must look like for its page to be made of them; anyone may have written them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dots_core.errors import CorruptFile, UsageError, quoted
from dots_core.search_space.cell import CELL_TYPES
from dots_core.search_space.genotype import Genotype
from dots_core.search_space.operations import OPERATIONS

_TEXTS = ("stage", "phase", "validation_split", "stopped_early")
_LISTS = ("repairs",)
_EDGE = re.compile(r"\d{1,3}-\d{1,3}")
_NODE = re.compile(r"\d{1,3}")
_ENDS = re.compile(r"\d{1,3}(,\d{1,3})*")
_ALONE = ("kept", "dropped")
_COMPETING = ("input", "output", "alone")

Row = Mapping[str, Any]


def checked_rows(rows: list[dict[str, Any]], path: Path, check: Callable[[Row], None]) -> list[dict[str, Any]]:
    """Return rows of which each names its epoch, stage and phase and passes a check.

    Raises
    ------
    CorruptFile
        Naming the line and what is wrong with it.
    """
    for number, row in enumerate(rows, start=1):
        try:
            _require(type(row["epoch"]) is int and row["epoch"] > 0, "its epoch is no number from 1 on")
            _require(all(isinstance(row[key], str) for key in ("stage", "phase")), "its stage or phase is no text")
            check(row)
        except (ValueError, UsageError) as error:
            raise CorruptFile(f"{path}, line {number} is damaged: {quoted(str(error))}") from None
        except (KeyError, TypeError, AttributeError) as error:
            what = f"{error} is missing" if isinstance(error, KeyError) else "it is of another form"
            raise CorruptFile(f"{path}, line {number} is damaged: {quoted(what)}") from None
    return rows


def check_metrics(row: Row) -> None:
    """Raise ValueError unless a row of metrics holds numbers, and texts where they belong."""
    for key, value in row.items():
        if key in _TEXTS:
            good = isinstance(value, str)
        elif key in _LISTS:
            good = isinstance(value, list) and all(isinstance(each, str) for each in value)
        else:
            good = _is_number(value) or (value is None and key.endswith("_loss"))
        _require(good, f"{key} is {quoted(value)}")


def check_architecture(row: Row) -> None:
    """Raise an error unless a row holds the record of a `dots_core.search.diagnostics.ArchitectureSummary`."""
    for kind, edges in _cells(row, "alpha"):
        for edge, weights in edges.items():
            _require(bool(_EDGE.fullmatch(edge)), f"{edge} is no edge")
            _require(bool(weights), f"edge {edge} has no operations")
            strange = next((name for name in weights if name not in OPERATIONS), None)
            _require(
                strange is None, f"edge {edge} has an unknown operation; if '{strange}' is of a package, install it"
            )
            _numbers(weights, f"alpha of the {kind} cell's edge {edge}")
    Genotype.from_record(row["genotype"])
    for kind, places in _cells(row, "beta"):
        for place, weights in places.items():
            _require(bool(weights), f"{place} has no combinations")
            _numbers(weights, f"beta of the {kind} cell at {place}")
    for kind, edges in _cells(row, "gamma"):
        _require(all(_EDGE.fullmatch(edge) for edge in edges), "an edge has no name of one")
        _numbers(edges, f"gamma of the {kind} cell")
    for kind, among in row.get("competing", {}).items():
        _require(kind in CELL_TYPES and among in _COMPETING, f"{kind} competes by {quoted(among)}")
    for decision in row["decisions"]:
        _check_decision(decision, row)


def check_alike(rows: list[dict[str, Any]], path: Path) -> None:
    """Raise `CorruptFile` unless all rows of a stage speak of the same cells, edges and operations."""
    first: dict[str, object] = {}
    for number, row in enumerate(rows, start=1):
        if first.setdefault(row["stage"], _form(row)) != _form(row):
            raise CorruptFile(f"{path}, line {number} is damaged: it speaks of other edges than the line before")


def _form(row: Row) -> object:
    """What the weights of a row are of, without their values."""
    return {
        part: {
            kind: {place: sorted(of) if isinstance(of, dict) else None for place, of in cell.items()}
            for kind, cell in cells.items()
        }
        for part in ("alpha", "beta", "gamma")
        if (cells := row.get(part)) is not None
    }


def _check_decision(decision: Row, row: Row) -> None:
    by, kind, place = decision["by"], decision["cell"], decision["place"]
    _require(by in ("alpha", "beta", "edges") and kind in CELL_TYPES, "a decision is of an unknown sort")
    alone = by == "beta" and row.get("competing", {}).get(kind) == "alone"
    form = _EDGE if by == "alpha" or alone else _NODE
    _require(form.fullmatch(place) is not None, f"a decision is made at {quoted(place)}")
    for name in ("chosen", "rival"):
        end = decision[name]
        known = isinstance(end, str) if by == "alpha" else end in _ALONE or _ENDS.fullmatch(end) is not None
        _require(known, f"a decision is between {quoted(end)} and another")
    _require(_is_number(decision["margin"]), "a decision's margin is no number")


def _cells(row: Row, part: str) -> list[tuple[str, dict[str, Any]]]:
    kinds = row.get(part, {})
    _require(isinstance(kinds, dict) and kinds.keys() <= set(CELL_TYPES), f"{part} is of other cells")
    _require(all(isinstance(found, dict) and found for found in kinds.values()), f"{part} of a cell is empty")
    return list(kinds.items())


def _numbers(weights: Mapping[str, Any], what: str) -> None:
    _require(all(_is_number(weight) for weight in weights.values()), f"{what} holds something that is no number")


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise ValueError(otherwise)
