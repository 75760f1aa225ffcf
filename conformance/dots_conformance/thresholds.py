"""Every number that a verdict depends on; `docs/conformance.md` shows this table."""

from __future__ import annotations

from dots_core.engine.protocol import PRECISIONS
from dots_core.errors import UsageError

FLOORS = {
    # Relative error that always passes: of outputs and states, of gradients, of free-running trajectories.
    "float64": (1e-12, 1e-11, 1e-9),
    "float32": (1e-5, 2e-5, 1e-3),
    "tf32": (1e-3, 2e-3, 2e-2),
    "hf32": (1e-3, 2e-3, 2e-2),
    "float16": (1e-3, 3e-3, 3e-2),
    "bfloat16": (8e-3, 2e-2, 2e-1),
}

DRAWN = {"float64": "float32"} | {name: name for name in FLOORS if name != "float64"}
"""The precision in which the reference draws what sets the budget of another: its own, and float32 for float64."""

ROUNDING = {"float64": 2.0**-29} | {name: 1.0 for name in FLOORS if name != "float64"}
"""Rounding error of a precision relative to that of its draws (`DRAWN`)."""

MOVED = {"float32": 2.0**-23, "tf32": 2.0**-11, "hf32": 2.0**-12, "float16": 2.0**-11, "bfloat16": 2.0**-8}
"""How far draws in a precision move what is rounded on the way in, relative to its size."""

MULTIPLE = 8.0
"""How many times the reference's own rounding error a tensor may be away."""

CAP, CAPPED = 0.5, 3.0
"""Relative budget beyond which a tensor may be only so many times the reference's own rounding error away."""

MOVES = 0.1
"""Share of the floor, below float32, for weights, architecture weights and losses, which are kept in float32.

A step's rounding errors reach weights in its moves only, which are about a tenth of them at most; in a loss, whose
larger part is the logarithm of the number of classes, those of logits average out."""

NEGLIGIBLE = 0.01
"""Share of the floor, relative to the largest norm among tensors of the sort, that a tensor may be away at least.

Gradients that are zero but for rounding have no scale of their own."""

ELEMENT = 10.0
"""How many times the tensor's relative budget a single element may be away, relative to |ref| + rms(ref)."""

ILL_CONDITIONED = {name: 1e-2 if name in ("float64", "float32") else 0.5 for name in FLOORS}
"""Relative error of the reference itself, at a precision, in all tensors of a sort beyond which they are not judged."""

GROWTH = 64.0
"""How many times the reference's own deviation a free-running trajectory may be away, step by step."""


def check_precision(precision: str) -> None:
    """Raise `UsageError` unless there are thresholds for a precision."""
    if PRECISIONS[precision].name not in FLOORS:
        raise UsageError(f"nothing is known of rounding in {precision}; what is judged: {', '.join(FLOORS)}")
