"""The reference engine on inputs moved by a rounding error: how far such errors carry.

What any engine rounds on its way is as good as a slightly different input. Several such
*draws* show how far a result may be off without anything being wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from dots_core.backends import load_engine
from dots_core.batch import Batch
from dots_core.engine import Device, Engine, Network, Rates, Runtime, Setup, State, Temperature
from dots_core.layers import Layer
from dots_core.random import Stream

DRAWS = 4
"""How many draws set a budget: one on the exact inputs and three on moved ones."""

_AMOUNT = 2.0**-23

T = TypeVar("T")


def references(record: Callable[[Engine, str], T]) -> tuple[T, list[T]]:
    """Return what the reference engine records in float64, and its draws in float32.

    Parameters
    ----------
    record : function of an engine and a precision
    """
    return record(RoundingDraw(0), "float64"), [record(RoundingDraw(number), "float32") for number in range(DRAWS)]


class RoundingDraw:
    """The reference engine, every floating input moved by up to a relative 2⁻²³.

    Draw 0 moves nothing.
    """

    name = "reference"

    def __init__(self, number: int) -> None:
        self._number = number
        self._engine: Engine = load_engine("reference")

    def versions(self) -> dict[str, str]:
        return self._engine.versions()

    def devices(self) -> tuple[Device, ...]:
        return self._engine.devices()

    def check(self, runtime: Runtime) -> None:
        self._engine.check(runtime)

    def build(self, setup: Setup, weights: Mapping[str, NDArray], architecture: Mapping[str, NDArray]) -> Network:
        network = self._engine.build(setup, self._moved_all(weights), self._moved_all(architecture))
        return network if self._number == 0 else _Network(network, self)

    def apply(
        self,
        sequences: tuple[tuple[Layer, ...], ...],
        weights: Mapping[str, NDArray],
        images: NDArray[np.floating],
        upstream: NDArray[np.floating],
        runtime: Runtime,
    ) -> State:
        x, gradient = self.moved("images", images), self.moved("upstream", upstream)
        return self._engine.apply(sequences, self._moved_all(weights), x, gradient, runtime)

    def moved(self, name: str, values: NDArray[Any]) -> NDArray[Any]:
        """Return values moved by a rounding error, a different one for each name."""
        if self._number == 0 or values.dtype.kind != "f":
            return values
        draw = 2.0 * Stream(self._number, f"rounding/{name}").uniform(values.shape) - 1.0
        return (values * (1.0 + _AMOUNT * draw)).astype(values.dtype)

    def _moved_all(self, arrays: Mapping[str, NDArray]) -> dict[str, NDArray]:
        return {name: self.moved(name, value) for name, value in arrays.items()}


class _Network:
    """A network whose every input is moved on its way in."""

    def __init__(self, network: Network, draw: RoundingDraw) -> None:
        self._network, self._draw = network, draw

    def _batch(self, batch: Batch) -> Batch:
        return replace(batch, images=self._draw.moved("images", batch.images))

    def step(self, groups: tuple[str, ...], batch: Batch, rates: Rates, temperature: Temperature) -> None:
        self._network.step(groups, self._batch(batch), rates, temperature)

    def drain(self) -> NDArray[np.float64]:
        return self._network.drain()

    def evaluate(self, batch: Batch, temperature: Temperature) -> tuple[float, int]:
        return self._network.evaluate(self._batch(batch), temperature)

    def gradients(self, batch: Batch, temperature: Temperature, trace: bool = False) -> State:
        return self._network.gradients(self._batch(batch), temperature, trace)

    def architecture(self) -> dict[str, NDArray[np.floating]]:
        return self._network.architecture()

    def export_state(self) -> State:
        return self._network.export_state()

    def import_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        self._network.import_state({key: self._draw.moved(key, value) for key, value in state.items()})
