"""The engine's front: versions, devices, build."""

from __future__ import annotations

import platform
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from dots_core.engine.protocol import Device, Runtime, Setup, State
from dots_core.network.layers import Layer
from dots_torch.network import TorchNetwork
from dots_torch.run_layers import run_layers
from dots_torch.runtime import device_context


class TorchEngine:
    """PyTorch, on CPU or CUDA."""

    name = "torch"
    unrolls = True

    def versions(self) -> dict[str, str]:
        # The number of threads decides how sums are split, and so their last bits.
        versions = {"torch": str(torch.__version__), "threads": str(torch.get_num_threads())}
        if torch.version.cuda:
            versions["cuda"] = torch.version.cuda
        return versions

    def devices(self) -> tuple[Device, ...]:
        cuda = [
            Device(f"cuda:{i}", torch.cuda.get_device_name(i), torch.cuda.get_device_properties(i).total_memory)
            for i in range(torch.cuda.device_count())
        ]
        cpu = Device("cpu", f"{platform.machine()}, {torch.get_num_threads()} threads")
        return (*cuda, cpu)

    def check(self, runtime: Runtime) -> None:
        device_context(runtime)

    def build(self, setup: Setup, weights: Mapping[str, NDArray], architecture: Mapping[str, NDArray]) -> TorchNetwork:
        return TorchNetwork(setup, weights, architecture, device_context(setup.runtime))

    def run_layers(
        self,
        sequences: tuple[tuple[Layer, ...], ...],
        weights: Mapping[str, NDArray],
        images: NDArray[np.floating],
        upstream: NDArray[np.floating],
        runtime: Runtime,
    ) -> State:
        return run_layers(sequences, weights, images, upstream, device_context(runtime))


engine = TorchEngine()
