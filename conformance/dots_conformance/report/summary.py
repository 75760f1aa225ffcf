"""What every report says of a comparison: which engines agree, where they do not, and what is worst."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from dots_conformance.bundle import CRASHED, RAISED, REFUSED, TIMED_OUT
from dots_conformance.closeness import FAIL, ILL, PASS, TensorVerdict
from dots_conformance.comparison import KNOWN, CaseVerdict, Comparison, EngineVerdict
from dots_conformance.ledger import Entry

SEVERITY = (PASS, ILL, KNOWN, REFUSED, TIMED_OUT, RAISED, CRASHED, FAIL)
"""Verdicts, from harmless to the one a reader must see."""

SYMBOLS = {PASS: "✓", ILL: "○", KNOWN: "≈", REFUSED: "⊘", TIMED_OUT: "!", RAISED: "!", CRASHED: "!", FAIL: "✗"}
"""Beside every colour, so that none is needed."""


@dataclass(frozen=True)
class Column:
    """One engine in a report.

    Attributes
    ----------
    number : int
        From 0.
    label : str
        The manifest's, numbered where several bundles have the same.
    engine : EngineVerdict
    """

    number: int
    label: str
    engine: EngineVerdict


@dataclass(frozen=True)
class Tally:
    """Verdicts on several cases.

    Attributes
    ----------
    counts : dict of int
        By verdict, the most severe first; those that occur.
    worst : CaseVerdict or None
        The most severe; among equals the one with the largest multiple.
    largest : float or None
        The largest multiple among the cases that tell one: they have arrays, and are not ill-conditioned.
    """

    counts: dict[str, int]
    worst: CaseVerdict | None
    largest: float | None

    @property
    def total(self) -> int:
        """Number of cases."""
        return sum(self.counts.values())

    @property
    def against(self) -> int:
        """How many speak against the engine."""
        return sum(count for verdict, count in self.counts.items() if speaks_against(verdict))

    @property
    def judged(self) -> int:
        """How many say something: all but those that the reference itself cannot compute at the precision."""
        return self.total - self.counts.get(ILL, 0)

    def words(self) -> list[str]:
        """The counts in words, what is worth seeing first: ``["3 fail", "1 known", "268 pass"]``.

        Where nothing speaks against the engine, what passes comes first.
        """
        first = sorted(self.counts, key=lambda verdict: not self.against and verdict != PASS)
        return [f"{self.counts[verdict]} {verdict}" for verdict in first]


@dataclass(frozen=True)
class Finding:
    """A case that speaks against an engine."""

    column: Column
    case: CaseVerdict


def columns(comparison: Comparison) -> tuple[Column, ...]:
    """The engines, each with a label of its own."""
    labels = [engine.manifest.label for engine in comparison.engines]
    occurring = Counter(labels)
    return tuple(
        Column(number, label if occurring[label] == 1 else f"{label} #{labels[: number + 1].count(label)}", engine)
        for number, (label, engine) in enumerate(zip(labels, comparison.engines, strict=True))
    )


def case_names(comparison: Comparison) -> list[str]:
    """Every case that any engine has, in the order they are run."""
    return list(dict.fromkeys(name for engine in comparison.engines for name in engine.cases))


def group_of(case: str) -> str:
    """What sort of case it is: ``"layers"`` for ``"layers/relu/c4-3x3"``."""
    return case.partition("/")[0]


def family_of(case: str) -> str:
    """What it is about: ``"layers/relu"`` for ``"layers/relu/c4-3x3"``."""
    return "/".join(case.split("/")[:2])


def grouped(names: Iterable[str]) -> dict[str, dict[str, list[str]]]:
    """Arrange cases by group and family."""
    groups: dict[str, dict[str, list[str]]] = {}
    for name in names:
        groups.setdefault(group_of(name), {}).setdefault(family_of(name), []).append(name)
    return groups


def speaks_against(verdict: str) -> bool:
    """Whether a verdict is one an engine must not have."""
    return verdict not in (PASS, ILL, KNOWN)


def tally(cases: Iterable[CaseVerdict]) -> Tally:
    """Count verdicts and find the worst."""
    known = list(cases)
    counts = Counter(case.verdict for case in known)
    order = [*sorted(set(counts) - set(SEVERITY)), *reversed(SEVERITY)]
    worst = max(known, key=lambda case: (_severity(case), _sortable(case.multiple)), default=None)
    telling = [case.multiple for case in known if case.tensors and case.verdict != ILL]
    largest = max(telling, key=_sortable, default=None)
    return Tally({verdict: counts[verdict] for verdict in order if counts[verdict]}, worst, largest)


def findings(comparison: Comparison) -> list[Finding]:
    """Every case that speaks against an engine, the largest multiple first."""
    found = [
        Finding(column, case)
        for column in columns(comparison)
        for case in column.engine.cases.values()
        if not case.agrees
    ]
    return sorted(found, key=lambda finding: -_sortable(finding.case.multiple))


def spread(found: Sequence[Finding], count: int) -> list[Finding]:
    """Return so many findings in their order, the first of every engine: none hides what is found of another."""
    seen: Counter[int] = Counter()
    ranked = []
    for place, finding in enumerate(found):
        ranked.append((seen[finding.column.number], place))
        seen[finding.column.number] += 1
    return [found[place] for place in sorted(place for _, place in sorted(ranked)[:count])]


def nearest(comparison: Comparison, count: int) -> list[Finding]:
    """The passing cases with the largest multiples: how near the engines are to what is allowed."""
    passing = [
        Finding(column, case)
        for column in columns(comparison)
        for case in column.engine.cases.values()
        if case.verdict == PASS and case.tensors
    ]
    return sorted(passing, key=lambda finding: -_sortable(finding.case.multiple))[:count]


def telling_tensor(case: CaseVerdict) -> TensorVerdict | None:
    """The tensor that a case's verdict rests on; None if it rests on something else, or it is not kept."""
    if case.verdict == FAIL:
        return next((tensor for tensor in case.tensors if case.message.startswith(f"{tensor.key}: ")), None)
    rests_on = {PASS: PASS, KNOWN: FAIL, ILL: ILL}.get(case.verdict)
    return next((tensor for tensor in case.tensors if tensor.verdict == rests_on), None)


