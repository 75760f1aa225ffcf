"""An engine and a network that pass every verb on to another: what a change of some of them starts from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dots_core.engine.batch import Batch
from dots_core.engine.protocol import Device, Engine, Network, Rates, Runtime, Setup, State
from dots_core.search_space.layers import Layer
from dots_core.search_space.mixing import Temperature


class EngineProxy(Engine):
    """Does what another engine does."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.name = engine.name

    def versions(self) -> dict[str, str]:
        return self._engine.versions()

    def devices(self) -> tuple[Device, ...]:
        return self._engine.devices()

    def check(self, runtime: Runtime) -> None:
        self._engine.check(runtime)

    def build(self, setup: Setup, weights: Mapping[str, NDArray], architecture: Mapping[str, NDArray]) -> Network:
        return self._engine.build(setup, weights, architecture)

    def run_layers(
        self,
        sequences: tuple[tuple[Layer, ...], ...],
        weights: Mapping[str, NDArray],
        images: NDArray[np.floating],
        upstream: NDArray[np.floating],
        runtime: Runtime,
    ) -> State:
        return self._engine.run_layers(sequences, weights, images, upstream, runtime)


class NetworkProxy(Network):
    """Does what another network does."""

    def __init__(self, network: Network) -> None:
        self._network = network

    def step(self, groups: tuple[str, ...], batch: Batch, rates: Rates, temperature: Temperature) -> None:
        self._network.step(groups, batch, rates, temperature)

    def accumulate_gradients(
        self, groups: tuple[str, ...], batch: Batch, temperature: Temperature, factor: float = 1.0
    ) -> None:
        self._network.accumulate_gradients(groups, batch, temperature, factor)

    def update(
        self, groups: tuple[str, ...], rates: Rates, extra_gradients: Mapping[str, NDArray[np.floating]] | None = None
    ) -> None:
        self._network.update(groups, rates, extra_gradients)

    def virtual_step(self, rate: float) -> None:
        self._network.virtual_step(rate)

    def perturb_weights(self, radius: float) -> None:
        self._network.perturb_weights(radius)

    def gradient_norm(self) -> float:
        return self._network.gradient_norm()

    def restore_weights(self) -> None:
        self._network.restore_weights()

    def pop_losses(self) -> NDArray[np.float64]:
        return self._network.pop_losses()

    def evaluate(self, batch: Batch, temperature: Temperature) -> tuple[float, int]:
        return self._network.evaluate(batch, temperature)

    def gradients(self, batch: Batch, temperature: Temperature, trace: bool = False) -> State:
        return self._network.gradients(batch, temperature, trace)

    def architecture(self) -> dict[str, NDArray[np.floating]]:
        return self._network.architecture()

    def export_state(self) -> State:
        return self._network.export_state()

    def import_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        self._network.import_state(state)
