"""The end of the page: known deviations, environments and the numbers verdicts depend on."""

from __future__ import annotations

from collections.abc import Sequence

from dots.report.markup import section, table, text
from dots_conformance.ledger import Entry
from dots_conformance.report.facts import environment_rows, floor_rows, threshold_rows
from dots_conformance.report.summary import Column, ledger_use


def stale_warning(engines: Sequence[Column]) -> str:
    """Return a warning of ledger entries that excuse nothing any more; empty without any."""
    told = "".join(
        f"<li>{text(column.label)}: <code>{text(entry.cases)}</code> <code>{text(entry.tensors)}</code>, "
        f"{text(entry.reason)}</li>"
        for column in engines
        for entry in column.engine.stale
    )
    if not told:
        return ""
    return (
        '<aside class="warning"><b>! Stale ledger entries.</b> They excuse nothing any more: the framework was '
        f"mended, and they must go from the ledger.<ul>{told}</ul></aside>\n"
    )


def ledger(engines: Sequence[Column]) -> str:
    """Return the entries that speak of the engines judged."""
    rows = [
        [
            text(column.label),
            f'<span class="tag {"f1" if state == "stale" else "k" if state == "applied" else "m"}">{state}</span>',
            f"{text(entry.package)} {text(entry.versions)}",
            f"<code>{text(entry.cases)}</code>",
            f"<code>{text(entry.tensors)}</code>",
            str(count),
            f"{text(entry.reason)} {_link(entry)}",
        ]
        for column in engines
        for entry, state, count in ledger_use(column)
    ]
    heads = ("engine", "state", "versions", "cases", "tensors", "known cases", "what the framework does")
    body = table(heads, rows) if rows else "<p>No entry speaks of these engines and versions.</p>\n"
    return section("ledger", "Known deviations", body)


def _link(entry: Entry) -> str:
    if not entry.link.startswith(("https://", "http://")):
        return text(entry.link)
    return f'<a href="{text(entry.link)}" rel="noreferrer">{text(entry.link)}</a>'


def environment(engines: Sequence[Column]) -> str:
    """Return what each engine was recorded with; rows in which engines differ are marked."""
    rows = []
    for name, values in environment_rows(engines):
        differ = len(set(values)) > 1
        rows.append([text(name) + " <small>≠</small>" * differ, *map(text, values)])
    heads = ("", *(text(column.label) for column in engines))
    note = "<p>≠ marks what differs between them.</p>\n" if len(engines) > 1 else ""
    return section("environment", "Environment", note, table(heads, rows))


def thresholds() -> str:
    """Return every number that verdicts depend on."""
    heads = ("precision", "outputs and states", "gradients", "free-running", "rounding error, float32 = 1")
    return section(
        "thresholds",
        "Thresholds",
        "<p>Relative errors that always pass, by precision:</p>\n",
        table(heads, floor_rows()),
        table(("number", "what it is"), threshold_rows()),
    )
