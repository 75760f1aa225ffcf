"""The numbers of a run as tables: each stage's results, the last decisions, every epoch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dots.report.cell_figure import TITLES
from dots.report.markup import CELL_NAMES, section, table, text
from dots.report.places import competing, ends_markup, place_markup
from dots.report.record import RunRecord
from dots_core.search_space.cell import CELL_TYPES


def percent(value: float | None) -> str:
    """Write a share of images, or a dash where there is none."""
    return "—" if value is None else f"{value:.2%}"


def points(value: float | None) -> str:
    """Write a difference of accuracies in points of a hundred, or a dash where there is none."""
    return "—" if value is None else f"{100 * value:+.2f} points"


def results(record: RunRecord) -> str:
    """Return what each stage ended with; empty before the first epoch."""
    stages = record.last_of_stages()
    if not stages:
        return ""
    rows: list[list[str]] = [["epochs", *(str(row["epoch"]) for row in stages)]]

    def add(label: str, name: str, write: Callable[[Any], str]) -> None:
        if any(name in row for row in stages):
            rows.append([label, *(write(row[name]) if name in row else "—" for row in stages)])

    add("images measured on", "validation_split", str)
    add("accuracy", "validation_accuracy", percent)
    if record.searches:
        add("derived sub-network, not retrained", "derived_accuracy", percent)
        add("discretisation gap", "discretisation_gap", points)
        for kind in CELL_TYPES:
            name = CELL_NAMES[kind]
            add(f"skip connections, {name}", f"skip_count_{kind}", str)
            add(f"entropy of α, {name}", f"alpha_entropy_{kind}", _three)
            add(f"entropy of β, {name}", f"beta_entropy_{kind}", _three)
            for by, what in _MARGINS.items():
                add(f"smallest margin of {what}, {name}", f"{by}_margin_{kind}", _three)
    else:
        best = max((row["validation_accuracy"] for row in record.rows if "validation_accuracy" in row), default=None)
        rows.append(["best accuracy of all epochs", percent(best)])
    note = (
        "<p>After the last epoch of each stage. Entropies are shares of the largest possible: 1 is undecided, "
        "0 decided. A margin is how much more the chosen candidate has of what decides than the next.</p>\n"
        if record.searches
        else "<p>The best epoch was chosen by the images it is measured on; the last was not.</p>\n"
    )
    return section("results", "Results", note, table(["", *(text(row["stage"]) for row in stages)], rows, "numbers"))


_MARGINS = {
    "alpha": "an operation (T·ln α)",
    "beta": "a combination of edges (β′)",
    "edges": "an edge (weight)",
    "retained": "what is retained (T·ln α)",
}


def _three(value: float) -> str:
    return f"{value:.3g}"


def decisions(record: RunRecord) -> str:
    """Return the last epoch's decisions, the closest first; empty where none were kept."""
    if not record.evolution:
        return ""
    rows, last = [], record.evolution[-1]
    for each in sorted(last["decisions"], key=lambda decision: decision["margin"]):
        operation = each["by"] == "alpha"
        among = competing(last, each["cell"]) if each["by"] == "beta" else "input"
        if operation:
            place = f"operation on {place_markup(each['place'], 'alone')}"
        else:
            place = f"{'edge' if among == 'alone' else 'edges'} {place_markup(each['place'], among)}"
        chosen, rival = (text(each[name]) if operation else ends_markup(each[name]) for name in ("chosen", "rival"))
        rows.append([f"{TITLES[each['cell']]}: {place}", chosen, rival, f"{each['margin']:.4g}"])
    heads = ["decision", "chosen", "next", "margin"]
    return section(
        "decisions",
        "Decisions, the closest first",
        "<p>Operations are decided by α, with a margin in T·ln α, combinations of edges by β′; where no topology was "
        "searched, a node's edges by the weight of their best operation, and under an edge softmax by that times γ: "
        "there the weakest that was kept stands against the strongest that was not.</p>\n",
        f"<details><summary>{len(rows)} decisions</summary>{table(heads, rows, 'numbers')}</details>\n",
    )


_COLUMNS: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("phase", "phase", str),
    ("learning rate", "learning_rate", _three),
    ("train loss", "train_loss", _three),
    ("train accuracy", "train_accuracy", percent),
    ("validation loss", "validation_loss", _three),
    ("validation accuracy", "validation_accuracy", percent),
    ("gap", "discretisation_gap", points),
    ("T of α", "alpha_temperature", _three),
    ("T of β", "beta_temperature", _three),
    ("skips, normal", "skip_count_normal", str),
    ("skips, reduction", "skip_count_reduce", str),
)


def epochs(record: RunRecord) -> str:
    """Return every epoch's numbers; empty before the first."""
    if not record.rows:
        return ""
    columns = [column for column in _COLUMNS if any(row.get(column[1]) is not None for row in record.rows)]
    rows = [
        [
            str(row["epoch"]),
            *(write(row[name]) if row.get(name) is not None else "—" for _, name, write in columns),
        ]
        for row in record.rows
    ]
    heads = ["epoch", *(head for head, _, _ in columns)]
    body = f"<details><summary>{len(rows)} epochs</summary>{table(heads, rows, 'numbers')}</details>\n"
    return section("epochs", "Every epoch", body)
