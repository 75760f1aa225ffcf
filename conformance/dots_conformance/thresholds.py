"""Every number that a verdict depends on; `docs/conformance.md` shows this table."""

from __future__ import annotations

FLOORS = {
    # Relative error that always passes: of outputs and states, of gradients, of free-running trajectories.
    "float64": (1e-12, 1e-11, 1e-9),
    "float32": (1e-5, 2e-5, 1e-3),
    "tf32": (1e-3, 2e-3, 2e-2),
    "float16": (1e-3, 3e-3, 3e-2),
    "bfloat16": (8e-3, 2e-2, 2e-1),
}

ROUNDING = {
    # Rounding error of a precision relative to float32's, whose reference sets the budget.
    "float64": 2.0**-29,
    "float32": 1.0,
    "tf32": 2.0**13,
    "float16": 2.0**13,
    "bfloat16": 2.0**16,
}

MULTIPLE = 8.0
"""How many times the reference's own rounding error a tensor may be away."""

NEGLIGIBLE = 0.01
"""Share of the floor, relative to the largest norm among tensors of the sort, that a tensor may be away at least.

Gradients that are zero but for rounding have no scale of their own."""

ELEMENT = 10.0
"""How many times the tensor's relative budget a single element may be away, relative to |ref| + rms(ref)."""

ILL_CONDITIONED = 1e-2
"""Relative error of the float32 reference beyond which a tensor tells nothing: it is reported, not passed."""

GROWTH = 64.0
"""How many times the float32 reference's own deviation a free-running trajectory may be away, step by step."""
