"""The page itself: verdict, cells, curves, the evolution of the architecture weights, every number."""

from __future__ import annotations

from pathlib import Path

from dots.pages.environment import render
from dots.report.cells.drawing import drawings
from dots.report.curves import curves
from dots.report.evolution import evolution_of
from dots.report.record import RunRecord, read_run
from dots.report.tables import decisions, epochs, results
from dots.run_directory.layout import config_text
from dots_core.storage.atomic import RESUME, write_atomic

NAME = "report.html"


def write_report(run: Path, remedy: str = RESUME) -> Path:
    """Write a run's page into its folder, finished or not, and return its path.

    Parameters
    ----------
    remedy : str
        What to do where it cannot be written.

    Raises
    ------
    UsageError
        If it is no run.
    CorruptFile
        If a file of it is damaged.
    """
    path = run / NAME
    write_atomic(path, html_page(read_run(run)), remedy)
    return path


def html_page(record: RunRecord) -> str:
    """Return a run as a page that needs nothing beside it: no files, no network, no JavaScript.

    Equal runs give equal pages.
    """
    page = render(
        "dots.report",
        "run.html.jinja",
        run=record,
        headline=_headline(record),
        results=results(record),
        cells=drawings(record.genotype) if record.genotype is not None else [],
        curves=curves(record),
        parts={part: evolution_of(part, record.evolution) for part in ("alpha", "beta", "gamma")},
        decisions=decisions(record),
        epochs=epochs(record),
        settings=config_text(record.config),
    )
    return str(page)


def _headline(record: RunRecord) -> str:
    if not record.rows:
        return "no epoch is done yet"
    last = record.rows[-1]
    accuracy = next((row["validation_accuracy"] for row in record.rows[::-1] if "validation_accuracy" in row), None)
    if not record.finished:
        return f"unfinished, {last['epoch']} of {record.plan.epochs} epochs"
    if record.searches:
        if record.unusable:
            return f"the cell found is not usable: {record.unusable}"
        count = len(record.warnings)
        return "a cell was found" + (f", with {count} warning{'' if count == 1 else 's'}" if count else "")
    return "trained" if accuracy is None else f"{accuracy:.2%} test accuracy"
