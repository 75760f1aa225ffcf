"""The numbers of a run as tables: each stage's results, the last decisions, every epoch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dots.pages.environment import phrase
from dots.pages.table import Table
from dots.report.cells.text import TITLES
from dots.report.places import competing, edge_markup, ends_markup, place_markup
from dots.report.record import Row, RunRecord
from dots_core.search_space.cell import CELL_TYPES

NOTHING = "—"
CELL_NAMES = {"normal": "normal", "reduce": "reduction"}
_SPLITS = {
    "half-b": "half B of the training images",
    "third-b": "third B of the training images",
    "test": "test images",
}


def split_name(split: str) -> str:
    """Return what the images are on which a network was measured."""
    return _SPLITS.get(split, split)


def percent(value: float) -> str:
    """Write a share of images."""
    return f"{value:.2%}"


def points(value: float) -> str:
    """Write a difference of accuracies in points of a hundred."""
    return f"{100 * value:+.2f} points"


def _three(value: float) -> str:
    return f"{value:.3g}"


_Kind = tuple[str, str, Callable[[Any], str]]

_NETWORK: tuple[_Kind, ...] = (
    ("epochs", "epoch", str),
    ("images measured on", "validation_split", split_name),
    ("accuracy", "validation_accuracy", percent),
    ("derived sub-network, not retrained", "derived_accuracy", percent),
    ("discretisation gap", "discretisation_gap", points),
)
_CELL: tuple[_Kind, ...] = (
    ("skip connections", "skip_count", str),
    ("entropy of α", "alpha_entropy", _three),
    ("entropy of β", "beta_entropy", _three),
    ("smallest margin of an operation (T·ln α)", "alpha_margin", _three),
    ("smallest margin of a combination of edges (β′)", "beta_margin", _three),
    ("smallest margin of an edge (weight)", "edges_margin", _three),
    ("smallest margin of what is retained (T·ln α)", "retained_margin", _three),
)


def _rows(kinds: Sequence[_Kind], columns: Sequence[tuple[Row, str]]) -> list[list[str]]:
    """A row for each kind of number that any column has; a column is a row of metrics and the end of its names."""
    found = []
    for label, name, write in kinds:
        values = [row.get(name + end) for row, end in columns]
        if any(value is not None for value in values):
            found.append([label, *(NOTHING if value is None else write(value) for value in values)])
    return found


def results(record: RunRecord) -> list[Table]:
    """Return what each stage ended with: of the network, and, searched, of both cells; none before the first epoch."""
    stages = record.last_of_stages()
    if not stages:
        return []
    names = [row["stage"] for row in stages]
    network = _rows(_NETWORK, [(row, "") for row in stages])
    if not record.searches:
        measured = [row["validation_accuracy"] for row in record.rows if "validation_accuracy" in row]
        network.append(["best accuracy of all epochs", percent(max(measured)) if measured else NOTHING])
    tables = [Table(["", *names], network)]
    kinds = [kind for kind in CELL_TYPES if any(f"skip_count_{kind}" in row for row in stages)]
    cells = _rows(_CELL, [(row, f"_{kind}") for row in stages for kind in kinds])
    if cells:
        heads = ["", *(CELL_NAMES[kind] for _ in stages for kind in kinds)]
        tables.append(Table(heads, cells, groups=[(name, len(kinds)) for name in names]))
    return tables


def decisions(record: RunRecord) -> Table | None:
    """Return the last epoch's decisions, the closest first; None where none were kept."""
    if not record.evolution:
        return None
    last = record.evolution[-1]
    rows = []
    for each in sorted(last["decisions"], key=lambda decision: decision["margin"]):
        kind, where = each["cell"], each["place"]
        ends: list[Any] = [each["chosen"], each["rival"]]
        if each["by"] == "alpha":
            place = phrase("operation on {}", edge_markup(where))
        else:
            among = competing(last, kind) if each["by"] == "beta" else "input"
            place = phrase("edge {}" if among == "alone" else "edges {}", place_markup(where, among))
            ends = [ends_markup(end) for end in ends]
        rows.append([phrase("{}: {}", TITLES[kind], place), *ends, f"{each['margin']:.4g}"])
    return Table(["decision", "chosen", "next", "margin"], rows, "lllr")


_COLUMNS: tuple[_Kind, ...] = (
    ("phase", "phase", str),
    ("learning rate", "learning_rate", _three),
    ("train loss", "train_loss", _three),
    ("train accuracy", "train_accuracy", percent),
    ("validation loss", "validation_loss", _three),
    ("validation accuracy", "validation_accuracy", percent),
    ("measured on", "validation_split", str),
    ("gap", "discretisation_gap", points),
    ("T of α", "alpha_temperature", _three),
    ("T of β", "beta_temperature", _three),
    ("skips, normal", "skip_count_normal", str),
    ("skips, reduction", "skip_count_reduce", str),
)


def epochs(record: RunRecord) -> Table | None:
    """Return every epoch's numbers; None before the first."""
    if not record.rows:
        return None
    columns = [column for column in _COLUMNS if any(row.get(column[1]) is not None for row in record.rows)]
    rows = [
        [
            str(row["epoch"]),
            *(write(row[name]) if row.get(name) is not None else NOTHING for _, name, write in columns),
        ]
        for row in record.rows
    ]
    align = "l" + "".join("l" if name in ("phase", "validation_split") else "r" for _, name, _ in columns)
    return Table(["epoch", *(head for head, _, _ in columns)], rows, align)
