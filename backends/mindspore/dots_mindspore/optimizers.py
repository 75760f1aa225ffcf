"""The two update rules (`dots_core.engine.protocol.Optimizers`), as a few calls over flat tensors."""

from __future__ import annotations

from collections.abc import Sequence

from mindspore import Tensor, ops

from dots_core.engine.protocol import Optimizers


class MomentumSGD:
    """SGD with momentum, weight decay and gradient-norm clipping over one flat tensor.

    Attributes
    ----------
    values, buffer : Tensor
        The weights and their momentum; replaced by every update.
    """

    def __init__(self, values: Tensor, settings: Optimizers) -> None:
        self.values = values
        self.buffer = ops.zeros_like(values)
        self._settings = settings

    def update(self, gradient: Tensor, rate: float) -> None:
        """Take one step."""
        settings = self._settings
        if settings.clip:
            norm = ops.sqrt(ops.reduce_sum(gradient * gradient))
            gradient = gradient * ops.minimum(settings.clip / (norm + 1e-6), 1.0)
        self.buffer = self.direction(gradient)
        self.values = self.values - rate * self.buffer

    def direction(self, gradient: Tensor) -> Tensor:
        """Return momentum·buffer + gradient + weight_decay·w: what an unclipped step of rate 1 subtracts."""
        settings = self._settings
        return settings.momentum * self.buffer + (gradient + settings.weight_decay * self.values)


def clipped(gradients: Sequence[Tensor], clip: float) -> list[Tensor]:
    """Scale gradients by min(1, clip/(‖g‖₂ + 1e-6)), ‖g‖₂ taken over all of them; 0 means no clipping."""
    if not clip or not gradients:
        return list(gradients)
    squares = [ops.reduce_sum(gradient * gradient) for gradient in gradients]
    norm = ops.sqrt(sum(squares[1:], squares[0]))
    scale = ops.minimum(clip / (norm + 1e-6), 1.0)
    return [gradient * scale for gradient in gradients]


class Adam:
    """Adam with coupled weight decay on one tensor.

    Attributes
    ----------
    values, first, second : Tensor
        The weights and both moments; replaced by every update.
    steps : int
        Number of updates so far.
    """

    def __init__(self, values: Tensor, settings: Optimizers) -> None:
        self.values = values
        self.first = ops.zeros_like(values)
        self.second = ops.zeros_like(values)
        self.steps = 0
        self._settings = settings

    def update(self, gradient: Tensor, rate: float) -> None:
        """Take one step."""
        settings = self._settings
        b1, b2 = settings.betas
        self.steps += 1
        gradient = gradient + settings.architecture_weight_decay * self.values
        self.first = b1 * self.first + (1.0 - b1) * gradient
        self.second = b2 * self.second + (1.0 - b2) * (gradient * gradient)
        scale = ops.sqrt(self.second / (1.0 - b2**self.steps)) + settings.epsilon
        self.values = self.values - (rate / (1.0 - b1**self.steps)) * self.first / scale
