"""On what, with what and by which numbers engines were judged: rows for a report's tables."""

from __future__ import annotations

from collections.abc import Sequence

from dots_conformance.report.summary import Column, recording_seconds
from dots_conformance.report.wording import NOTHING, seconds_text
from dots_conformance.thresholds import (
    CAP,
    CAPPED,
    ELEMENT,
    FLOORS,
    GROWTH,
    ILL_CONDITIONED,
    MOVES,
    MULTIPLE,
    NEGLIGIBLE,
    ROUNDING,
)


def environment_rows(engines: Sequence[Column]) -> list[tuple[str, list[str]]]:
    """Return one row a fact: its name and what it is for each engine."""
    facts = []
    for column in engines:
        manifest = column.engine.manifest
        facts.append(
            {
                "backend": manifest.backend,
                "device": manifest.device,
                "precision": manifest.precision,
                "seed": str(manifest.seed),
                "dots": manifest.suite,
                **{f"engine: {name}": value for name, value in manifest.versions.items()},
                **{f"machine: {name}": value for name, value in manifest.environment.items()},
                "cases": str(len(column.engine.cases)),
                "recorded in": seconds_text(recording_seconds(column)),
            }
        )
    names = list(dict.fromkeys(name for each in facts for name in each))
    # A fact that only a later engine has would otherwise stand after the last one of the first.
    order = {"engine:": 1, "machine:": 2}
    names.sort(key=lambda name: 3 if name in ("cases", "recorded in") else order.get(name.partition(" ")[0], 0))
    return [(name, [each.get(name) or NOTHING for each in facts]) for name in names]


def floor_rows() -> list[list[str]]:
    """Return one row a precision: errors that always pass, and its rounding error beside that of its draws."""
    return [
        [precision, *(f"{floor:g}" for floor in floors), f"{ROUNDING[precision]:.3g}"]
        for precision, floors in FLOORS.items()
    ]


def threshold_rows() -> list[list[str]]:
    """Return the other numbers that verdicts depend on, each with what it is."""
    return [
        [f"{MULTIPLE:g}", "times the reference's own rounding error a tensor may be away"],
        [f"{CAPPED:g}", f"times that, where {MULTIPLE:g} times it is more than {CAP:g} of the tensor's norm"],
        [f"{ELEMENT:g}", "times the tensor's relative budget a single element may be away"],
        [f"{GROWTH:g}", "times the reference's own drift a free-running trajectory may be away, step by step"],
        [
            f"{MOVES:g}",
            "of the floor for weights, architecture weights and losses below float32, which are kept in float32",
        ],
        [f"{NEGLIGIBLE:g}", "of the floor, relative to the largest tensor of its sort, a tensor may always be away"],
        [
            ", ".join(f"{limit:g}" for limit in dict.fromkeys(ILL_CONDITIONED.values())),
            "relative error of the reference itself, in float32 and below it, beyond which a sort is not judged",
        ],
    ]
