"""The engine and its networks: every verb asks the other process."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dots_core.engine.batch import Batch
from dots_core.engine.protocol import Device, Rates, Runtime, Setup, State
from dots_core.search_space.layers import Layer
from dots_core.search_space.mixing import Temperature
from dots_loopback.process import Process
from dots_loopback.records import batch_to_arrays, layer_to_record, setup_to_record


class LoopbackNetwork:
    """A network on the other side; the verbs are those of `dots_core.engine.protocol.Network`."""

    def __init__(self, process: Process, number: int) -> None:
        self._process, self._record = process, {"network": number}
        weakref.finalize(self, process.forgotten.append, number)

    def step(self, groups: tuple[str, ...], batch: Batch, rates: Rates, temperature: Temperature) -> None:
        record = {"groups": groups, "rates": asdict(rates), "temperature": asdict(temperature)}
        self._process.ask("step", {**self._record, **record}, batch_to_arrays(batch))

    def accumulate_gradients(
        self, groups: tuple[str, ...], batch: Batch, temperature: Temperature, factor: float = 1.0
    ) -> None:
        record = {"groups": groups, "temperature": asdict(temperature), "factor": factor}
        self._process.ask("accumulate_gradients", {**self._record, **record}, batch_to_arrays(batch))

    def update(
        self, groups: tuple[str, ...], rates: Rates, extra_gradients: Mapping[str, NDArray[np.floating]] | None = None
    ) -> None:
        self._process.ask("update", {**self._record, "groups": groups, "rates": asdict(rates)}, extra_gradients or {})

    def virtual_step(self, rate: float) -> None:
        self._process.ask("virtual_step", {**self._record, "rate": rate})

    def perturb_weights(self, radius: float) -> None:
        self._process.ask("perturb_weights", {**self._record, "radius": radius})

    def gradient_norm(self) -> float:
        answer, _ = self._process.ask("gradient_norm", self._record)
        return answer["norm"]

    def restore_weights(self) -> None:
        self._process.ask("restore_weights", self._record)

    def pop_losses(self) -> NDArray[np.float64]:
        _, arrays = self._process.ask("pop_losses", self._record)
        return arrays["rows"]

    def evaluate(self, batch: Batch, temperature: Temperature) -> tuple[float, int]:
        record = {**self._record, "temperature": asdict(temperature)}
        answer, _ = self._process.ask("evaluate", record, batch_to_arrays(batch))
        return answer["loss"], answer["correct"]

    def gradients(self, batch: Batch, temperature: Temperature, trace: bool = False) -> State:
        record = {**self._record, "temperature": asdict(temperature), "trace": trace}
        _, arrays = self._process.ask("gradients", record, batch_to_arrays(batch))
        return arrays

    def architecture(self) -> dict[str, NDArray[np.floating]]:
        _, arrays = self._process.ask("architecture", self._record)
        return arrays

    def export_state(self) -> State:
        _, arrays = self._process.ask("export_state", self._record)
        return arrays

    def import_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        self._process.ask("import_state", self._record, state)


class LoopbackEngine:
    """The reference engine in a process of its own; the verbs are those of `dots_core.engine.protocol.Engine`."""

    name = "loopback"

    def __init__(self) -> None:
        self._process = Process()

    def versions(self) -> dict[str, str]:
        answer, _ = self._process.ask("versions")
        return answer["versions"]

    def devices(self) -> tuple[Device, ...]:
        answer, _ = self._process.ask("devices")
        return tuple(Device(*device) for device in answer["devices"])

    def check(self, runtime: Runtime) -> None:
        self._process.ask("check", {"runtime": asdict(runtime)})

    def build(
        self, setup: Setup, weights: Mapping[str, NDArray], architecture: Mapping[str, NDArray]
    ) -> LoopbackNetwork:
        arrays = {f"weights/{name}": value for name, value in weights.items()}
        arrays.update({f"architecture/{name}": value for name, value in architecture.items()})
        answer, _ = self._process.ask("build", {"setup": setup_to_record(setup)}, arrays)
        return LoopbackNetwork(self._process, answer["network"])

    def run_layers(
        self,
        sequences: tuple[tuple[Layer, ...], ...],
        weights: Mapping[str, NDArray],
        images: NDArray[np.floating],
        upstream: NDArray[np.floating],
        runtime: Runtime,
    ) -> State:
        layers = [[layer_to_record(layer) for layer in sequence] for sequence in sequences]
        arrays = {f"weights/{name}": value for name, value in weights.items()}
        arrays.update(images=images, upstream=upstream)
        _, found = self._process.ask("run_layers", {"sequences": layers, "runtime": asdict(runtime)}, arrays)
        return found


engine = LoopbackEngine()
