"""What architecture weights, and w, learn from: gradients put together from an engine's verbs.

A gradient is accumulated by `accumulate_gradients`, `virtual_step`, `perturb_weights` and `restore_weights` of
`dots_core.engine.protocol.Network`; the engine learns of none. Another one is a frozen dataclass beside these, which a
level of another package names in its updates (`dots_core.plan.levels`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, cast

from dots_core.engine.batch import Batch
from dots_core.engine.protocol import Network, UnrollingNetwork
from dots_core.search_space.mixing import Temperature

RADIUS = 0.01
"""‖ε·∇w′ L_val‖₂ of the finite difference (DARTS §2.3: ε = 0.01 / ‖∇w′ L_val‖₂)."""


class Gradient(ABC):
    """The gradient of an update's loss. A frozen dataclass, whose fields tell plans apart.

    Attributes
    ----------
    of_weights : bool
        Whether w can learn by it, and not architecture weights alone.
    perturbs_weights : bool
        Whether it perturbs w on the way, or uses up the gradient that waits for w; it then cannot be joint with an
        update of w before it.
    """

    of_weights: ClassVar[bool] = False
    perturbs_weights: ClassVar[bool] = False

    @abstractmethod
    def accumulate(
        self,
        network: Network,
        groups: tuple[str, ...],
        training: Batch,
        own: Batch,
        rate: float,
        temperature: Temperature,
    ) -> list[bool]:
        """Accumulate it for the named groups.

        Parameters
        ----------
        training, own : Batch
            What w learns from in this step, and of the update's own split.
        rate : float
            Learning rate of w.

        Returns
        -------
        list of bool
            One entry a row that ``Network.pop_losses`` will return: whether it is the loss that the update is about.
        """

    @property
    def unrolls(self) -> bool:
        """Whether the engine must differentiate through a step of SGD (`UnrollingNetwork`)."""
        return False

    @property
    def own_factor(self) -> float:
        """By what the loss on the update's own split is multiplied, its regularisation included."""
        return 1.0

    def recorded(self) -> Mapping[str, Any]:
        """Return what a plan's digest says of it, by the names there."""
        return {"gradient": self}


@dataclass(frozen=True)
class FirstOrder(Gradient):
    """That of the loss on the update's own split, at w as it is."""

    of_weights: ClassVar[bool] = True

    def accumulate(
        self,
        network: Network,
        groups: tuple[str, ...],
        training: Batch,
        own: Batch,
        rate: float,
        temperature: Temperature,
    ) -> list[bool]:
        network.accumulate_gradients(groups, own, temperature)
        return [True]

    def recorded(self) -> Mapping[str, Any]:
        return {}


@dataclass(frozen=True)
class MixedLevel(Gradient):
    """Of both losses: ``factor`` times the own one plus ``training_factor`` times that on the batch w learns from.

    MiLeNAS; TopoNAS eq. 22-23.
    """

    factor: float = 1.0
    training_factor: float = 1.0

    def accumulate(
        self,
        network: Network,
        groups: tuple[str, ...],
        training: Batch,
        own: Batch,
        rate: float,
        temperature: Temperature,
    ) -> list[bool]:
        network.accumulate_gradients(groups, own, temperature, self.factor)
        network.accumulate_gradients(groups, training, temperature, self.training_factor)
        return [True, False]

    @property
    def own_factor(self) -> float:
        return self.factor

    def recorded(self) -> Mapping[str, Any]:
        factor = {} if self.factor == 1.0 else {"factor": self.factor}
        return {**factor, "training_factor": self.training_factor}


@dataclass(frozen=True)
class SecondOrder(Gradient):
    """Of the own loss at w after one step of SGD on the batch that w learns from (DARTS eq. 5-8).

    Attributes
    ----------
    exact : bool
        Differentiated through the step, where the engine can, instead of by finite differences.
    """

    exact: bool = False

    perturbs_weights: ClassVar[bool] = True

    def accumulate(
        self,
        network: Network,
        groups: tuple[str, ...],
        training: Batch,
        own: Batch,
        rate: float,
        temperature: Temperature,
    ) -> list[bool]:
        if self.exact:
            unrolling = cast(UnrollingNetwork, network)
            unrolling.accumulate_unrolled_gradients(groups, training, own, rate, temperature)
            return [True]
        return _by_differences(network, groups, training, own, rate, temperature)

    @property
    def unrolls(self) -> bool:
        return self.exact

    def recorded(self) -> Mapping[str, Any]:
        return {"order": 2, **({"exact": True} if self.exact else {})}


def _by_differences(
    network: Network,
    groups: tuple[str, ...],
    training: Batch,
    validation: Batch,
    rate: float,
    temperature: Temperature,
) -> list[bool]:
    """Accumulate ∇α L_val(w′) − ξ·(∇α L_train(w⁺) − ∇α L_train(w⁻)) / 2ε with w± = w ± ε·∇w′ L_val (DARTS eq. 7-8)."""
    network.accumulate_gradients(("w",), training, temperature)
    network.virtual_step(rate)
    network.accumulate_gradients((*groups, "w"), validation, temperature)
    rows = [False, True]
    norm = network.gradient_norm()
    if norm > 0:
        # ε = radius/‖g‖, so 1/2ε = ‖g‖/2·radius.
        factor = rate * norm / (2 * RADIUS)
        for sign in (1.0, -1.0):
            network.perturb_weights(sign * RADIUS)
            network.accumulate_gradients(groups, training, temperature, -sign * factor)
            rows.append(False)
    network.restore_weights()
    return rows
