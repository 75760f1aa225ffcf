"""The reference engine on inputs moved by a rounding error: how far such errors carry.

What any engine rounds on its way is as good as a slightly different input. Several such
*draws* show how far a result may be off without anything being wrong. Below float32 the reference rounds
as an engine would at that precision (`dots_reference.precision`), and the draws differ in what there is to round.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from dots_conformance.proxies import EngineProxy, NetworkProxy
from dots_conformance.thresholds import DRAWN, MOVED
from dots_core.engine.batch import Batch
from dots_core.engine.protocol import Engine, Network, Rates, Runtime, Setup, State
from dots_core.engine.registry import load_engine
from dots_core.random import Stream
from dots_core.search_space.layers import Convolution, Layer, Linear, ShiftedPair
from dots_core.search_space.mixing import Temperature

DRAWS = 4
"""How many draws set a budget: one on the exact inputs and three on moved ones."""

_PRODUCTS = (Convolution, Linear, ShiftedPair)

T = TypeVar("T")


def references(record: Callable[[Engine, str], T], precision: str) -> tuple[T, list[T]]:
    """Return what the reference engine records in float64, and the draws that an engine is judged by.

    Parameters
    ----------
    record : function of an engine and a precision
    precision : str
        What the engine that is judged computes in.
    """
    drawn = DRAWN[precision]
    return record(RoundingDraw(0), "float64"), [record(RoundingDraw(number), drawn) for number in range(DRAWS)]


def _drawn(number: int, name: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """How far each value of an array is moved, in ±1."""
    return 2.0 * Stream(number, f"rounding/{name}").uniform(shape) - 1.0


_SMALL = 4096
_small = lru_cache(20_000)(_drawn)  # a network's arrays are moved again and again, most of them are small


class RoundingDraw(EngineProxy):
    """The reference engine, every floating input moved by no more than a rounding error.

    What an engine rounds to the precision on its way in, images and the weights of layers alone where there is a
    product among them, is moved by a rounding error of that precision; what every engine keeps in float32, states and
    noise, by one of float32. Draw 0 moves nothing.
    """

    def __init__(self, number: int) -> None:
        super().__init__(load_engine("reference"))
        self._number = number

    def build(self, setup: Setup, weights: Mapping[str, NDArray], architecture: Mapping[str, NDArray]) -> Network:
        network = super().build(setup, self._moved_all(weights), self._moved_all(architecture))
        return network if self._number == 0 else _MovedNetwork(network, self, setup.runtime.precision)

    def run_layers(
        self,
        sequences: tuple[tuple[Layer, ...], ...],
        weights: Mapping[str, NDArray],
        images: NDArray[np.floating],
        upstream: NDArray[np.floating],
        runtime: Runtime,
    ) -> State:
        products = any(isinstance(layer, _PRODUCTS) for layers in sequences for layer in layers)
        precision = runtime.precision if products else "float32"
        x, gradient = self.moved("images", images, precision), self.moved("upstream", upstream, precision)
        return super().run_layers(sequences, self._moved_all(weights, precision), x, gradient, runtime)

    def moved(self, name: str, values: NDArray[Any], precision: str = "float32") -> NDArray[Any]:
        """Return values of any shape moved by a rounding error of a precision, a different one for each name."""
        if self._number == 0 or values.dtype.kind != "f":
            return values
        draw = (
            _small(self._number, name, values.shape)
            if values.size <= _SMALL
            else _drawn(self._number, name, values.shape)
        )
        return (values * (1.0 + MOVED.get(precision, MOVED["float32"]) * draw)).astype(values.dtype)

    def _moved_all(self, arrays: Mapping[str, NDArray], precision: str = "float32") -> dict[str, NDArray]:
        return {name: self.moved(name, value, precision) for name, value in arrays.items()}


class _MovedNetwork(NetworkProxy):
    """A network whose every input is moved on its way in."""

    def __init__(self, network: Network, draw: RoundingDraw, precision: str) -> None:
        super().__init__(network)
        self._draw, self._precision = draw, precision

    def _batch(self, batch: Batch) -> Batch:
        draws = batch.draws and {
            # What a hard sample chose is no number: it stays.
            kind: replace(draw, noise=self._draw.moved(f"noise.{kind}", draw.noise))
            for kind, draw in batch.draws.items()
        }
        return replace(batch, images=self._draw.moved("images", batch.images, self._precision), draws=draws)

    def step(self, groups: tuple[str, ...], batch: Batch, rates: Rates, temperature: Temperature) -> None:
        super().step(groups, self._batch(batch), rates, temperature)

    def accumulate_gradients(
        self, groups: tuple[str, ...], batch: Batch, temperature: Temperature, factor: float = 1.0
    ) -> None:
        super().accumulate_gradients(groups, self._batch(batch), temperature, factor)

    def evaluate(self, batch: Batch, temperature: Temperature) -> tuple[float, int]:
        return super().evaluate(self._batch(batch), temperature)

    def gradients(self, batch: Batch, temperature: Temperature, trace: bool = False) -> State:
        return super().gradients(self._batch(batch), temperature, trace)

    def import_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        super().import_state({key: self._draw.moved(key, value) for key, value in state.items()})
