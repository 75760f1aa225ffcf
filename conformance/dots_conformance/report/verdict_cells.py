"""Verdicts as coloured cells. Every colour has a symbol or a word beside it."""

from __future__ import annotations

import math

from dots_conformance.bundle import CRASHED, RAISED, REFUSED, TIMED_OUT
from dots_conformance.closeness import FAIL, ILL, PASS
from dots_conformance.comparison import KNOWN, CaseVerdict
from dots_conformance.report.summary import SYMBOLS, Tally, speaks_against
from dots_conformance.report.wording import multiple_text

MISSING = "m"
"""CSS class of a case that an engine has not recorded."""

_PASSING = (0.001, 0.01, 0.1)
_FAILING = (10.0, 100.0)
_CLASSES = {KNOWN: "k", ILL: "i", REFUSED: "x", TIMED_OUT: "x", RAISED: "x", CRASHED: "x"}

LEGEND = (
    ("a0", "✓ below 0.001"),
    ("a1", "✓ to 0.01"),
    ("a2", "✓ to 0.1"),
    ("a3", "✓ to 1 times what is allowed"),
    ("f0", "✗ to 10"),
    ("f1", "✗ to 100"),
    ("f2", "✗ more, or not finite"),
    ("x", "! crashed, raised, timed out; ⊘ refused"),
    ("k", "≈ known deviation"),
    ("i", "○ ill-conditioned, tells nothing"),
    ("m", "· not recorded"),
)
"""CSS classes and what they mean."""


def passing_class(multiple: float) -> str:
    """The CSS class of what passes, by its multiple."""
    return f"a{sum(multiple > bound for bound in _PASSING)}"


def cell_class(case: CaseVerdict) -> str:
    """The CSS class of a verdict: its colour tells the multiple, on a logarithmic scale."""
    if case.verdict == PASS:
        return passing_class(case.multiple)
    if case.verdict == FAIL:
        level = 2 if math.isnan(case.multiple) else sum(case.multiple > bound for bound in _FAILING)
        return f"f{level}"
    return _CLASSES.get(case.verdict, "x")


def cell_words(case: CaseVerdict) -> str:
    """What a case's cell says, for example ``"✓ 0.03"``, ``"✗ 35"``, ``"! crashed"``."""
    symbol = SYMBOLS.get(case.verdict, "!")
    if case.verdict == PASS:
        return f"{symbol} {multiple_text(case.multiple)}"
    if case.verdict == FAIL:
        # Nothing is too far away and yet it fails: another choice was made.
        return f"{symbol} {'decision' if case.multiple <= 1 else multiple_text(case.multiple)}"
    if case.verdict == KNOWN and math.isfinite(case.multiple) and case.multiple > 1:
        return f"{symbol} {multiple_text(case.multiple)}"
    return f"{symbol} {'ill' if case.verdict == ILL else case.verdict}"


def family_words(counted: Tally) -> str:
    """What the cell of several cases says: the worst, and how many of them."""
    worst = counted.worst
    if worst is None:
        return "·"
    if counted.total == 1 or worst.verdict == PASS:
        return cell_words(worst)
    symbol = SYMBOLS.get(worst.verdict, "!")
    if speaks_against(worst.verdict):
        said = f"{symbol} {counted.against} of {counted.total}"
        return f"{said} · {multiple_text(worst.multiple)}" if worst.verdict == FAIL else f"{said} {worst.verdict}"
    return f"{symbol} {counted.counts[worst.verdict]} {'ill' if worst.verdict == ILL else worst.verdict}"