def reason(case: CaseVerdict) -> str:
    """Why a case did not pass: what was said of it, or of the tensor it rests on."""
    tensor = telling_tensor(case)
    if case.verdict == FAIL and tensor is not None:
        return tensor.reason or case.message
    return case.message or ("" if tensor is None else tensor.reason)


def headline(comparison: Comparison) -> str:
    """Whether the engines agree, in one line."""
    count = len(comparison.engines)
    against = [column.label for column in columns(comparison) if not column.engine.agrees]
    if not any(engine.judged for engine in comparison.engines):
        return "Nothing was judged"
    if against:
        how_many = "The engine" if count == 1 else f"{len(against)} of {count} engines"
        return f"{how_many} {'does' if len(against) == 1 else 'do'} not agree: {', '.join(against)}"
    return {1: "The engine agrees", 2: "Both engines agree"}.get(count, f"All {count} engines agree")


def sentence(column: Column, total: int) -> str:
    """What became of one engine.

    Parameters
    ----------
    total : int
        How many cases any of the engines has.
    """
    whole = tally(column.engine.cases.values())
    unjudged = whole.total - whole.judged
    if not whole.judged:
        said = f"{column.label} was judged on no case"
    elif whole.against:
        bad = [f"{count} {verdict}" for verdict, count in whole.counts.items() if speaks_against(verdict)]
        first = next(case.case for case in column.engine.cases.values() if not case.agrees)
        said = f"{column.label} DISAGREES on {whole.against} of {whole.judged} cases: {', '.join(bad)}; first: {first}"
    else:
        said = f"{column.label} agrees with the reference on {whole.judged} of {whole.judged} cases"
        told = [f"{count} {verdict}" for verdict, count in whole.counts.items() if verdict not in (PASS, ILL)]
        said += f", {' and '.join(told)} among them" if told else ""
    if unjudged:
        cases = "case is" if unjudged == 1 else "cases are"
        said += f"; {unjudged} ill-conditioned {cases} not judged"
    if column.engine.stale:
        stale = len(column.engine.stale)
        said += f"; {stale} ledger {'entry is' if stale == 1 else 'entries are'} STALE"
    if whole.total and whole.total < total:
        said += f"; {total - whole.total} of {total} cases were not recorded"
    return said


def ledger_use(column: Column) -> list[tuple[Entry, str, int]]:
    """Return each entry that speaks of an engine, what became of it and how many cases it may have excused.

    An entry is ``"applied"``, ``"stale"``, or ``"not tried"`` where no case it names was recorded.
    """
    use = []
    for entry in column.engine.ledger:
        named = [case for name, case in column.engine.cases.items() if fnmatchcase(name, entry.cases)]
        state = "stale" if entry in column.engine.stale else "applied" if named else "not tried"
        use.append((entry, state, sum(case.verdict == KNOWN for case in named)))
    return use


def recording_seconds(column: Column) -> float:
    """How long the recording of an engine's cases took."""
    return sum(case.seconds for case in column.engine.cases.values())


def _severity(case: CaseVerdict) -> int:
    return SEVERITY.index(case.verdict) if case.verdict in SEVERITY else len(SEVERITY)


def _sortable(multiple: float) -> float:
    return math.inf if math.isnan(multiple) else multiple
