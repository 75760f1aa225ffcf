"""Device and precision: everything that depends on where the engine runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dots_core.engine.protocol import Runtime
from dots_core.errors import EngineMissing, UsageError
from dots_jittor import native, portable
from dots_jittor.primitives import Primitives
from dots_jittor.startup import jt
from dots_jittor.tensors import JittorTensors, NativeTensors


@dataclass(frozen=True)
class DeviceContext:
    """Where and in which type a network computes.

    Attributes
    ----------
    dtype : type
        Of all floating tensors.
    cuda : bool
    ops : Primitives
        The implementation that suits the device.
    """

    dtype: type[np.floating]
    cuda: bool
    ops: Primitives

    def tensors(self) -> JittorTensors:
        """Return the tensors of a network that computes here."""
        return (JittorTensors if self.cuda else NativeTensors)(self.dtype)

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        """Set Jittor's global switches for one call and put them back, whatever a caller has set them to."""
        device = {"use_cuda": int(self.cuda)} if jt.has_cuda else {}
        with jt.flag_scope(no_grad=0, **device):
            yield


def device_context(runtime: Runtime) -> DeviceContext:
    """Turn a runtime request into a `DeviceContext`.

    Raises
    ------
    EngineMissing
        If the device is unknown or not there.
    UsageError
        If the precision does not exist on the device.
    """
    if runtime.device not in ("cpu", "cuda"):
        raise EngineMissing(f"the jittor engine runs on cpu and cuda, not on '{runtime.device}'")
    cuda = runtime.device == "cuda"
    if cuda and not jt.has_cuda:
        raise EngineMissing("no CUDA device is usable by this Jittor; use --device cpu, or see `dots doctor`")
    if runtime.precision not in ("float32", "float64"):
        raise UsageError(
            f"the jittor engine computes in float32 and float64, not in {runtime.precision}; "
            "use --set precision=float32"
        )
    dtype = np.float64 if runtime.precision == "float64" else np.float32
    return DeviceContext(dtype, cuda, portable if cuda else native)
