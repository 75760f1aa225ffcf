"""The report as one HTML file: whether and where engines disagree, seen in seconds, then every number."""

from __future__ import annotations

from pathlib import Path

from dots.report.markup import text
from dots_conformance.comparison import Comparison
from dots_conformance.report.background import environment, ledger, stale_warning, thresholds
from dots_conformance.report.growth_charts import growth_charts
from dots_conformance.report.matrix import matrix
from dots_conformance.report.offenders import details, offenders
from dots_conformance.report.overview import counts, verdicts
from dots_conformance.report.summary import case_names, columns, headline

_STYLE = Path(__file__).with_name("page.css")
_SCRIPT = Path(__file__).with_name("page.js")


def html_report(comparison: Comparison) -> str:
    """Return a comparison as a page that needs nothing beside it, neither files nor the network nor JavaScript.

    Equal comparisons give equal pages.
    """
    engines = columns(comparison)
    anchors = {name: f"c{number}" for number, name in enumerate(case_names(comparison))}
    body = [verdicts(comparison, anchors), stale_warning(engines)]
    if anchors:
        body += [
            counts(comparison, engines),
            offenders(comparison, anchors),
            matrix(engines, anchors),
            growth_charts(engines, anchors),
        ]
    body += [
        ledger(engines),
        environment(engines) if engines else "",
        thresholds(),
        details(engines, anchors, comparison),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{text(headline(comparison))} · dots conformance</title>\n"
        f"<style>\n{_STYLE.read_text('utf-8')}</style></head>\n<body><main>\n"
        f"{''.join(body)}</main>\n<script>\n{_SCRIPT.read_text('utf-8')}</script></body></html>\n"
    )
