"""How a square window slides over an image."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """Geometry of a convolution or a pool.

    Attributes
    ----------
    kernel, stride, padding, dilation : int
        In pixels, the same along height and width.
    over : bool
        Whether a last window may reach over the border, so that no pixel is left out.
    """

    kernel: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    over: bool = False

    def output(self, size: int) -> int:
        """Height or width after, given that before."""
        places = size + 2 * self.padding - self.dilation * (self.kernel - 1) - 1
        return (places + (self.stride - 1 if self.over else 0)) // self.stride + 1
