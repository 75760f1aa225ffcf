"""The engine's front: versions, devices, build."""

from __future__ import annotations

import ctypes
import importlib
import platform
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dots_core.engine.protocol import Device, Runtime, Setup, State
from dots_core.network.layers import Layer
from dots_jittor import onednn
from dots_jittor.network import JittorNetwork
from dots_jittor.run_layers import run_layers
from dots_jittor.runtime import device_context
from dots_jittor.startup import jt


def _threads() -> int:
    # Jittor loads the system's OpenMP library globally; its kernels use it.
    return int(ctypes.CDLL("libgomp.so.1").omp_get_max_threads())


class JittorEngine:
    """Jittor, on CPU or CUDA."""

    name = "jittor"

    def versions(self) -> dict[str, str]:
        utils = importlib.import_module("jittor_utils")
        compiler = utils.get_version(utils.cc_path).strip("()")
        folder = Path(utils.home()) / ".cache" / "jittor" / "mkl"
        mkl = onednn.version(folder) if jt.compile_extern.use_mkl else None
        # The number of threads may decide how oneDNN splits sums, and so their last bits.
        versions = {
            "jittor": str(jt.__version__),
            "compiler": f"{utils.cc_type} {compiler}",
            "onednn": mkl or "none",
            "threads": str(_threads()),
        }
        if jt.has_cuda:
            versions["cuda"] = utils.get_version(jt.flags.nvcc_path).strip("()")
        return versions

    def devices(self) -> tuple[Device, ...]:
        cpu = Device("cpu", f"{platform.machine()}, {_threads()} threads")
        return (Device("cuda", "the first CUDA device"), cpu) if jt.has_cuda else (cpu,)

    def check(self, runtime: Runtime) -> None:
        device_context(runtime)

    def build(self, setup: Setup, weights: Mapping[str, NDArray], architecture: Mapping[str, NDArray]) -> JittorNetwork:
        return JittorNetwork(setup, weights, architecture, device_context(setup.runtime))

    def run_layers(
        self,
        sequences: tuple[tuple[Layer, ...], ...],
        weights: Mapping[str, NDArray],
        images: NDArray[np.floating],
        upstream: NDArray[np.floating],
        runtime: Runtime,
    ) -> State:
        return run_layers(sequences, weights, images, upstream, device_context(runtime))


engine = JittorEngine()
