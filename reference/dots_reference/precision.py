"""The precisions the engine computes in, or *as if* in: to what numbers are rounded, and where.

Below float32 all arrays are of float32, and hold numbers of the lower format where an engine would have them so:
operands of products (convolutions, linear layers, backward too) are rounded, and, where engines store
in the format, so are feature maps, their gradients and the gradients of the weights of products. Sums
are accumulated in float32. Float32 throughout are the statistics and parameters of batch norm, α, γ and their mixing,
the loss, weights as they are kept, and the optimisers' state.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dots_reference.windows import Array

_MANTISSA = 23  # stored bits of float32


@dataclass(frozen=True)
class Format:
    """A binary floating-point format, all of whose numbers float32 has too.

    Attributes
    ----------
    mantissa : int
        Stored bits of it, at most 22.
    exponents : (int, int)
        Of the least and the largest normal numbers; float32's if not given.
    """

    mantissa: int
    exponents: tuple[int, int] = (-126, 127)

    def rounded(self, x: Array) -> Array:
        """Round float32 to the nearest number of the format, of two equally near ones to the even: same shape.

        What is too large becomes infinite; NaN stays as it is.
        """
        dropped = _MANTISSA - self.mantissa
        bits = np.asarray(x).view(np.uint32)
        # Half a unit in the last place that stays, less one where that place is even: a carry is a rounding up.
        carried = bits + (((bits >> np.uint32(dropped)) & np.uint32(1)) + np.uint32((1 << (dropped - 1)) - 1))
        out: Array = (carried & np.uint32((1 << 32) - (1 << dropped))).view(np.float32)
        least, largest = self.exponents
        if least > -126:
            # Subnormal numbers are all equally far apart.
            unit = np.float32(2.0 ** (least - self.mantissa))
            out = np.where(np.abs(x) < 2.0**least, np.rint(x / unit) * unit, out)
        if largest < 127:
            out = np.where(np.abs(out) >= 2.0 ** (largest + 1), np.copysign(np.float32(np.inf), out), out)
        return np.where(np.isnan(x), x, out)


TF32 = Format(10)
"""NVIDIA's, with the range of float32 (A100 whitepaper, 2020)."""

HF32 = Format(11)
"""Ascend's, with the range of float32 and 11 bits of mantissa (CANN's reference of ATC, option ``--allow_hf32``)."""

BFLOAT16 = Format(7)

FLOAT16 = Format(10, (-14, 15))
"""IEEE 754 binary16."""


@dataclass(frozen=True)
class Precision:
    """How the engine computes.

    Attributes
    ----------
    dtype : dtype of all arrays
    operands : Format or None
        What operands of products are rounded to.
    storage : Format or None
        What feature maps, their gradients and the gradients of products' weights are rounded to.
    loss_scale : float
        What the loss is multiplied by before it is differentiated, and gradients are divided by after: it keeps
        gradients above a format's smallest numbers.
    """

    dtype: np.dtype
    operands: Format | None = None
    storage: Format | None = None
    loss_scale: float = 1.0

    def operand(self, x: Array) -> Array:
        """Return an operand of a product as it is multiplied."""
        return x if self.operands is None else self.operands.rounded(x)

    def stored(self, x: Array) -> Array:
        """Return a result as it is stored."""
        return x if self.storage is None else self.storage.rounded(x)


_FLOAT32 = np.dtype(np.float32)

PRECISIONS = {
    "float64": Precision(np.dtype(np.float64)),
    "float32": Precision(_FLOAT32),
    "tf32": Precision(_FLOAT32, TF32),
    "hf32": Precision(_FLOAT32, HF32),
    "bfloat16": Precision(_FLOAT32, BFLOAT16, BFLOAT16),
    "float16": Precision(_FLOAT32, FLOAT16, FLOAT16, 1024.0),
}
