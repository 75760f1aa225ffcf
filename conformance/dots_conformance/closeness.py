"""How close one tensor must come to the reference engine's.

Let ref64 be the reference in float64, and let the *draws* be the reference in float32, or as if in the lower
precision that is judged, on the same inputs, already rounded to float32, and on inputs moved by no more than a
rounding error (`dots_conformance.rounding`). What the draws are away from ref64 is the error that is unavoidable
at this precision; it differs by orders of magnitude between tensors, and several draws show it
where one would be lucky: in a sum that cancels, at a ReLU that nearly ties. A tensor passes when
non-finite values stand in the same places,

    ‖engine − ref64‖ ≤ budget·‖ref64‖ + absolute,   budget = max(8·max ‖draw − ref64‖/‖ref64‖, floor),

(beyond a half no more than three times what the draws are away, since a tensor of zeros is away by 1)
and every element is within 10·budget·(|ref64| + rms(ref64)), or 8 times what the worst element
of a draw is away on that scale. Measured in float32, the unavoidable error is 2⁻²⁹ as large in
float64. Where the draws' errors in all tensors of a sort together are too large, the reference itself cannot compute
the sort at the precision, and it is not judged.

Some gradients are zero but for rounding, for example of what only scales the input of a batch
norm: relative to their own norm the error of any engine is then of order 1. The absolute term
allows them 1 % of the floor, relative to the largest norm among tensors of the same sort
(the part of the key before the slash). A tensor that is exactly 0 in ref64 is allowed the
whole floor, relative to the same norm. The numbers stand in `dots_conformance.thresholds`.

Adam's first steps move an architecture weight by about the learning rate, in the direction of its gradient's sign.
Where, below float32, rounding has turned the sign of the first moment, which is nearer to 0 than its budget, the weight
is not compared, as after a tie; the moment is.

Free-running trajectories (sorts that begin with ``growth``) amplify rounding errors from step
to step. Their budget is a multiple of the largest deviation that the draws have shown up to that step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dots_conformance.thresholds import (
    CAP,
    CAPPED,
    DRAWN,
    ELEMENT,
    FLOORS,
    GROWTH,
    ILL_CONDITIONED,
    MOVES,
    MULTIPLE,
    NEGLIGIBLE,
    ROUNDING,
)

Arrays = Mapping[str, NDArray[Any]]

PASS, FAIL, ILL = "pass", "fail", "ill-conditioned"

_GRADIENTS = ("gradient", "momentum", "adam.first", "adam.second", "trace.gradient")
_KEPT = ("weights", "architecture", "loss", "evaluation")
"""What engines keep, move or sum up in float32 whatever they compute in."""


@dataclass(frozen=True)
class TensorVerdict:
    """What became of one tensor.

    Attributes
    ----------
    key : str
        Sort and name, for example ``"gradient/cells.0.0-2.sep_conv_3x3.depthwise1.weight"``.
    verdict : str
        ``"pass"``, ``"fail"`` or ``"ill-conditioned"``.
    multiple : float
        Error in multiples of what is allowed, by norm or by element, whichever is larger; infinite
        where shapes differ or non-finite values stand elsewhere.
    relative : float
        ‖engine − ref64‖ / ‖ref64‖; 0 if both are 0.
    largest : float
        Largest absolute difference of an element.
    index : tuple of int
        Where that element stands.
    value, expected : float
        That element of the engine and of ref64.
    ulps : (float, float, float)
        Median, 99th percentile and maximum of the difference in units in the last place of float32.
    cosine : float
        Between engine and ref64; for information.
    reason : str
        Why it does not pass, empty if it does.
    """

    key: str
    verdict: str
    multiple: float
    relative: float = 0.0
    largest: float = 0.0
    index: tuple[int, ...] = ()
    value: float = 0.0
    expected: float = 0.0
    ulps: tuple[float, float, float] = (0.0, 0.0, 0.0)
    cosine: float = 1.0
    reason: str = ""


def sort_of(key: str) -> str:
    """The part of a key before the slash: tensors of one sort are of comparable size."""
    return key.partition("/")[0]


def floor_of(key: str, precision: str) -> float:
    """The relative error that always passes."""
    sort = sort_of(key)
    forward, gradient, growth = FLOORS[precision]
    if sort in _KEPT and precision not in ("float64", "float32"):
        return MOVES * forward
    return growth if sort.startswith("growth") else gradient if sort in _GRADIENTS else forward


def norm(array: NDArray[Any]) -> float:
    """Euclidean norm of the finite entries of an array of any shape, in float64."""
    values = np.asarray(array, np.float64)
    return float(np.linalg.norm(values[np.isfinite(values)]))


def judge(actual: Arrays, ref64: Arrays, draws: Sequence[Arrays], precision: str) -> list[TensorVerdict]:
    """Judge every tensor of a set; the worst come first.

    Integer arrays must be equal.

    Parameters
    ----------
    actual, ref64 : dict of arrays
    draws : one or more dicts of arrays
    precision : str
        What the engine computed in; a key of `dots_conformance.thresholds.FLOORS`.
    """
    largest: dict[str, float] = {}
    together: dict[str, list[str]] = {}
    for key, value in ref64.items():
        largest[sort_of(key)] = max(largest.get(sort_of(key), 0.0), norm(value))
        if value.dtype.kind == "f":
            together.setdefault(sort_of(key), []).append(key)
    strays = {sort: max(_stray(keys, draw, ref64) for draw in draws) for sort, keys in together.items()}
    lacking = [(key, "the engine did not return it") for key in ref64 if key not in actual]
    lacking += [(key, "the reference has no such tensor") for key in actual if key not in ref64]
    verdicts = [TensorVerdict(key, FAIL, np.inf, reason=reason) for key, reason in lacking]
    grown: dict[str, float] = {}
    # In order of the keys, so that trajectories are followed from step to step however arrays were stored.
    for key, expected in sorted(ref64.items()):
        if key not in actual:
            continue
        found, sort = np.asarray(actual[key]), sort_of(key)
        if found.shape != expected.shape:
            reason = f"its shape is {found.shape}, the reference has {expected.shape}"
            verdicts.append(TensorVerdict(key, FAIL, np.inf, reason=reason))
        elif expected.dtype.kind != "f":
            equal = np.array_equal(found, expected)
            reason = "" if equal else f"it is {found.tolist()}, the reference has {expected.tolist()}"
            verdicts.append(TensorVerdict(key, PASS if equal else FAIL, 0.0 if equal else np.inf, reason=reason))
        else:
            found = np.where(_turned(key, actual, ref64, draws, precision), expected, found)
            rough = [np.asarray(draw[key]) for draw in draws]
            own = max(_relative(draw, expected) for draw in rough)
            if sort.startswith("growth"):
                own = grown[sort] = max(own, grown.get(sort, 0.0))
            verdicts.append(_judge_tensor(key, found, expected, rough, own, strays[sort], precision, largest[sort]))
    return sorted(verdicts, key=lambda v: (v.verdict == PASS, -v.multiple, v.key))


def _turned(key: str, actual: Arrays, ref64: Arrays, draws: Sequence[Arrays], precision: str) -> NDArray[np.bool_]:
    """Where Adam moves architecture weights by a moment of the other sign than ref64's, which its budget allows."""
    sort, _, name = key.partition("/")
    first = f"adam.first/{name}"
    if DRAWN[precision] == "float32" or sort != "architecture" or first not in ref64 or first not in actual:
        return np.zeros((), bool)
    moment, found = np.asarray(ref64[first], np.float64), np.asarray(actual[first], np.float64)
    if found.shape != moment.shape:
        return np.zeros((), bool)
    own = max(_relative(np.asarray(draw[first]), moment) for draw in draws)
    budget = max(ROUNDING[precision] * MULTIPLE * own, floor_of(first, precision))
    near: NDArray[np.bool_] = np.abs(moment) <= budget * norm(moment) / np.sqrt(max(moment.size, 1))
    return near & (moment * found < 0)


