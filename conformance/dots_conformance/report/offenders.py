"""The worst offenders, and the numbers behind every cell of the matrix."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

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

HEADS = ("tensor, and why", "multiple", "rel. error", "largest", "at", "value", "expected", "ULPs", "cosine")
_MESSAGE = 160


@dataclass(frozen=True)
class Numbers:
    """One tensor of a case on an engine.

    Attributes
    ----------
    kind, words : str
        CSS class and words of the case's verdict.
    said : str
        The verdict and how long the case took.
    first : bool
        Whether it is the tensor that the verdict rests on, at which the other attributes are shown.
    key : str
        The tensor's name; empty if there is none.
    numbers : list of str
        What stands under `HEADS` from the second on.
    """

    label: str
    case: str
    kind: str
    words: str
    said: str
    first: bool
    key: str
    why: str
    numbers: list[str]


def offenders(comparison: Comparison) -> list[Numbers]:
    """Return the worst offenders."""
    return _listed(spread(findings(comparison), MOST))


def nearest_to_failing(comparison: Comparison) -> list[Numbers]:
    """Return the passing cases nearest to failing."""
    return _listed(nearest(comparison, NEAREST))


def _listed(found: Iterable[Finding]) -> list[Numbers]:
    return [_numbers(each.column, each.case, telling_tensor(each.case), reason(each.case)) for each in found]


def panels(engines: Sequence[Column], names: Iterable[str], comparison: Comparison) -> list[tuple[str, list[Numbers]]]:
    """Return what every case's cells lead to."""
    whole = {(finding.column.number, finding.case.case) for finding in spread(findings(comparison), WHOLE)}
    return [
        (
            name,
            [
                row
                for column in engines
                if name in column.engine.cases
                for row in _rows(column, column.engine.cases[name], (column.number, name) in whole)
            ],
        )
        for name in names
    ]


def _rows(column: Column, case: CaseVerdict, whole: bool) -> list[Numbers]:
    tensor, message = telling_tensor(case), reason(case)
    rows = [_numbers(column, case, tensor, message if whole else shortened(message, _MESSAGE))]
    if whole:
        others: Sequence[TensorVerdict] = [other for other in case.tensors if other is not tensor]
    else:
        others = case.tensors[:1] if tensor is None and case.verdict != PASS else ()
    return rows + [_numbers(column, case, other, other.reason, first=False) for other in others]


def _numbers(column: Column, case: CaseVerdict, tensor: TensorVerdict | None, why: str, first: bool = True) -> Numbers:
    key, numbers = "", [NOTHING] * (len(HEADS) - 1)
    if tensor is not None:
        key, numbers[0] = tensor.key, multiple_text(tensor.multiple)
        if was_compared(tensor):
            numbers[1:] = [number_text(tensor.relative), number_text(tensor.largest), index_text(tensor)]
            numbers += [number_text(tensor.value, 9), number_text(tensor.expected, 9)]
            numbers += [", ".join(number_text(ulps) for ulps in tensor.ulps), _cosine_text(tensor.cosine)]
    said = f"{case.verdict}, {seconds_text(case.seconds)}"
    return Numbers(column.label, case.case, cell_class(case), cell_words(case), said, first, key, why, numbers)


def _cosine_text(cosine: float) -> str:
    """What is all but 1 is written as its distance from 1."""
    if not math.isfinite(cosine) or cosine < 0.999 or cosine >= 1:
        return number_text(cosine)
    return f"1 − {1 - cosine:.1e}"
