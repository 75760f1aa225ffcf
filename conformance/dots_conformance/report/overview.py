"""The top of the page: one verdict an engine, and counts by group of cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dots_conformance.closeness import FAIL, ILL, PASS
from dots_conformance.comparison import KNOWN, Comparison
from dots_conformance.report.summary import SYMBOLS, Column, Tally, case_names, grouped, sentence, tally
from dots_conformance.report.verdict_cells import MISSING, cell_class, passing_class
from dots_conformance.report.wording import multiple_text

_BARS = {PASS: "a3", FAIL: "f2", KNOWN: "k", ILL: "i"}


@dataclass(frozen=True)
class Card:
    """What became of one engine.

    Attributes
    ----------
    first : str
        The first case that speaks against it, which stands between ``before`` and ``after``; may be empty.
    bar : list of (str, int)
        CSS classes of the verdicts, and how many cases have each.
    """

    kind: str
    sign: str
    label: str
    before: str
    first: str
    after: str
    bar: list[tuple[str, int]]


def cards(engines: Sequence[Column], total: int) -> list[Card]:
    """Return one sentence an engine.

    Parameters
    ----------
    total : int
        How many cases any of the engines has.
    """
    found = []
    for column in engines:
        engine = column.engine
        said = f"{sentence(column, total)}."
        first = next((case.case for case in engine.cases.values() if not case.agrees), "")
        before, _, after = said.rpartition(first) if first else (said, "", "")
        kind, sign = ("bad", "✗") if not engine.agrees else ("good", "✓") if engine.judged else ("none", "·")
        bar = [(_BARS.get(verdict, "x"), count) for verdict, count in tally(engine.cases.values()).counts.items()]
        found.append(Card(kind, sign, column.label, before, first, after, bar))
    return found


@dataclass(frozen=True)
class Count:
    """A cell of the table of groups by engines."""

    kind: str
    said: str
    notes: str = ""


def counts(comparison: Comparison, engines: Sequence[Column]) -> list[tuple[str, int, list[Count]]]:
    """Return each group of cases, how many it has, and what became of them by engine; all of them last."""
    names = case_names(comparison)
    groups = {group: [name for of in families.values() for name in of] for group, families in grouped(names).items()}

    def cell(column: Column, members: Sequence[str]) -> Count:
        return _count(tally(column.engine.cases[name] for name in members if name in column.engine.cases))

    rows = [*groups.items(), ("all", names)]
    return [(group, len(members), [cell(column, members) for column in engines]) for group, members in rows]


def _count(counted: Tally) -> Count:
    if counted.worst is None:
        return Count(MISSING, "· not recorded")
    kind, symbol = cell_class(counted.worst), SYMBOLS.get(counted.worst.verdict, "!")
    if not counted.against and PASS in counted.counts:
        kind, symbol = passing_class(counted.largest or 0.0), SYMBOLS[PASS]
    first, *others = counted.words()
    notes = ", ".join(others)
    if counted.largest is not None:
        notes += f"{'; ' if others else ''}worst {multiple_text(counted.largest)}"
    return Count(kind, f"{symbol} {first}", notes)
