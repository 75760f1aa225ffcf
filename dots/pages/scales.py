"""Where the ticks of an axis stand."""

from __future__ import annotations

import math
from collections.abc import Iterable

MOST_TICKS = 5
_ROUND_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0, 20.0)


def linear_ticks(low: float, high: float) -> list[float]:
    """Return a few round numbers, evenly spaced, the first at most ``low`` and the last at least ``high``."""
    largest = max(1.0, abs(low), abs(high))
    if high - low <= 1e-9 * largest:  # closer than what can be told apart, or equal
        low, high = low - largest / 2, high + largest / 2
    power = 10.0 ** math.floor(math.log10((high - low) / MOST_TICKS))
    for multiple in _ROUND_STEPS:
        step = multiple * power
        # The quotient of two decimal fractions may fall short of a whole number by a rounding.
        begin, end = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        if end - begin <= MOST_TICKS:
            break
    return [round(number * step, 12) for number in range(begin, end + 1)]


def decades(values: Iterable[float]) -> tuple[int, int]:
    """Return the powers of ten between which all values lie that have a logarithm."""
    powers = [math.log10(value) for value in values if math.isfinite(value) and value > 0]
    if not powers:
        return -8, 0
    low, high = math.floor(min(powers) + 1e-9), math.ceil(max(powers) - 1e-9)
    return low, max(high, low + 1)


def decade_ticks(low: int, high: int) -> list[int]:
    """Return a few powers of ten, evenly spaced, the first ``low`` and the last at least ``high``."""
    stride = math.ceil((high - low) / MOST_TICKS)
    return list(range(low, high + stride, stride))
