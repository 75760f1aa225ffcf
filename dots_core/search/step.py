"""What one step of a plan is: first and second order, one, two and mixed levels, on any engine.

Every rule is put together from an engine's `accumulate_gradients`, `update`, `virtual_step`, `perturb_weights` and
`restore_weights`; the engine learns of none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from dots_core.engine.batch import Batch
from dots_core.engine.protocol import Network, Rates, UnrollingNetwork
from dots_core.network.spec import NetworkSpec
from dots_core.plan.plan import Update
from dots_core.search.regularisation import passive_aggressive
from dots_core.search.sampling import Sampler
from dots_core.search_space.mixing import Temperature

RADIUS = 0.01
"""‖ε·∇w′ L_val‖₂ of the finite difference (DARTS §2.3: ε = 0.01 / ‖∇w′ L_val‖₂)."""


@dataclass(frozen=True)
class StepPosition:
    """Where in a run a step is made.

    Attributes
    ----------
    epoch : int
        Of the run, counted from 0.
    step : int
        Within the epoch, counted from 0.
    steps : int
        How many the epoch has.
    """

    epoch: int
    step: int
    steps: int


def due(update: Update, position: StepPosition) -> bool:
    """Whether an update is made in a step: always, or in one step of each epoch."""
    return update.once_at is None or position.step == min(int(update.once_at * position.steps), position.steps - 1)


class Stepper:
    """Makes the steps of one phase.

    Parameters
    ----------
    updates : sequence of Update
        In the order in which they are made.
    salt : str
        Of random draws.
    """

    def __init__(self, network: Network, spec: NetworkSpec, updates: Sequence[Update], seed: int, salt: str) -> None:
        self._network, self._spec, self._updates = network, spec, tuple(updates)
        self._samplers = [Sampler(spec, seed, f"{salt}/{number}") for number in range(len(self._updates))]
        # Reading α′ and β′ waits for the device; most plans need not.
        self._reads = any(sampler.hard for sampler in self._samplers) or any(u.regularisation for u in updates)
        self._of_weights = next(number for number, update in enumerate(updates) if "w" in update.groups)

    def step(
        self, next_batch: Callable[[int], Batch], rates: Rates, temperature: Temperature, position: StepPosition
    ) -> list[tuple[int, bool]]:
        """Make one step.

        Hard samples of all its updates are drawn of α′, and regularised is β′, as they stand before the
        first of them.

        Parameters
        ----------
        next_batch : callable
            Returns the next batch of the update of a number; called once for each update that is due.

        Returns
        -------
        list of (int, bool)
            One entry a row that ``Network.pop_losses`` will return: the number of the update it belongs to,
            and whether it is the loss that the update is about. The others are helpers: of the training
            batch for architecture weights, and of perturbed w.
        """
        updates, network = self._updates, self._network
        made = [number for number, update in enumerate(updates) if due(update, position)]
        architecture = network.architecture() if self._reads else {}
        batches = {}
        for number in made:
            draws = self._samplers[number].draw(architecture, position.epoch, position.step)
            batches[number] = replace(next_batch(number), draws=draws)
        rows: list[tuple[int, bool]] = []
        waiting: list[int] = []
        for number in made:
            update = updates[number]
            training = replace(batches[self._of_weights], draws=batches[number].draws)
            rows += [(number, own) for own in self._accumulate(update, training, batches[number], rates, temperature)]
            waiting.append(number)
            if not update.joint:
                for each in waiting:
                    network.update(
                        updates[each].groups, rates, self._extra_gradients(updates[each], architecture, temperature)
                    )
                waiting = []
        return rows

    def _accumulate(
        self, update: Update, training: Batch, own: Batch, rates: Rates, temperature: Temperature
    ) -> list[bool]:
        """Accumulate an update's gradient; say of each pass made whether it is of the update's own loss."""
        network = self._network
        if update.order == 2:
            if update.exact:
                cast(UnrollingNetwork, network).accumulate_unrolled_gradients(
                    update.groups, training, own, rates.weights, temperature
                )
                return [True]
            return _second_order(network, update.groups, training, own, rates.weights, temperature)
        network.accumulate_gradients(update.groups, own, temperature, update.factor)
        if update.training_factor:
            network.accumulate_gradients(update.groups, training, temperature, update.training_factor)
            return [True, False]
        return [True]

    def _extra_gradients(
        self, update: Update, architecture: Mapping[str, NDArray[np.floating]], temperature: Temperature
    ) -> dict[str, NDArray[np.floating]] | None:
        """The gradient of the regularisation of β, which is part of the loss on the update's split."""
        if not update.regularisation:
            return None
        extra_gradients: dict[str, NDArray[np.floating]] = {}
        for kind in self._spec.kinds():
            _, gradient = passive_aggressive(self._spec.cell(kind), architecture[f"beta.{kind}"], temperature.beta)
            extra_gradients[f"beta.{kind}"] = update.factor * update.regularisation * gradient
        return extra_gradients


def _second_order(
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
