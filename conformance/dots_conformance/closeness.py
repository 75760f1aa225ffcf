"""How close an engine must come to the reference engine.

Let ref64 be the reference in float64 and ref32 in float32, on the same inputs, already rounded
to float32. An engine passes on a tensor when non-finite values stand in the same places and

    ‖engine − ref64‖ ≤ budget·‖ref64‖ + absolute,   budget = max(8·‖ref32 − ref64‖/‖ref64‖, 8·typical, floor)

The first term of the budget is the rounding error that is unavoidable for this tensor at this
precision, which differs by orders of magnitude between tensors; measured in float32, it is
2⁻²⁹ as large in float64. But it is a single draw: where float32 happens to hit a tensor
nearly exactly it says nothing of what others may miss it by. So the median of these relative
errors over tensors of the same sort, the typical one, is a lower bound, as is the floor.

Some gradients are zero but for rounding, for example of what only scales the input of a batch
norm: relative to their own norm the error of any engine is then of order 1. The absolute term
allows them 1 % of the floor, relative to the largest norm among tensors of the same sort
(the part of the key before the slash). A tensor that is exactly 0 in ref64 is allowed the
whole floor, relative to the same norm.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]

FLOORS = {"float32": {"forward": 2e-6, "gradient": 5e-6}, "float64": {"forward": 1e-12, "gradient": 1e-11}}
MULTIPLE = 8.0
ROUNDING = {"float32": 1.0, "float64": 2.0**-29}
"""Rounding error of a precision, relative to float32's."""

_GRADIENTS = ("gradient", "momentum", "adam.first", "adam.second")


def kind_of(key: str) -> str:
    """Which floor applies to a key of ``Network.gradients`` or ``Network.export_state``."""
    return "gradient" if key.partition("/")[0] in _GRADIENTS else "forward"


def norm(array: NDArray[Any]) -> float:
    """Euclidean norm of the finite entries, in float64."""
    values = np.asarray(array, np.float64)
    return float(np.linalg.norm(values[np.isfinite(values)]))


def typical_error(ref64: Arrays, ref32: Arrays, sort: str) -> float:
    """Median relative error of float32 over the tensors of a sort that are not 0."""
    errors = [
        norm(np.asarray(ref32[key], np.float64) - value) / norm(value)
        for key, value in ref64.items()
        if key.partition("/")[0] == sort and value.dtype.kind == "f" and norm(value)
    ]
    return float(np.median(errors)) if errors else 0.0


def allowed(
    key: str, ref64: NDArray[Any], ref32: NDArray[Any], precision: str, largest: float, typical: float = 0.0
) -> float:
    """Largest ‖engine − ref64‖ that passes.

    Parameters
    ----------
    key : str
        Key of ``Network.gradients`` or ``Network.export_state``.
    largest : float
        Largest norm among tensors of the same sort.
    typical : float
        `typical_error` of the sort.
    """
    floor = FLOORS[precision][kind_of(key)]
    size = norm(ref64)
    own = norm(np.asarray(ref32, np.float64) - ref64)
    unavoidable = MULTIPLE * ROUNDING[precision] * max(own, typical * size)
    absolute = floor * largest * (0.01 if size else 1.0)
    return max(unavoidable, floor * size) + absolute


def assert_close(actual: Arrays, ref64: Arrays, ref32: Arrays, precision: str) -> None:
    """Assert that two sets of arrays hold the same keys and that each array is within its budget.

    Integer arrays must be equal. The message lists every array that is not, the worst first.
    """
    assert set(actual) == set(ref64)
    largest: dict[str, float] = {}
    for key, value in ref64.items():
        sort = key.partition("/")[0]
        largest[sort] = max(largest.get(sort, 0.0), norm(value))
    typical = {sort: typical_error(ref64, ref32, sort) for sort in largest}
    failures: list[tuple[float, str]] = []
    for key, expected in ref64.items():
        found = np.asarray(actual[key])
        assert found.shape == expected.shape, f"{key}: shape {found.shape}, the reference has {expected.shape}"
        if expected.dtype.kind == "i":
            assert np.array_equal(found, expected), f"{key}: {found}, the reference has {expected}"
            continue
        values = found.astype(np.float64)
        if not np.array_equal(np.isfinite(values), np.isfinite(expected)):
            failures.append((np.inf, f"{key}: non-finite values stand elsewhere than in the reference"))
            continue
        limit = allowed(
            key, expected, ref32[key], precision, *(by_sort[key.partition("/")[0]] for by_sort in (largest, typical))
        )
        with np.errstate(invalid="ignore"):
            error = norm(values - expected)
        if error > limit:
            ratio = error / limit if limit else np.inf
            size = norm(expected)
            failures.append((ratio, f"{key}: error {error:.3g} of norm {size:.3g}, {ratio:.3g} times what is allowed"))
    assert not failures, "\n".join(text for _, text in sorted(failures, reverse=True))
