"""The few functions that a network is made of besides Jittor's own, and which implementation a device takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from dots_jittor.arrays import Var
from dots_jittor.window import Window


class Primitives(Protocol):
    """Differentiable functions of tensors of shape (N, C, H, W)."""

    def depthwise(self, x: Var, weight: Var, window: Window, rectify: bool) -> Var:
        """Convolve each channel by itself.

        Parameters
        ----------
        x : Var, shape (N, C, H, W)
        weight : Var, shape (outputs, 1, kernel, kernel)
            ``outputs`` is a multiple of C; output j reads channel j mod C.
        rectify : bool
            Whether the input passes a ReLU first.
        """
        ...

    def pointwise(self, x: Var, weight: Var, groups: int, rectify: bool, stride: int = 1, offset: int = 0) -> Var:
        """Convolve with a 1×1 kernel, of shape (outputs, C/groups, 1, 1).

        At a stride of 2 it reads every second pixel from (offset, offset) on, zeros beyond the
        border; the output's size is the input's divided by the stride, rounded up.
        """
        ...

    def normalise(self, x: Var, scale: Var, shift: Var) -> tuple[Var, Var]:
        """Normalise by the batch's statistics, then scale and shift.

        Parameters
        ----------
        scale, shift : Var
            Vectors whose lengths divide C: an entry serves as many neighbouring channels.

        Returns
        -------
        y : Var, shape of x
        moments : Var, shape (2, C)
            Mean and unbiased variance; without gradient.
        """
        ...

    def max_pool(self, x: Var, window: Window) -> Var:
        """Maximum of what each window holds, (N, C, H′, W′); of several the first gets the gradient."""
        ...

    def average_pool(self, x: Var, window: Window) -> Var:
        """Average of what each window holds, (N, C, H′, W′); padding is not counted."""
        ...

    def mix(self, factors: Var, basis: Sequence[Var]) -> Var:
        """Weighted sums of tensors of one shape: (N, edges·C, H, W), edge after edge.

        ``factors`` has shape (edges, tensors).
        """
        ...

    def rectify(self, x: Var) -> Var:
        """ReLU that keeps a NaN; of any shape."""
        ...

    def add(self, terms: Sequence[Var]) -> Var:
        """Sum of Vars of one shape, which may be any."""
        ...

    def interleave(self, first: Var, rest: Var, parts: int) -> Var:
        """Put two tensors side by side along channels, and shuffle as `dots_core.engine.stacking.StackedCell` says.

        Channel (g, c) of (parts, C/parts) goes to (c, g), C the channels of both.
        """
        ...

    def cross_entropy(self, logits: Var, labels: Var, smoothing: float, share: float) -> tuple[Var, Var]:
        """Cross-entropy with label smoothing, summed over samples and multiplied by ``share``.

        Parameters
        ----------
        logits : Var, shape (N, classes)
        labels : Var, shape (N,), int32

        Returns
        -------
        loss, correct : Var, shape (1,)
            The number of correct predictions carries no gradient.
        """
        ...

    # Without gradients

    def normalise_by(self, x: Var, scale: Var, shift: Var, mean: Var, variance: Var) -> Var:
        """`normalise` by given moments, each of shape (C,)."""
        ...

    def approach(self, old: Var, target: Var, share: float) -> Var:
        """Return (1 − share)·old + share·target, of vectors."""
        ...

    def approach_some(self, old: Var, target: Var, moves: Var, share: float) -> Var:
        """`approach` where ``moves``, a vector of uint8, is 1; the old values where it is 0."""
        ...
