"""The matrix of cases by engines, by family; families with something against an engine are open."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dots_conformance.comparison import CaseVerdict
from dots_conformance.report.summary import Column, grouped, tally
from dots_conformance.report.verdict_cells import MISSING, cell_class, cell_words, family_words


@dataclass(frozen=True)
class CaseRow:
    """A case's cells, by engine: CSS class and words, None where an engine did not record it."""

    name: str
    bad: bool
    cells: list[tuple[str, str] | None]


@dataclass(frozen=True)
class CaseGroup:
    """Cases of one sort, and the worst of them by engine."""

    name: str
    opened: bool
    cells: list[tuple[str, str]]
    cases: list[CaseRow]


def matrix(engines: Sequence[Column], names: Iterable[str]) -> list[tuple[str, list[CaseGroup]]]:
    """Return the families of each group of cases."""
    return [
        (group, [_family(name, members, engines) for name, members in families.items()])
        for group, families in grouped(names).items()
    ]


def _family(name: str, members: Sequence[str], engines: Sequence[Column]) -> CaseGroup:
    tallies = [tally(c.engine.cases[case] for case in members if case in c.engine.cases) for c in engines]
    cells = [(MISSING if t.worst is None else cell_class(t.worst), family_words(t)) for t in tallies]
    return CaseGroup(name, any(t.against for t in tallies), cells, [_row(case, engines) for case in members])


def _row(name: str, engines: Sequence[Column]) -> CaseRow:
    found: list[CaseVerdict | None] = [column.engine.cases.get(name) for column in engines]
    cells = [None if case is None else (cell_class(case), cell_words(case)) for case in found]
    return CaseRow(name, any(case is not None and not case.agrees for case in found), cells)
