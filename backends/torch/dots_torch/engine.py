"""The engine's front: versions, devices, networks and single stacks."""

from __future__ import annotations

import platform
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from dots_core.engine import stacking
from dots_core.engine.network import FrameworkEngine
from dots_core.engine.protocol import Device, Runtime
from dots_core.engine.stacking import Stacker
from dots_torch.network import TorchNetwork
from dots_torch.runtime import DeviceContext, device_context
from dots_torch.stack import ForwardContext, Stack
from dots_torch.tensors import Leaves, TorchTensors, flat_gradient, views


class TorchEngine(FrameworkEngine):
    """PyTorch, on CPU or CUDA."""

    name = "torch"
    network = TorchNetwork
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
        tensors, stack = TorchTensors(device), Stack(described)
        with device.scope():
            x = tensors.upload(images).to(memory_format=device.memory_format).requires_grad_()
            flat = tensors.upload(weights)
            leaves = Leaves(views(stacker.weights, flat))
            statistics = tensors.upload(stacker.initial_statistics(device.numpy))
            context = ForwardContext(leaves, views(stacker.statistics, statistics), training=True, track=True)
            with device.autocast():
                y = stack(context, F.relu(x) if stack.rectified else x)
            found = torch.autograd.grad(y, [x, *leaves.read.values()], tensors.upload(upstream).to(y.dtype))
            gradient = flat_gradient(stacker.weights, dict(zip(leaves.read, found[1:], strict=True)), flat)
        return tuple(map(tensors.download, (y, found[0], gradient, statistics)))


engine = TorchEngine()
