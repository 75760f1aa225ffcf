"""The engine's front: versions, devices, networks and single stacks."""

from __future__ import annotations

import ctypes
import importlib
import platform
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dots_core.engine import stacking
from dots_core.engine.network import FrameworkEngine
from dots_core.engine.protocol import Device, Runtime
from dots_core.engine.stacking import Stacker
from dots_jittor import onednn
from dots_jittor.arrays import Views
from dots_jittor.network import JittorNetwork
from dots_jittor.runtime import DeviceContext, device_context
from dots_jittor.stack import Constants, ForwardContext, Stack, moved_statistics
from dots_jittor.startup import jt


def _threads() -> int:
    # Jittor loads the system's OpenMP library globally; its kernels use it.
    return int(ctypes.CDLL("libgomp.so.1").omp_get_max_threads())


class JittorEngine(FrameworkEngine):
    """Jittor, on CPU or CUDA."""

    name = "jittor"
    network = JittorNetwork

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

    def device(self, runtime: Runtime) -> DeviceContext:
        return device_context(runtime)

    def differentiate(
        self,
        stacker: Stacker,
        described: stacking.Stack,
        weights: NDArray[Any],
        images: NDArray[np.floating],
        upstream: NDArray[np.floating],
        device: DeviceContext,
    ) -> tuple[NDArray[Any], ...]:
        tensors, stack = device.tensors(), Stack(described)
        with device.scope():
            x = tensors.upload(images).start_grad()
            leaves = Views(stacker.weights, tensors.upload(weights), differentiated=True)
            statistics = tensors.upload(stacker.initial_statistics(device.dtype))
            seen = Views(stacker.statistics, statistics)
            context = ForwardContext(device.ops, leaves, seen, True, Constants(device.dtype))
            y = stack(context, x)
            found = jt.grad((y * tensors.upload(upstream)).sum(), [x, *leaves.read.values()])
            host = tensors.download
            gradient = host(leaves.flat(found[1:])) if leaves.read else weights
            return host(y), host(found[0]), gradient, host(moved_statistics(stacker.statistics, statistics, context))


engine = JittorEngine()
