"""How numbers and foreign text are written in every report."""

from __future__ import annotations

import math

from dots_conformance.closeness import TensorVerdict

NOTHING = "—"
"""Stands where there is no number."""


def shortened(text: str, length: int) -> str:
    """Return at most so many characters, the last one ``…`` where some are left out."""
    return text if len(text) <= length else text[: length - 1] + "…"


def number_text(value: float, digits: int = 3) -> str:
    """Write a number with some significant digits: ``"3.2e-06"``, ``"−∞"``, ``"NaN"``."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{value:.{digits}g}".replace("-", "−", 1) if value < 0 else f"{value:.{digits}g}"


def multiple_text(multiple: float) -> str:
    """Write an error in multiples of what is allowed, in few characters: ``"0.03"``, ``"35"``, ``"1.2e+04"``."""
    if not math.isfinite(multiple):
        return number_text(multiple)
    if multiple == 0:
        return "0"
    if multiple < 0.001:
        return "<.001"
    if multiple < 0.1:
        return f"{multiple:.1g}"
    if multiple < 10:
        return (
            f"{multiple:.3f}" if abs(multiple - 1) < 0.05 else f"{multiple:.2f}" if multiple < 1 else f"{multiple:.1f}"
        )
    return f"{multiple:.0f}" if multiple < 10_000 else f"{multiple:.1e}"


def was_compared(tensor: TensorVerdict) -> bool:
    """Whether values were compared at all: not where a tensor is lacking or of another shape or of integers."""
    return math.isfinite(tensor.multiple) or tensor.largest != 0


def index_text(tensor: TensorVerdict) -> str:
    """Write where a tensor is worst: ``"0, 3, 2"``."""
    return ", ".join(map(str, tensor.index)) if tensor.index and was_compared(tensor) else NOTHING


def seconds_text(seconds: float) -> str:
    """Write a duration: ``"0.65 s"``, ``"340 s"``."""
    return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"
