"""The report as one HTML file: whether and where engines disagree, seen in seconds, then every number."""

from __future__ import annotations

from dots.pages.environment import phrase, render
from dots.pages.table import Table
from dots_conformance.comparison import Comparison
from dots_conformance.report.facts import environment_rows, floor_rows, threshold_rows
from dots_conformance.report.growth import growth_charts
from dots_conformance.report.matrix import matrix
from dots_conformance.report.offenders import HEADS, MOST, nearest_to_failing, offenders, panels
from dots_conformance.report.overview import cards, counts
from dots_conformance.report.summary import case_names, columns, findings, headline, ledger_use
from dots_conformance.report.verdict_cells import LEGEND


def html_report(comparison: Comparison) -> str:
    """Return a comparison as a page that needs nothing beside it, neither files nor the network nor JavaScript.

    Equal comparisons give equal pages.
    """
    engines = columns(comparison)
    anchors = {name: f"c{number}" for number, name in enumerate(case_names(comparison))}
    labels = [column.label for column in engines]
    facts = environment_rows(engines)
    charts, keys = growth_charts(engines, anchors)
    page = render(
        __package__,
        "conformance.html.jinja",
        comparison=comparison,
        headline=headline(comparison),
        sign=("✓" if comparison.agrees else "✗") if any(column.engine.judged for column in engines) else "·",
        anchors=anchors,
        labels=labels,
        cards=cards(engines, len(anchors)),
        stale=[(column.label, entry) for column in engines for entry in column.engine.stale],
        counts=counts(comparison, engines),
        heads=HEADS,
        offenders=offenders(comparison),
        more=max(len(findings(comparison)) - MOST, 0),
        nearest=nearest_to_failing(comparison),
        legend=LEGEND,
        groups=matrix(engines, anchors),
        charts=charts,
        keys=keys,
        ledger=[(column.label, *use) for column in engines for use in ledger_use(column)],
        environment=Table(
            ["", *labels],
            [[phrase("{} <small>≠</small>", name) if len(set(of)) > 1 else name, *of] for name, of in facts],
            "l" * (len(labels) + 1),
        ),
        floors=Table(
            ["precision", "outputs and states", "gradients", "free-running", "rounding error, its draws' = 1"],
            floor_rows(),
        ),
        thresholds=Table(["number", "what it is"], threshold_rows(), "ll"),
        panels=panels(engines, anchors, comparison),
    )
    return str(page)
