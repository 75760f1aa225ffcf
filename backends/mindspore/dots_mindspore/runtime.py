"""Device, precision and determinism: everything that depends on where the engine runs."""

from __future__ import annotations

import ctypes
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mindspore as ms

from dots_core.engine.protocol import Runtime
from dots_core.errors import EngineMissing, UsageError

_AVX2 = 0x7
"""``dnnl_cpu_isa_avx2`` of oneDNN's C interface."""

_REDUCED = {"bfloat16": ms.bfloat16, "float16": ms.float16}


@dataclass(frozen=True)
class DeviceChoices:
    """What one kind of device does differently from another; nothing else in the engine depends on it.

    Attributes
    ----------
    target : str
        MindSpore's name of the device.
    composed_channels : int
        Up to so many channels, depthwise convolutions of one shared input and the pointwise ones
        that follow are computed as one dense convolution with the products of their kernels.
    split_by_convolution : bool
        Whether channels are taken apart by 1×1 convolutions with kernels of zeros and ones.
    precisions : tuple of str
        Those of `dots_core.engine.protocol.PRECISIONS` it computes in.
    """

    target: str
    composed_channels: int
    split_by_convolution: bool
    precisions: tuple[str, ...]


DEVICES = {
    "cpu": DeviceChoices("CPU", composed_channels=32, split_by_convolution=True, precisions=("float32",)),
    "ascend": DeviceChoices(
        "Ascend",
        composed_channels=0,
        split_by_convolution=False,
        precisions=("float32", "hf32", "bfloat16", "float16"),
    ),
}


@dataclass(frozen=True)
class DeviceContext:
    """A device, its choices, and how exactly to compute there.

    Attributes
    ----------
    device : str
        Key of `DEVICES`.
    index : int
        Which of several such devices.
    """

    device: str
    index: int
    choices: DeviceChoices
    precision: str
    deterministic: bool

    @property
    def reduced(self) -> Any:
        """MindSpore's type of convolutions' operands, or None for float32."""
        return _REDUCED.get(self.precision)

    @property
    def loss_scale(self) -> float:
        """Keeps float16 gradients above its smallest numbers.

        Fixed, because a scale that adapts must look at every gradient and so wait for the device.
        """
        return 1024.0 if self.precision == "float16" else 1.0

    def enter(self) -> None:
        """Make MindSpore compute here, which is a matter of the whole process.

        Raises
        ------
        EngineMissing
            If the process already computes on another device.
        """
        on_cpu = self.choices.target == "CPU"
        if on_cpu:
            _limit_onednn()
        if _process.device_context == self:
            return
        try:
            ms.set_device(self.choices.target, self.index)
        except RuntimeError as error:
            raise EngineMissing(
                f"MindSpore cannot change to '{self.device}': {str(error).splitlines()[0]}; "
                "a process keeps to the device it started with"
            ) from None
        ms.set_context(mode=ms.PYNATIVE_MODE)
        if on_cpu:
            # Kernels then run in the calling thread, the only one in which the number of oneDNN's
            # threads can be limited.
            ms.runtime.launch_blocking()
        else:
            # Convolutions on Ascend round their operands to HF32 unless told not to.
            options = ms.device_context.ascend.op_precision
            options.precision_mode("must_keep_origin_dtype")
            options.conv_allow_hf32(self.precision == "hf32")
            options.matmul_allow_hf32(self.precision == "hf32")
            if self.deterministic and not _process.deterministic:
                # MindSpore takes this once a process. On CPU kernels are repeatable without it.
                ms.set_deterministic(True)
                _process.deterministic = True
        _process.device_context = self


@dataclass
class _Process:
    """What was set for the whole process."""

    device_context: DeviceContext | None = None
    deterministic: bool = False
    onednn: Any = None  # MindSpore's copy of the library; False where it has none


_process = _Process()


def device_context(runtime: Runtime) -> DeviceContext:
    """Turn a runtime request into a `DeviceContext`.

    Raises
    ------
    EngineMissing
        If the device is unknown or not there.
    UsageError
        If the precision does not exist on the device.
    """
    kind, _, number = runtime.device.lower().partition(":")
    if kind not in DEVICES or (number and not number.isdecimal()) or (kind == "cpu" and number not in ("", "0")):
        raise EngineMissing(
            f"'{runtime.device}' is no device; the mindspore engine has cpu, ascend, ascend:1, … (Ascend NPUs)"
        )
    index = int(number or 0)
    if kind == "ascend" and index >= ascend_count():
        raise EngineMissing(
            f"there is no device '{runtime.device}'; MindSpore sees {ascend_count()} Ascend device(s). "
            "Use --device cpu, or see `dots doctor --backend mindspore`"
        )
    choices = DEVICES[kind]
    if runtime.precision not in choices.precisions:
        raise UsageError(
            f"the mindspore engine computes on {kind} in {' or '.join(choices.precisions)}, not in "
            f"{runtime.precision}; use --set precision=float32"
        )
    return DeviceContext(kind, index, choices, runtime.precision, runtime.deterministic)


def ascend_count() -> int:
    """Return the number of Ascend devices, without starting one."""
    ascend = ms.device_context.ascend
    return int(ascend.device_count()) if ascend.is_available() else 0


def _limit_onednn() -> None:
    """Keep oneDNN, MindSpore's convolutions on CPU, on its fast paths.

    MindSpore hands it plain layouts. For these, with AVX-512, it takes a reference loop that is
    a hundred times slower than the matrix product it takes with AVX2. And its threads wait for
    each other within every small product, which takes milliseconds each time another process
    has the second core; the limit to one thread holds for the calling thread only.
    """
    if _process.onednn is None:
        path = Path(ms.__file__).parent / "lib" / "libdnnl.so.3"
        _process.onednn = ctypes.CDLL(str(path)) if path.exists() else False
        chosen = "ONEDNN_MAX_CPU_ISA" in os.environ or "DNNL_MAX_CPU_ISA" in os.environ
        if _process.onednn and not chosen and platform.machine() in ("x86_64", "AMD64"):
            _process.onednn.dnnl_set_max_cpu_isa(_AVX2)
    if _process.onednn:
        _process.onednn.dnnl_threadpool_interop_set_max_concurrency(1)
