"""What a finished search says at its end on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dots_core.search_space.cell import CELL_TYPES

_KINDS = {"normal": "normal", "reduce": "reduction"}
DECIDERS = {"alpha": "operations", "beta": "combinations", "edges": "edges"}


def search_summary(
    metrics: Mapping[str, Any],
    margins: Mapping[str, float],
    warnings: Sequence[str],
    early_stops: Sequence[str],
    unusable: str = "",
) -> str:
    """Return a line for each thing to know, and the warnings after them.

    Parameters
    ----------
    metrics : mapping
        The last epoch's row.
    margins : mapping
        As in `dots.run.api.SearchResult`, as are the others.
    """
    lines: list[tuple[str, str]] = [("NOT USABLE", unusable)] if unusable else []
    if "validation_accuracy" in metrics:
        lines.append(
            ("supernet accuracy", f"{metrics['validation_accuracy']:.2%} ({metrics['validation_split']} images)")
        )
    if "discretisation_gap" in metrics:
        gap = 100 * metrics["discretisation_gap"]
        lines.append(
            ("derived from it", f"{metrics['derived_accuracy']:.2%} without retraining (gap {gap:+.1f} points)")
        )
    lines += _by_cell("skip connections", {kind: metrics.get(f"skip_count_{kind}") for kind in CELL_TYPES}, "d")
    for group, symbol in (("alpha", "α"), ("beta", "β")):
        found = {kind: metrics.get(f"{group}_entropy_{kind}") for kind in CELL_TYPES}
        lines += _by_cell(f"entropy of {symbol}", found, ".2f")
    for by, what in DECIDERS.items():
        found = {kind: margins.get(f"{by}.{kind}") for kind in CELL_TYPES}
        lines += _by_cell("smallest margin", found, ".2g", f" of {what}")
    lines += [("stopped early", stop) for stop in early_stops]
    lines += [("warning", warning) for warning in warnings]
    return "\n".join(f"{label:18} {value}" for label, value in lines)


def _by_cell(label: str, values: Mapping[str, float | None], form: str, what: str = "") -> list[tuple[str, str]]:
    shown = [f"{value:{form}} ({_KINDS[kind]})" for kind, value in values.items() if value is not None]
    return [(label, ", ".join(shown) + what)] if shown else []
