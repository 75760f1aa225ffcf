"""What changed from epoch to epoch: losses, accuracies, learning rates, temperatures, skip counts, entropies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dots.report.charts import Frame, Line, figure, key
from dots.report.markup import CELL_NAMES, section
from dots.report.record import Row, RunRecord
from dots_core.search_space.cell import CELL_TYPES


def curves(record: RunRecord) -> str:
    """Return the charts over the whole run, phases marked; empty before the first epoch."""
    rows = record.rows
    if not rows:
        return ""
    begins = [(first["epoch"] - 0.5, f"{first['stage']}/{first['phase']} begins") for first in _first_of_phases(rows)]
    marks = tuple(begins[1:])

    def line(kind: str, label: str, name: str) -> Line:
        return Line(kind, label, tuple((row["epoch"], row[name]) for row in rows if row.get(name) is not None))

    most = max(4.0, *(row.get(f"skip_count_{kind}", 0) for row in rows for kind in CELL_TYPES))
    entropies = [
        line(f"s{2 * number + place}", f"{symbol}, {CELL_NAMES[kind]}", f"{group}_entropy_{kind}")
        for number, (group, symbol) in enumerate((("alpha", "α"), ("beta", "β")))
        for place, kind in enumerate(CELL_TYPES)
    ]
    charts = [
        (
            "Loss",
            Frame(marks=marks),
            [
                line("s0", "training", "train_loss"),
                line("s1", "architecture", "architecture_loss"),
                line("s2", "validation", "validation_loss"),
            ],
        ),
        (
            "Accuracy",
            Frame(limits=(0.0, 1.0), marks=marks),
            [
                line("s0", "training", "train_accuracy"),
                line("s2", "validation", "validation_accuracy"),
                replace(line("s3 points", "derived sub-network, not retrained", "derived_accuracy"), single=True),
            ],
        ),
        (
            "Learning rates",
            Frame(logarithmic=True, marks=marks),
            [line("s0", "of the weights w (SGD)", "learning_rate"), _architecture_rate(record)],
        ),
        (
            "Temperatures",
            Frame(logarithmic=True, marks=marks),
            [line("s0", "of α", "alpha_temperature"), line("s1", "of β", "beta_temperature")],
        ),
        (
            "Skip connections of the cell that would be derived",
            Frame(limits=(0.0, most), marks=marks),
            [line(f"s{place}", CELL_NAMES[kind], f"skip_count_{kind}") for place, kind in enumerate(CELL_TYPES)],
        ),
        ("Entropies, 1 undecided, 0 decided", Frame(limits=(0.0, 1.0), marks=marks), entropies),
    ]
    figures = []
    for title, frame, lines in charts:
        shown = [each for each in lines if each.points]
        if shown:
            legend = key([(each.kind, each.label) for each in shown])
            figures.append(figure(f"{title}{legend}", shown, frame, title))
    note = "<p>Upright lines stand where a phase begins.</p>\n" if marks else ""
    return section("curves", "Curves", note, f'<div class="charts">{"".join(figures)}</div>\n')


def _architecture_rate(record: RunRecord) -> Line:
    """Adam's constant rate in the epochs that updated architecture weights."""
    rates = {
        (stage.name, phase.name): stage.architecture_rate
        for stage in record.plan.stages
        for phase in stage.phases
        if any(group != "w" for update in phase.updates for group in update.groups)
    }
    found = ((row["epoch"], rates.get((row["stage"], row["phase"]))) for row in record.rows)
    return Line("s1", "of the architecture weights (Adam)", tuple((epoch, rate) for epoch, rate in found if rate))


def _first_of_phases(rows: Sequence[Row]) -> list[Row]:
    return list({(row["stage"], row["phase"]): row for row in rows[::-1]}.values())[::-1]
