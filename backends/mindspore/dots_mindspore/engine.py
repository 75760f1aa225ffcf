"""The engine's front: versions, devices, build."""

from __future__ import annotations

import platform
from collections.abc import Mapping

import mindspore as ms
import numpy as np
from numpy.typing import NDArray

from dots_core.engine.protocol import Device, Runtime, Setup, State
from dots_core.network.layers import Layer
from dots_mindspore.apply import apply
from dots_mindspore.network import MindSporeNetwork
from dots_mindspore.runtime import ascend_count, place


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
        place(runtime)

    def build(
        self, setup: Setup, weights: Mapping[str, NDArray], architecture: Mapping[str, NDArray]
    ) -> MindSporeNetwork:
        return MindSporeNetwork(setup, weights, architecture, place(setup.runtime))

    def apply(
        self,
        sequences: tuple[tuple[Layer, ...], ...],
        weights: Mapping[str, NDArray],
        images: NDArray[np.floating],
        upstream: NDArray[np.floating],
        runtime: Runtime,
    ) -> State:
        return apply(sequences, weights, images, upstream, place(runtime))


engine = MindSporeEngine()
