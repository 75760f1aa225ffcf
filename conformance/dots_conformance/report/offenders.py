"""The worst offenders, and the numbers behind every cell of the matrix."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from dots.report.markup import section, table, text
from dots_conformance.closeness import PASS, TensorVerdict
from dots_conformance.comparison import CaseVerdict, Comparison
from dots_conformance.report.summary import Column, Finding, findings, nearest, reason, spread, telling_tensor
from dots_conformance.report.verdict_cells import cell_class, cell_words
from dots_conformance.report.wording import (
    NOTHING,
    index_text,
    multiple_text,
    number_text,
    seconds_text,
    shortened,
    was_compared,
)

MOST = 40
"""How many cases that speak against an engine are listed one by one; all are in the matrix."""

NEAREST = 10
"""How many passing cases are listed where nothing speaks against an engine."""

WHOLE = 150
"""How many cells are given all their tensors and their whole message; the others are given the worst,
so that the page stays small when everything fails."""

_MESSAGE = 160
_HEADS = ("tensor, and why", "multiple", "rel. error", "largest", "at", "value", "expected", "ULPs", "cosine")
_KEY = (
    "<p>Multiple: error in multiples of what is allowed. Largest: the largest absolute difference; at, value and "
    "expected are that element's. ULPs: median, 99 % and largest difference in units in the last place of float32.</p>"
)


def offenders(comparison: Comparison, anchors: Mapping[str, str]) -> str:
    """Return the table of the worst offenders; where there are none, of the passing cases nearest to failing."""
    found = findings(comparison)
    rows = [_offender(finding, anchors) for finding in spread(found, MOST)]
    heads = ("case and engine", *_HEADS)
    if rows:
        more = f"<p>… and {len(found) - MOST} more, in the matrix.</p>" if len(found) > MOST else ""
        return section("offenders", "What disagrees", table(heads, rows, "numbers"), more, _KEY)
    rows = [_offender(finding, anchors) for finding in nearest(comparison, NEAREST)]
    if not rows:
        return ""
    note = "<p>Nothing disagrees; these come nearest to what is allowed.</p>\n"
    return section("offenders", "Nearest to failing", note, table(heads, rows, "numbers"), _KEY)


def _offender(finding: Finding, anchors: Mapping[str, str]) -> list[str]:
    case = finding.case
    link = (
        f'<a href="#{anchors[case.case]}">{text(case.case)}</a> <span class="tag {cell_class(case)}">'
        f"{text(cell_words(case))}</span><br><small>{text(finding.column.label)}</small>"
    )
    return [link, *_tensor_cells(telling_tensor(case), reason(case))]


def details(engines: Sequence[Column], anchors: Mapping[str, str], comparison: Comparison) -> str:
    """Return what every case's cells lead to: a panel each, shown while it is the page's target."""
    whole = {(finding.column.number, finding.case.case) for finding in spread(findings(comparison), WHOLE)}
    return "".join(_panel(case, anchor, engines, whole) for case, anchor in anchors.items())


def _panel(case: str, anchor: str, engines: Sequence[Column], whole: set[tuple[int, str]]) -> str:
    rows: list[list[str]] = []
    for column in engines:
        verdict = column.engine.cases.get(case)
        if verdict is not None:
            rows += _panel_rows(column, verdict, (column.number, case) in whole)
    return (
        f'<section class="case" id="{anchor}"><h3>{text(case)} <a href="#r{anchor}">close</a></h3>'
        f"{table(('engine', *_HEADS), rows, 'numbers')}</section>\n"
    )


def _panel_rows(column: Column, case: CaseVerdict, whole: bool) -> list[list[str]]:
    said = f'{text(column.label)} <span class="tag {cell_class(case)}">{text(cell_words(case))}</span>'
    said += f"<br><small>{text(case.verdict)}, {seconds_text(case.seconds)}</small>"
    tensor = telling_tensor(case)
    message = reason(case)
    first = _tensor_cells(tensor, message if whole else shortened(message, _MESSAGE))
    rows = [[said, *first]]
    if whole:
        rows += [["", *_tensor_cells(other, other.reason)] for other in case.tensors if other is not tensor]
    elif tensor is None and case.tensors and case.verdict != PASS:
        rows.append(["", *_tensor_cells(case.tensors[0], case.tensors[0].reason)])
    return rows


def _tensor_cells(tensor: TensorVerdict | None, why: str) -> list[str]:
    nothing = [NOTHING] * (len(_HEADS) - 1)
    if tensor is None:
        return [text(why) or NOTHING, *nothing]
    named = f"<code>{text(tensor.key)}</code>" + (f"<br>{text(why)}" if why else "")
    if not was_compared(tensor):
        return [named, multiple_text(tensor.multiple), *nothing[1:]]
    numbers = [multiple_text(tensor.multiple), number_text(tensor.relative), number_text(tensor.largest)]
    numbers += [index_text(tensor), number_text(tensor.value, 9), number_text(tensor.expected, 9)]
    numbers += [", ".join(number_text(ulps) for ulps in tensor.ulps), _cosine_text(tensor.cosine)]
    return [named, *map(text, numbers)]


def _cosine_text(cosine: float) -> str:
    """What is all but 1 is written as its distance from 1."""
    if not math.isfinite(cosine) or cosine < 0.999 or cosine >= 1:
        return number_text(cosine)
    return f"1 − {1 - cosine:.1e}"