def _stray(keys: Sequence[str], draw: Arrays, ref64: Arrays) -> float:
    """How far a draw is away in some tensors together, relative to their norm; infinite if it alone is not finite."""
    errors, sizes = [0.0], [0.0]
    for key in keys:
        found, expected = np.asarray(draw[key], np.float64), np.asarray(ref64[key], np.float64)
        if not np.array_equal(np.isfinite(found), np.isfinite(expected)):
            return np.inf
        with np.errstate(invalid="ignore"):
            errors.append(norm(found - expected))
        sizes.append(norm(expected))
    size = float(np.linalg.norm(sizes))
    return float(np.linalg.norm(errors)) / size if size else 0.0


def _relative(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """‖found − expected‖ / ‖expected‖; 0 if both are 0."""
    with np.errstate(invalid="ignore", over="ignore"):
        error = norm(np.asarray(found, np.float64) - expected)
    size = norm(expected)
    return error / size if size else float(error > 0)


def _judge_tensor(
    key: str,
    found: NDArray[Any],
    expected: NDArray[Any],
    draws: list[NDArray[Any]],
    own: float,
    stray: float,
    precision: str,
    largest: float,
) -> TensorVerdict:
    size, floor = norm(expected), floor_of(key, precision)
    growing = sort_of(key).startswith("growth")
    rounding = ROUNDING[precision] * own
    budget = max(GROWTH * rounding if growing else min(MULTIPLE * rounding, max(CAP, CAPPED * rounding)), floor)
    absolute = floor * largest * (NEGLIGIBLE if size else 1.0)
    told = growing or stray * ROUNDING[precision] <= ILL_CONDITIONED[precision]
    untold = f"the reference itself is {stray:.2g} away in {DRAWN[precision]} from float64"

    values, truth = found.astype(np.float64), np.asarray(expected, np.float64)
    finite = np.isfinite(truth)
    if not np.array_equal(np.isfinite(values), finite):
        place = tuple(int(i) for i in np.argwhere(np.isfinite(values) != finite)[0])
        reason = f"at {place} it holds {values[place]}, the reference {truth[place]}"
        verdict, reason = (FAIL, reason) if told else (ILL, untold)
        return TensorVerdict(
            key, verdict, np.inf, np.inf, np.inf, place, float(values[place]), float(truth[place]), reason=reason
        )
    with np.errstate(invalid="ignore"):
        distance = np.where(finite, np.abs(values - truth), 0.0)
    error = float(np.linalg.norm(distance))
    place = tuple(int(i) for i in np.unravel_index(int(np.argmax(distance)), distance.shape)) if distance.size else ()
    by_norm = _ratio(error, budget * size + absolute)

    by_element = 0.0
    if size and not growing:
        scale = np.where(finite, np.abs(truth), 0.0) + size / np.sqrt(finite.sum())
        with np.errstate(invalid="ignore"):
            rough = [np.where(finite, np.abs(draw.astype(np.float64) - truth), 0.0) for draw in draws]
        worst = max(float(np.max(each / scale)) for each in rough)
        allowed = max(ELEMENT * budget, ROUNDING[precision] * MULTIPLE * worst)
        by_element = float(np.max(np.maximum(distance - absolute, 0.0) / scale)) / allowed

    multiple = max(by_norm, by_element)
    verdict, reason = PASS, ""
    if not told:
        verdict, reason = ILL, untold
    elif multiple > 1:
        verdict = FAIL
        which = "norm" if by_norm >= by_element else "element"
        reason = f"{multiple:.3g} times what is allowed, by {which}"
    spacing = np.spacing(np.maximum(np.abs(truth), np.finfo(np.float32).tiny).astype(np.float32)).astype(np.float64)
    ulps = distance / spacing if distance.size else np.zeros(1)
    product = norm(values) * size
    return TensorVerdict(
        key,
        verdict,
        multiple,
        error / size if size else error,
        float(distance[place]) if distance.size else 0.0,
        place,
        float(values[place]) if distance.size else 0.0,
        float(truth[place]) if distance.size else 0.0,
        (float(np.median(ulps)), float(np.percentile(ulps, 99)), float(np.max(ulps))),
        float(np.vdot(values[finite], truth[finite]) / product) if product else 1.0,
        reason,
    )


def _ratio(value: float, allowed: float) -> float:
    if value <= 0:
        return 0.0
    return value / allowed if allowed else np.inf


def assert_close(actual: Arrays, ref64: Arrays, draws: Sequence[Arrays], precision: str) -> None:
    """Assert that two sets of arrays hold the same keys and that each array is within its budget.

    The message lists every array that is not, the worst first.
    """
    bad = [v for v in judge(actual, ref64, draws, precision) if v.verdict == FAIL]
    lines = [f"{v.key}: {v.reason} (relative error {v.relative:.3g}, at {v.index})" for v in bad]
    assert not bad, "\n".join(lines)
