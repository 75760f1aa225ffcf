"""Device, precision and determinism: everything that depends on where the engine runs."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dots_core.engine.protocol import Runtime
from dots_core.errors import EngineMissing, UsageError

_AUTOCAST = {"bfloat16": torch.bfloat16, "float16": torch.float16}

# Keeps float16 gradients above its smallest numbers. Fixed, because a scale that adapts must
# look at every gradient and so wait for the device on every step.
_FLOAT16_LOSS_SCALE = 1024.0


@dataclass(frozen=True)
class DeviceContext:
    """How tensors are stored and computed.

    Attributes
    ----------
    dtype : torch.dtype
        Of weights, statistics and architecture weights.
    memory_format : torch.memory_format
        Channels-last on CPU: depthwise convolutions are two to three times faster there.
    """

    device: torch.device
    dtype: torch.dtype
    memory_format: torch.memory_format
    autocast_dtype: torch.dtype | None
    tf32: bool
    deterministic: bool

    @property
    def numpy(self) -> type[np.floating]:
        """The same type on the host."""
        return np.float64 if self.dtype == torch.float64 else np.float32

    @property
    def loss_scale(self) -> float:
        """Factor of the loss on the way back, taken out of the gradients again; 1 but for float16."""
        return _FLOAT16_LOSS_SCALE if self.autocast_dtype == torch.float16 else 1.0

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """Context in which the network's operations run in the lower precision, if one was asked for."""
        if self.autocast_dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, self.autocast_dtype)

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        """Set PyTorch's global switches for one call and put them back, whatever a caller has set them to."""
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            torch.autocast(self.device.type, enabled=False),
            self._switched() if self.device.type == "cuda" else contextlib.nullcontext(),
        ):
            yield

    @contextlib.contextmanager
    def _switched(self) -> Iterator[None]:
        matmul = torch.backends.cuda.matmul.allow_tf32
        determinism = torch.are_deterministic_algorithms_enabled()
        try:
            torch.backends.cuda.matmul.allow_tf32 = self.tf32
            torch.use_deterministic_algorithms(self.deterministic)
            with torch.backends.cudnn.flags(
                enabled=True,
                benchmark=not self.deterministic,
                deterministic=self.deterministic,
                allow_tf32=self.tf32,
            ):
                yield
        finally:
            torch.backends.cuda.matmul.allow_tf32 = matmul
            torch.use_deterministic_algorithms(determinism)

    def upload(self, array: NDArray[np.generic]) -> Tensor:
        """Bring an array to the device, in its shape and type, without waiting for it."""
        tensor = torch.from_numpy(np.require(array, requirements=("C", "W")))
        if self.device.type == "cuda":
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor


def device_context(runtime: Runtime) -> DeviceContext:
    """Turn a runtime request into a `DeviceContext`.

    Raises
    ------
    EngineMissing
        If the device is unknown or not there.
    UsageError
        If the precision does not exist on the device.
    """
    try:
        device = torch.device(runtime.device)
    except RuntimeError:
        raise EngineMissing(f"'{runtime.device}' is no device; the torch engine has cpu, cuda, cuda:0, …") from None
    if device.type not in ("cpu", "cuda"):
        raise EngineMissing(f"the torch engine runs on cpu and cuda, not on '{runtime.device}'")
    if device.type == "cpu" and device.index:
        raise EngineMissing(f"there is no {device}; PyTorch has one CPU, --device cpu")
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise EngineMissing("no CUDA device is usable by this PyTorch; use --device cpu, or see `dots doctor`")
        if (device.index or 0) >= torch.cuda.device_count():
            raise EngineMissing(f"there is no {device}; this machine has {torch.cuda.device_count()} CUDA device(s)")
        if runtime.deterministic:
            # cuBLAS reads this when it is first used; without it PyTorch refuses deterministic products.
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if runtime.precision == "tf32" and device.type != "cuda":
        raise UsageError("tf32 exists on CUDA devices only; use --set precision=float32")
    if runtime.precision == "float16" and device.type != "cuda":
        raise UsageError("float16 runs on CUDA devices only; on cpu use --set precision=bfloat16 or float32")
    if runtime.precision not in ("float32", "float64", "tf32", *_AUTOCAST):
        raise UsageError(f"the torch engine has no precision '{runtime.precision}'")
    return DeviceContext(
        device=device,
        dtype=torch.float64 if runtime.precision == "float64" else torch.float32,
        memory_format=torch.channels_last if device.type == "cpu" else torch.contiguous_format,
        autocast_dtype=_AUTOCAST.get(runtime.precision),
        tf32=runtime.precision == "tf32",
        deterministic=runtime.deterministic,
    )
