"""The two update rules and gradient clipping; the rules are stated in `dots_core.engine.protocol.Optimizers`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dots_core.engine.protocol import Optimizers
from dots_reference.windows import Array


def clipped(gradients: Mapping[str, Array], clip: float) -> dict[str, Array]:
    """Scale gradients by min(1, clip/(‖g‖₂ + 1e-6)), ‖g‖₂ taken over all of them; 0 means no clipping.

    A norm that is not a number makes every gradient so.
    """
    if clip == 0 or not gradients:
        return dict(gradients)
    norms = np.stack([np.sqrt(np.vdot(gradient, gradient)) for gradient in gradients.values()])
    # One-element arrays, not scalars: NumPy 1 would compute scalars of float32 in float64.
    norm = np.sqrt(np.square(norms).sum(keepdims=True))
    scale = np.minimum(clip / (norm + 1e-6), 1.0)
    return {name: scale * gradient for name, gradient in gradients.items()}


def sgd(weight: Array, momentum: Array, gradient: Array, rate: float, constants: Optimizers) -> tuple[Array, Array]:
    """Return weight and momentum buffer after one step on an already clipped gradient."""
    momentum = constants.momentum * momentum + (gradient + constants.weight_decay * weight)
    return weight - rate * momentum, momentum


def adam(
    value: Array, first: Array, second: Array, steps: int, gradient: Array, rate: float, constants: Optimizers
) -> tuple[Array, Array, Array]:
    """Return architecture weights and both moments after one step (Kingma and Ba, ICLR 2015).

    ``steps`` counts this step too: it is 1 for the first.
    """
    beta1, beta2 = constants.betas
    gradient = gradient + constants.architecture_weight_decay * value
    first = beta1 * first + (1.0 - beta1) * gradient
    second = beta2 * second + (1.0 - beta2) * np.square(gradient)
    mean, square = first / (1.0 - beta1**steps), second / (1.0 - beta2**steps)
    return value - rate * mean / (np.sqrt(square) + constants.epsilon), first, second
