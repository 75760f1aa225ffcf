"""What one step of a plan is, on any engine: whose gradients are accumulated (`dots_core.plan.gradients`) and used."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dots_core.engine.batch import Batch
from dots_core.engine.protocol import Network, Rates
from dots_core.network.spec import NetworkSpec
from dots_core.plan.plan import Update
from dots_core.search.regularisation import passive_aggressive
from dots_core.search.sampling import Sampler
from dots_core.search_space.mixing import Temperature


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
            made_of = update.gradient.accumulate(
                network, update.groups, training, batches[number], rates.weights, temperature
            )
            rows += [(number, own) for own in made_of]
            waiting.append(number)
            if not update.joint:
                for each in waiting:
                    network.update(
                        updates[each].groups, rates, self._extra_gradients(updates[each], architecture, temperature)
                    )
                waiting = []
        return rows

    def _extra_gradients(
        self, update: Update, architecture: Mapping[str, NDArray[np.floating]], temperature: Temperature
    ) -> dict[str, NDArray[np.floating]] | None:
        """The gradient of the regularisation of β, which is part of the loss on the update's split."""
        if not update.regularisation:
            return None
        extra_gradients: dict[str, NDArray[np.floating]] = {}
        for kind in self._spec.kinds():
            _, gradient = passive_aggressive(self._spec.cell(kind), architecture[f"beta.{kind}"], temperature.beta)
            extra_gradients[f"beta.{kind}"] = update.gradient.own_factor * update.regularisation * gradient
        return extra_gradients
