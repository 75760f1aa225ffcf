"""The two update rules (`dots_core.engine.protocol.Optimizers`) with the tensors they move."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dots_core.engine.protocol import Optimizers
from dots_jittor.arrays import Var, joined, upload
from dots_jittor.primitives import Primitives


class MomentumSGD:
    """SGD with momentum, weight decay and gradient-norm clipping over one flat tensor.

    Attributes
    ----------
    weights, buffer : Var, shape (size,)
    """

    def __init__(self, weights: NDArray[np.generic], settings: Optimizers, ops: Primitives) -> None:
        self.weights, self.buffer = upload(weights), upload(np.zeros_like(weights))
        self._settings = settings
        self._ops = ops
        self._unperturbed: Var | None = None

    @property
    def perturbed(self) -> bool:
        """Whether the weights are away from where `restore_weights` brings them back to."""
        return self._unperturbed is not None

    def update(self, gradient: Var, rate: float) -> None:
        """Take one step."""
        moved = self._ops.momentum_sgd(gradient, self.weights, self.buffer, self._settings, rate)
        self.weights, self.buffer = (var.stop_grad() for var in moved)

    def virtual_step(self, gradient: Var, rate: float) -> None:
        """Perturb the weights by one step, unclipped; the buffer stays."""
        self._unperturbed = self.weights
        unclipped = replace(self._settings, clip=0.0)
        self.weights = self._ops.momentum_sgd(gradient, self.weights, self.buffer, unclipped, rate)[0].stop_grad()

    def perturb_weights(self, gradient: Var, radius: float) -> None:
        """Perturb the weights from where they stood before `virtual_step`, by ``radius`` along the gradient."""
        assert self._unperturbed is not None, "virtual_step comes first"
        self.weights = self._ops.perturbed(self._unperturbed, gradient, radius).stop_grad()

    def restore_weights(self) -> None:
        """Bring the weights back to where they stood before `virtual_step`."""
        assert self._unperturbed is not None, "virtual_step comes first"
        self.weights, self._unperturbed = self._unperturbed, None


def clipped(gradients: Sequence[Var], clip: float, ops: Primitives) -> list[Var]:
    """Scale gradients by min(1, clip/(‖g‖₂ + 1e-6)), ‖g‖₂ taken over all of them; 0 means no clipping."""
    if not clip or not gradients:
        return list(gradients)
    flat = ops.clipped(joined(gradients), clip)
    found, start = [], 0
    for gradient in gradients:
        found.append(flat[start : start + gradient.numel()].reshape(gradient.shape))
        start += gradient.numel()
    return found


class Adam:
    """Adam with coupled weight decay on one tensor.

    Attributes
    ----------
    values, first, second : Var
        The tensor and its running moments.
    steps : int
        Number of updates so far.
    """

    def __init__(self, values: NDArray[np.generic], settings: Optimizers, ops: Primitives) -> None:
        self.values = upload(values)
        self.first, self.second = upload(np.zeros_like(values)), upload(np.zeros_like(values))
        self.steps = 0
        self._settings = settings
        self._ops = ops

    def update(self, gradient: Var, rate: float) -> None:
        """Take one step."""
        self.steps += 1
        moved = self._ops.adam(gradient, self.values, self.first, self.second, self._settings, self.steps, rate)
        self.values, self.first, self.second = (var.stop_grad() for var in moved)
