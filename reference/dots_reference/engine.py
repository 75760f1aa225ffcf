"""The engine: what it can do, and how it builds a network."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from dots_core.engine.protocol import Device, Engine, Runtime, Setup, State
from dots_core.errors import EngineMissing, UsageError
from dots_core.search_space.layers import Layer
from dots_reference.layers import ForwardContext, sequence
from dots_reference.network import ReferenceNetwork
from dots_reference.normalisation import moved
from dots_reference.precision import PRECISIONS


class ReferenceEngine(Engine):
    """NumPy on the CPU, in float64, float32, or as if in a lower precision (`dots_reference.precision`)."""

    name = "reference"

    def versions(self) -> dict[str, str]:
        """Return the versions of NumPy and Python."""
        return {"numpy": np.__version__, "python": platform.python_version()}

    def devices(self) -> tuple[Device, ...]:
        """Return the CPU."""
        processor = platform.processor() or platform.machine()
        return (Device("cpu", f"{processor}, {os.cpu_count()} threads"),)

    def check(self, runtime: Runtime) -> None:
        """Raise unless the device is the CPU and the precision one of `dots_reference.precision.PRECISIONS`."""
        device, precision = runtime.device, runtime.precision
        if device != "cpu":
            raise EngineMissing(f"the reference engine has no device '{device}'; it runs on 'cpu'")
        if precision not in PRECISIONS:
            raise UsageError(f"the reference engine computes in {', '.join(PRECISIONS)}, not in {precision}")

    def build(
        self, setup: Setup, weights: Mapping[str, NDArray], architecture: Mapping[str, NDArray]
    ) -> ReferenceNetwork:
        """Build a network; see `dots_core.engine.protocol.Engine.build`.

        Raises
        ------
        EngineMissing
            If the device is not ``"cpu"``.
        UsageError
            If the precision is none of these.
        CorruptFile
            If a weight or architecture weight is missing, unknown or of the wrong shape.
        """
        self.check(setup.runtime)
        return ReferenceNetwork(setup, PRECISIONS[setup.runtime.precision], weights, architecture)

    def run_layers(
        self,
        sequences: tuple[tuple[Layer, ...], ...],
        weights: Mapping[str, NDArray],
        images: NDArray[np.floating],
        upstream: NDArray[np.floating],
        runtime: Runtime,
    ) -> State:
        """Carry out `dots_core.engine.protocol.Engine.run_layers`."""
        self.check(runtime)
        precision = PRECISIONS[runtime.precision]
        dtype = precision.dtype
        x = images.astype(dtype)
        own = {name: value.astype(dtype) for name, value in weights.items()}
        context = ForwardContext(own, {}, training=True, precision=precision)
        with np.errstate(all="ignore"):
            outputs, pulls = zip(*(sequence(layers, x, context) for layers in sequences), strict=True)
            parts = np.split(precision.stored(upstream.astype(dtype)), len(outputs), axis=1)
            gradient = np.zeros_like(x)
            for pull, part in zip(pulls, parts, strict=True):
                gradient = precision.stored(gradient + pull(part))
        state: State = {"output": np.concatenate(outputs, axis=1), "gradient/images": gradient}
        state.update({f"gradient/{name}": value for name, value in context.gradients.items()})
        for name, moments in context.moments.items():
            for sort, start, batch in zip(("running_mean", "running_var"), (0.0, 1.0), moments, strict=True):
                state[f"statistics/{name}.{sort}"] = moved(np.full_like(batch, start), batch)
        return state


engine = ReferenceEngine()
