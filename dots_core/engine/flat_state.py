"""An engine's state as flat host arrays, to and from the canonical form of the ``export_state`` verb."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from dots_core.engine.stacking import StackedNetwork
from dots_core.engine.state import check_state


@dataclass
class AdamState:
    """One architecture weight with its optimiser.

    Attributes
    ----------
    value, first, second : array of the architecture weight's shape
        The weight and Adam's running moments.
    steps : int
        Number of updates so far.
    """

    value: NDArray[Any]
    first: NDArray[Any]
    second: NDArray[Any]
    steps: int


@dataclass
class FlatState:
    """Everything that training changes.

    Attributes
    ----------
    weights, momentum : arrays of shape (network.weights.size,)
    statistics : array of shape (network.statistics.size,)
    architecture : dict of AdamState
        By the architecture weight's name.
    """

    weights: NDArray[Any]
    momentum: NDArray[Any]
    statistics: NDArray[Any]
    architecture: dict[str, AdamState]

    def canonical(self, network: StackedNetwork) -> dict[str, NDArray[Any]]:
        """Return copies under canonical names (`dots_core.engine.protocol.Network.export_state`)."""
        state = network.weights.split(self.weights, "weights/")
        state.update(network.weights.split(self.momentum, "momentum/"))
        state.update(network.statistics.split(self.statistics, "statistics/"))
        for name, adam in self.architecture.items():
            state[f"architecture/{name}"] = adam.value.copy()
            state[f"adam.first/{name}"] = adam.first.copy()
            state[f"adam.second/{name}"] = adam.second.copy()
            state[f"adam.steps/{name}"] = np.array(adam.steps, np.int64)
        return state

    @classmethod
    def of(cls, network: StackedNetwork, state: Mapping[str, NDArray[Any]], dtype: DTypeLike) -> FlatState:
        """Gather a canonical state; all arrays are new and of the given dtype.

        Raises
        ------
        CorruptFile
            If an entry is missing, unknown, of the wrong shape, or contradicts another.
        """
        check_state(network.spec, state)

        def take(key: str) -> NDArray[Any]:
            return np.array(state[key], dtype)

        names = [key.removeprefix("architecture/") for key in state if key.startswith("architecture/")]
        return cls(
            network.weights.join(state, dtype, "weights/"),
            network.weights.join(state, dtype, "momentum/"),
            network.statistics.join(state, dtype, "statistics/"),
            {
                name: AdamState(
                    take(f"architecture/{name}"),
                    take(f"adam.first/{name}"),
                    take(f"adam.second/{name}"),
                    int(np.asarray(state[f"adam.steps/{name}"]).item()),
                )
                for name in names
            },
        )
