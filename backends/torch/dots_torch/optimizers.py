"""The two update rules (`dots_core.engine.protocol.Optimizers`), as a few calls over flat tensors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dots_core.engine.protocol import Optimizers


class MomentumSGD:
    """SGD with momentum, weight decay and gradient-norm clipping over one flat tensor."""

    def __init__(self, weights: Tensor, settings: Optimizers) -> None:
        self._weights = weights
        self._settings = settings
        self.buffer = torch.zeros_like(weights)

    @torch.no_grad()
    def update(self, gradient: Tensor, rate: float) -> None:
        """Take one step; the gradient is overwritten."""
        settings = self._settings
        if settings.clip:
            norm = torch.linalg.vector_norm(gradient)
            gradient.mul_((settings.clip / (norm + 1e-6)).clamp(max=1.0))
        gradient.add_(self._weights, alpha=settings.weight_decay)
        self.buffer.mul_(settings.momentum).add_(gradient)
        self._weights.add_(self.buffer, alpha=-rate)

    def direction(self, gradient: Tensor) -> Tensor:
        """Return momentum·buffer + gradient + weight_decay·w: what an unclipped step of rate 1 subtracts."""
        settings = self._settings
        decayed = torch.add(gradient, self._weights, alpha=settings.weight_decay)
        return decayed.add_(self.buffer, alpha=settings.momentum)


@torch.no_grad()
def clipped(gradients: Sequence[Tensor], clip: float) -> list[Tensor]:
    """Scale gradients by min(1, clip/(‖g‖₂ + 1e-6)), ‖g‖₂ taken over all of them; 0 means no clipping."""
    if not clip or not gradients:
        return list(gradients)
    norm = torch.linalg.vector_norm(torch.cat([gradient.flatten() for gradient in gradients]))
    scale = (clip / (norm + 1e-6)).clamp(max=1.0)
    return [gradient * scale for gradient in gradients]


class Adam:
    """Adam with coupled weight decay on one tensor.

    Attributes
    ----------
    steps : int
        Number of updates so far.
    """

    def __init__(self, values: Tensor, settings: Optimizers) -> None:
        self._values = values
        self._settings = settings
        self.first = torch.zeros_like(values)
        self.second = torch.zeros_like(values)
        self.steps = 0

    @torch.no_grad()
    def update(self, gradient: Tensor, rate: float) -> None:
        settings = self._settings
        b1, b2 = settings.betas
        self.steps += 1
        gradient = gradient + settings.architecture_weight_decay * self._values
        self.first.mul_(b1).add_(gradient, alpha=1 - b1)
        self.second.mul_(b2).addcmul_(gradient, gradient, value=1 - b2)
        scale = (self.second / (1 - b2**self.steps)).sqrt_().add_(settings.epsilon)
        self._values.addcdiv_(self.first, scale, value=-rate / (1 - b1**self.steps))
