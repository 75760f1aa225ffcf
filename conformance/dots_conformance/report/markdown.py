"""The report as a page of Markdown, for a comment or a terminal."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from dots.pages.environment import writable
from dots.pages.table import Table
from dots_conformance.comparison import Comparison
from dots_conformance.report.facts import environment_rows
from dots_conformance.report.summary import (
    SYMBOLS,
    Finding,
    Tally,
    case_names,
    columns,
    findings,
    grouped,
    headline,
    ledger_use,
    reason,
    sentence,
    spread,
    tally,
    telling_tensor,
)
from dots_conformance.report.wording import NOTHING, index_text, multiple_text, number_text, shortened, was_compared

MOST = 40
"""How many of the cases that fail are listed one by one."""

_MESSAGE = 200


def markdown_report(comparison: Comparison) -> str:
    """Return a comparison as GitHub-flavoured Markdown: verdicts, counts, what fails, the ledger, the environment."""
    engines, names = columns(comparison), case_names(comparison)
    blocks = ["# Conformance", _code(headline(comparison))]
    blocks.append(f"dots {_code(comparison.suite)}, seed {comparison.seed}.")
    if engines:
        verdicts = [f"- {'✓' if c.engine.agrees else '✗'} {_code(sentence(c, len(names)))}" for c in engines]
        blocks.append("\n".join(verdicts))
    if names:
        rows = []
        for group, families in [*grouped(names).items(), ("all", {"": names})]:
            members = [name for family in families.values() for name in family]
            counts = [tally(c.engine.cases[name] for name in members if name in c.engine.cases) for c in engines]
            rows.append([f"{_code(group)} ({len(members)})", *(_counts(each) for each in counts)])
        blocks += ["## Cases", _table(["Cases", *(_code(c.label) for c in engines)], rows)]
    found = findings(comparison)
    if found:
        listed = spread(found, MOST)
        blocks += ["## What disagrees", _table(_HEADS, [_finding_row(each) for each in listed])]
        others = [each for each in found if each not in listed]
        if others:
            blocks.append(f"… and {len(others)} more:\n\n{_names_only(others)}")
    entries = [(c, *use) for c in engines for use in ledger_use(c)]
    if entries:
        heads = ["Engine", "State", "Versions", "Cases", "Tensors", "Known cases", "Reason", "Link"]
        rows = [
            [
                _code(column.label),
                "**STALE**" if state == "stale" else state,
                _code(f"{entry.package} {entry.versions}"),
                _code(entry.cases),
                _code(entry.tensors),
                str(count),
                _code(entry.reason),
                _code(entry.link),
            ]
            for column, entry, state, count in entries
        ]
        blocks += ["## Known deviations", _table(heads, rows)]
    if engines:
        facts = [[_code(name), *map(_code, values)] for name, values in environment_rows(engines)]
        blocks += ["## Environment", _table(["", *(_code(c.label) for c in engines)], facts)]
    return "\n\n".join(blocks) + "\n"


_HEADS = ["Engine", "Case", "Verdict", "Multiple", "Tensor", "At", "Value", "Expected", "Reason"]


def _finding_row(finding: Finding) -> list[str]:
    case, tensor = finding.case, telling_tensor(finding.case)
    row = [_code(finding.column.label), _code(case.case), f"{SYMBOLS.get(case.verdict, '✗')} {case.verdict}"]
    if tensor is None:
        row += [multiple_text(case.multiple) if case.tensors else NOTHING, *[NOTHING] * 4]
    else:
        row += [multiple_text(tensor.multiple), _code(tensor.key), index_text(tensor)]
        values = (tensor.value, tensor.expected)
        row += [number_text(value, 9) if was_compared(tensor) else NOTHING for value in values]
    return [*row, _code(shortened(reason(case), _MESSAGE))]


def _names_only(found: Iterable[Finding]) -> str:
    by_engine: dict[str, list[str]] = {}
    for finding in found:
        by_engine.setdefault(finding.column.label, []).append(finding.case.case)
    return "\n".join(f"- {_code(label)}: {', '.join(map(_code, cases))}" for label, cases in by_engine.items())


def _counts(counted: Tally) -> str:
    if not counted.total or counted.worst is None:
        return NOTHING
    symbol = SYMBOLS.get(counted.worst.verdict, "✗") if counted.against else "✓"
    said = f"{symbol} {', '.join(counted.words())}"
    return said if counted.largest is None else f"{said}; worst {multiple_text(counted.largest)}"


def _code(text: str) -> str:
    """Quote foreign text so that nothing in it is markup, in tables too."""
    flat = " ".join(writable(text).split()).replace("|", "\\|")
    if not flat:
        return ""
    fence = "`" * (max((len(run) for run in re.findall("`+", flat)), default=0) + 1)
    padding = " " * (flat.startswith("`") or flat.endswith("`"))
    return f"{fence}{padding}{flat}{padding}{fence}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(Table(heads, rows, "l" * len(heads)).markdown())
