"""The top of the page: one verdict an engine, and counts by group of cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dots.report.markup import section, table, text
from dots_conformance.closeness import PASS
from dots_conformance.comparison import Comparison
from dots_conformance.report.summary import (
    SYMBOLS,
    Column,
    Tally,
    case_names,
    columns,
    grouped,
    headline,
    sentence,
    tally,
)
from dots_conformance.report.verdict_cells import cell_class, passing_class
from dots_conformance.report.wording import multiple_text


def verdicts(comparison: Comparison, anchors: Mapping[str, str]) -> str:
    """Return the headline and one sentence an engine.

    Parameters
    ----------
    anchors : dict of str
        Where on the page each case's details are.
    """
    total = len(case_names(comparison))
    cards = "".join(_card(column, total, anchors) for column in columns(comparison))
    judged = any(engine.cases for engine in comparison.engines)
    sign = ("✓" if comparison.agrees else "✗") if judged else "·"
    return (
        f'<header><p class="where">dots conformance · dots {text(comparison.suite)} · seed {comparison.seed}</p>\n'
        f"<h1>{sign} {text(headline(comparison))}</h1>\n"
        f'<div class="cards">{cards}</div></header>\n'
    )


def _card(column: Column, total: int, anchors: Mapping[str, str]) -> str:
    engine = column.engine
    said = text(sentence(column, total))
    first = next((case.case for case in engine.cases.values() if not case.agrees), None)
    if first is not None:
        name = text(first)
        before, _, after = said.rpartition(name)
        said = f'{before}<a href="#{anchors[first]}">{name}</a>{after}'
    whole = tally(engine.cases.values())
    kind = "bad" if not engine.agrees else "good" if engine.cases else "none"
    sign = {"bad": "✗", "good": "✓", "none": "·"}[kind]
    width = max(whole.total, 1)
    bar = "".join(
        f'<i class="{_bar_class(verdict)}" style="flex:{count / width:.4f}"></i>'
        for verdict, count in whole.counts.items()
    )
    return (
        f'<article class="{kind}"><b class="sign">{sign}</b><div><h3>{text(column.label)}</h3>'
        f'<p>{said}.</p><p class="bar" aria-hidden="true">{bar}</p></div></article>\n'
    )


def _bar_class(verdict: str) -> str:
    return {"pass": "a3", "fail": "f2", "known": "k", "ill-conditioned": "i"}.get(verdict, "x")


def counts(comparison: Comparison, engines: Sequence[Column]) -> str:
    """Return the table of groups of cases by engines."""
    names = case_names(comparison)
    rows = []
    for number, (group, families) in enumerate(grouped(names).items()):
        members = [name for family in families.values() for name in family]
        rows.append([f'<a href="#g{number}">{text(group)}</a> <small>{len(members)}</small>'])
        rows[-1] += [_cell(tally(c.engine.cases[n] for n in members if n in c.engine.cases)) for c in engines]
    rows.append([f"all <small>{len(names)}</small>", *(_cell(tally(c.engine.cases.values())) for c in engines)])
    heads = ["cases", *(text(column.label) for column in engines)]
    return section("summary", "Summary", table(heads, rows, "counts"))


def _cell(counted: Tally) -> str:
    if counted.worst is None:
        return '<div class="m">· not recorded</div>'
    kind, symbol = cell_class(counted.worst), SYMBOLS.get(counted.worst.verdict, "!")
    if not counted.against and PASS in counted.counts:
        kind, symbol = passing_class(counted.largest or 0.0), SYMBOLS[PASS]
    first, *others = counted.words()
    notes = text(", ".join(others))
    if counted.largest is not None:
        notes += f"{'; ' if others else ''}worst {multiple_text(counted.largest)}"
    return f'<div class="{kind}"><b>{symbol} {text(first)}</b><small>{notes}</small></div>'
