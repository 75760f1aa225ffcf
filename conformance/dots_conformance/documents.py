"""A comparison as plain records, for JSON."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from dots_conformance.comparison import Comparison


def comparison_record(comparison: Comparison) -> dict[str, Any]:
    """Return a comparison as lists, names and numbers; what is not finite becomes None."""
    return {
        "agrees": comparison.agrees,
        "seed": comparison.seed,
        "suite": comparison.suite,
        "engines": [
            {
                "label": engine.manifest.label,
                "agrees": engine.agrees,
                "backend": engine.manifest.backend,
                "device": engine.manifest.device,
                "precision": engine.manifest.precision,
                "versions": engine.manifest.versions,
                "environment": engine.manifest.environment,
                "stale": [asdict(entry) for entry in engine.stale],
                "cases": [finite(asdict(case)) for case in engine.cases.values()],
            }
            for engine in comparison.engines
        ],
    }


def finite(value: Any) -> Any:
    """Return a record with None in place of numbers that JSON does not have."""
    if isinstance(value, dict):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
