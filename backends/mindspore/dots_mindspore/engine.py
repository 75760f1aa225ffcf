"""The engine's front: versions, devices, build."""

from __future__ import annotations

import platform
from collections.abc import Mapping

import mindspore as ms
import numpy as np
from numpy.typing import NDArray

from dots_core.engine.protocol import Device, Runtime, Setup, State
from dots_core.network.layers import Layer
from dots_mindspore.network import MindSporeNetwork
from dots_mindspore.run_layers import run_layers
from dots_mindspore.runtime import ascend_count, device_context


class MindSporeEngine:
    """MindSpore, on CPU or Ascend."""

    name = "mindspore"

    def versions(self) -> dict[str, str]:
        # One thread, whatever the machine has: see `dots_mindspore.runtime`.
        return {"mindspore": str(ms.__version__), "numpy": np.__version__, "threads": "1"}

    def devices(self) -> tuple[Device, ...]:
        ascend = [Device(f"ascend:{i}", "Ascend NPU") for i in range(ascend_count())]
        return (*ascend, Device("cpu", f"{platform.machine()}, convolutions on 1 thread"))

    def check(self, runtime: Runtime) -> None:
        device_context(runtime)

    def build(
        self, setup: Setup, weights: Mapping[str, NDArray], architecture: Mapping[str, NDArray]
    ) -> MindSporeNetwork:
        return MindSporeNetwork(setup, weights, architecture, device_context(setup.runtime))

    def run_layers(
        self,
        sequences: tuple[tuple[Layer, ...], ...],
        weights: Mapping[str, NDArray],
        images: NDArray[np.floating],
        upstream: NDArray[np.floating],
        runtime: Runtime,
    ) -> State:
        return run_layers(sequences, weights, images, upstream, device_context(runtime))


engine = MindSporeEngine()
