"""The engine's front: versions, devices, networks and single stacks."""

from __future__ import annotations

import platform
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, ops
from numpy.typing import NDArray

from dots_core.engine import stacking
from dots_core.engine.network import FrameworkEngine
from dots_core.engine.protocol import Device, Runtime
from dots_core.engine.stacking import Stacker
from dots_mindspore.network import MindSporeNetwork
from dots_mindspore.runtime import DeviceContext, ascend_count, device_context
from dots_mindspore.stack import ForwardContext, Stack
from dots_mindspore.tensors import MindSporeTensors, joined, parameters, parts, value_and_gradients


class MindSporeEngine(FrameworkEngine):
    """MindSpore, on CPU or Ascend."""

    name = "mindspore"
    network = MindSporeNetwork

    def versions(self) -> dict[str, str]:
        # One thread, whatever the machine has: see `dots_mindspore.runtime`.
        return {"mindspore": str(ms.__version__), "numpy": np.__version__, "threads": "1"}

    def devices(self) -> tuple[Device, ...]:
        ascend = [Device(f"ascend:{i}", "Ascend NPU") for i in range(ascend_count())]
        return (*ascend, Device("cpu", f"{platform.machine()}, convolutions on 1 thread"))

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
        device.enter()
        tensors, stack = MindSporeTensors(), Stack(described, device)
        leaves = parts(stacker.weights, tensors.upload(weights))
        moments = stacker.initial_statistics(np.float32)
        statistics = parameters(stacker.statistics, moments)
        direction = tensors.upload(upstream)

        def objective(x: Tensor, *variables: Tensor) -> tuple[Tensor, Tensor]:
            context = ForwardContext(dict(zip(leaves, variables, strict=True)), statistics, training=True)
            y = stack(context, ops.relu(x) if stack.rectified else x)
            return ops.reduce_sum(y * direction), y

        host = tensors.download
        (_, y), found = value_and_gradients(objective, (tensors.upload(images), *leaves.values()))
        if leaves:
            weights = host(joined(stacker.weights, dict(zip(leaves, found[1:], strict=True))))
        if statistics:
            moments = np.concatenate([host(parameter) for parameter in statistics.values()])
        return host(y), host(found[0]), weights, moments


engine = MindSporeEngine()
