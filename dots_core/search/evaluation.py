"""How accurate a network is, and the network that would be derived of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from dots_core.data import ImageData, evaluation_batches
from dots_core.engine.protocol import Engine, Network, Setup
from dots_core.network.spec import NetworkSpec
from dots_core.plan.plan import Plan, Stage
from dots_core.search.batches import BatchSource
from dots_core.search.discretisation import TEMPERATURE, discretised, sub_network, sub_state
from dots_core.search.sampling import Sampler
from dots_core.search_space.genotype import Genotype
from dots_core.search_space.mixing import Temperature

_BUILT_OF = ("weights/", "architecture/")
"""The parts of a state that ``Engine.build`` takes."""


class Evaluation:
    """Measures networks of a plan on the images its stages are measured on."""

    def __init__(self, plan: Plan, data: ImageData, engine: Engine, source: BatchSource) -> None:
        self._plan, self._data, self._engine, self._source = plan, data, engine, source

    def measure(
        self, network: Network, spec: NetworkSpec, stage: Stage, temperature: Temperature
    ) -> tuple[float | None, float]:
        """Return the mean cross-entropy, None if it is not finite, and the share of correct predictions."""
        data, plan = self._data, self._plan
        split, indices = self._source.validation(stage)
        draws = Sampler(spec, plan.seed, "").most_likely(network.architecture())
        loss, correct = 0.0, 0
        for batch in evaluation_batches(split, indices, plan.batch, data.mean, data.std):
            some_loss, some_correct = network.evaluate(replace(batch, draws=draws), temperature)
            loss += some_loss
            correct += some_correct
        # Running statistics can overflow though training is finite; JSON has no NaN.
        return (loss / len(indices) if math.isfinite(loss) else None), correct / len(indices)

    def derived_accuracy(
        self, network: Network, spec: NetworkSpec, stage: Stage, genotype: Genotype, state: Mapping[str, NDArray[Any]]
    ) -> float | None:
        """Return the accuracy of the derived sub-network with the supernet's weights, as they are.

        The network ends as it was: what a run does next does not depend on whether this was measured.

        Parameters
        ----------
        state : mapping
            The network's, in the shapes of ``Network.export_state``.

        Returns
        -------
        float or None
            None where the sub-network cannot be made of the supernet.
        """
        hard = discretised(spec, genotype, state)
        if hard is not None:
            network.import_state(hard)
            try:
                return self.measure(network, spec, stage, TEMPERATURE)[1]
            finally:
                network.import_state(state)
        if spec.normal.matrix is not None:
            return None
        sub, plan = sub_network(spec, genotype), self._plan
        taken = sub_state(sub, state)
        parts = {part: {k.removeprefix(part): v for k, v in taken.items() if k.startswith(part)} for part in _BUILT_OF}
        derived = self._engine.build(Setup(sub, stage.optimizers, plan.loss, plan.runtime), *parts.values())
        derived.import_state(taken)
        return self.measure(derived, sub, stage, TEMPERATURE)[1]
