"""What changed from epoch to epoch: losses, accuracies, learning rates, temperatures, skip counts, entropies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from dots.pages.charts import Chart, Frame, Line, Mark, drawn, keys_of
from dots.report.record import Row, RunRecord
from dots.report.tables import CELL_NAMES, split_name
from dots_core.search_space.cell import CELL_TYPES

_SPLIT_STYLES = ("s2", "s4", "s6")


def curves(record: RunRecord) -> list[Chart]:
    """Return the charts over the whole run, phases marked; none before the first epoch."""
    rows = record.rows
    if not rows:
        return []
    most = max(4.0, *(row.get(f"skip_count_{kind}", 0) for row in rows for kind in CELL_TYPES))
    of_cells = [(place, kind, f"{CELL_NAMES[kind]} cell") for place, kind in enumerate(CELL_TYPES)]
    skips = [line for place, kind, name in of_cells for line in _lines(f"s{place}", name, f"skip_count_{kind}", rows)]
    entropies = [
        line
        for number, (group, symbol) in enumerate((("alpha", "α"), ("beta", "β")))
        for place, kind, name in of_cells
        for line in _lines(f"s{2 * number + place}", f"{symbol}, {name}", f"{group}_entropy_{kind}", rows)
    ]
    loss = [
        *_lines("s0", "training", "train_loss", rows),
        *_lines("s1", "architecture", "architecture_loss", rows),
        *_measured("validation_loss", rows),
    ]
    accuracy = [
        *_lines("s0", "training", "train_accuracy", rows),
        *_measured("validation_accuracy", rows),
        *_lines("s3", "derived sub-network, not retrained", "derived_accuracy", rows, single=True),
    ]
    rates = [*_lines("s0", "of the weights w (SGD)", "learning_rate", rows), *_architecture_rate(record)]
    temperatures = [
        *_lines("s0", "of α", "alpha_temperature", rows),
        *_lines("s1", "of β", "beta_temperature", rows),
    ]
    marks, share = _marks(rows), (0.0, 1.0)
    charts = [
        ("Loss", Frame(marks=marks), loss),
        ("Accuracy", Frame(limits=share, marks=marks), accuracy),
        ("Learning rates", Frame(logarithmic=True, marks=marks), rates),
        ("Temperatures", Frame(logarithmic=True, marks=marks), temperatures),
        ("Skip connections of the cell that would be derived", Frame(limits=(0.0, most), marks=marks), skips),
        ("Entropies, 1 undecided, 0 decided", Frame(limits=share, marks=marks), entropies),
    ]
    return [Chart(title, drawn(lines, frame, title), keys_of(lines)) for title, frame, lines in charts if lines]


def _lines(kind: str, label: str, name: str, rows: Sequence[Row], single: bool = False) -> Iterator[Line]:
    """A line for each stage: every stage trains a network of its own."""
    for _, found in groupby(rows, key=lambda row: row["stage"]):
        points = tuple((row["epoch"], row[name]) for row in found if row.get(name) is not None)
        if points:
            yield Line(kind, label, points, single)


def _measured(name: str, rows: Sequence[Row]) -> Iterator[Line]:
    """Lines for each sort of images that were measured on: numbers of different images are not joined."""
    splits = dict.fromkeys(row["validation_split"] for row in rows if "validation_split" in row)
    for number, split in enumerate(splits):
        chosen = [row for row in rows if row.get("validation_split") == split]
        yield from _lines(_SPLIT_STYLES[number % len(_SPLIT_STYLES)], split_name(split), name, chosen)


def _architecture_rate(record: RunRecord) -> Iterator[Line]:
    """Adam's constant rate in the epochs that updated architecture weights."""
    rates = {
        (stage.name, phase.name): stage.architecture_rate
        for stage in record.plan.stages
        for phase in stage.phases
        if any(group != "w" for update in phase.updates for group in update.groups)
    }
    rows = [{**row, "rate": rates.get((row["stage"], row["phase"]))} for row in record.rows]
    return _lines("s1", "of the architecture weights (Adam)", "rate", rows)


def _marks(rows: Sequence[Row]) -> tuple[Mark, ...]:
    begins = [next(found) for _, found in groupby(rows, key=lambda row: (row["stage"], row["phase"]))]
    return tuple(Mark(row["epoch"] - 0.5, f"{row['stage']}/{row['phase']} begins") for row in begins[1:])
