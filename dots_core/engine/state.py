"""A network's state: which arrays it consists of, the check before taking one over, and its flat form in an engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from dots_core.engine.stacking import StackedNetwork
from dots_core.errors import CorruptFile
from dots_core.network.spec import NetworkSpec, architecture_shapes, statistics_shapes, weight_shapes


def state_shapes(spec: NetworkSpec) -> dict[str, tuple[int, ...]]:
    """Return the key and shape of every array of ``Network.export_state``."""
    shapes: dict[str, tuple[int, ...]] = {}
    weights, architecture = weight_shapes(spec), architecture_shapes(spec)
    for prefix in ("weights", "momentum"):
        shapes.update({f"{prefix}/{name}": shape for name, shape in weights.items()})
    shapes.update({f"statistics/{name}": shape for name, shape in statistics_shapes(spec).items()})
    for prefix in ("architecture", "adam.first", "adam.second"):
        shapes.update({f"{prefix}/{name}": shape for name, shape in architecture.items()})
    shapes.update({f"adam.steps/{name}": () for name in architecture})
    return shapes


def check_state(spec: NetworkSpec, state: Mapping[str, NDArray[np.generic]]) -> None:
    """Raise `CorruptFile` unless the state holds exactly the arrays the network needs, in their shapes and kinds."""
    expected = state_shapes(spec)
    for key, shape in expected.items():
        if key not in state:
            raise CorruptFile(f"the state lacks '{key}'; it was saved from another network")
        if tuple(state[key].shape) != shape:
            raise CorruptFile(f"'{key}' has shape {tuple(state[key].shape)}, the network needs {shape}")
        kind = state[key].dtype.kind
        if kind not in "iu" if key.startswith("adam.steps/") else kind != "f":
            raise CorruptFile(f"'{key}' is of type {state[key].dtype}, which is not what such an array is of")
        if kind == "i" and np.any(np.asarray(state[key], np.int64) < 0):
            raise CorruptFile(f"'{key}' is {state[key]}, which is no number of steps")
    unknown = sorted(set(state) - set(expected))
    if unknown:
        raise CorruptFile(
            f"the state holds '{unknown[0]}', which the network does not have; it was saved from another network"
        )


def rounded_state(state: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return a state, shapes kept, with its floating arrays rounded to float32: what every engine can start from."""
    return {key: value.astype(np.float32) if value.dtype.kind == "f" else value for key, value in state.items()}


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
        """Return copies by canonical name, shapes as `dots_core.engine.protocol.Network.export_state` says."""
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
