"""The operations of the DARTS space (Liu et al., ICLR 2019)."""

from __future__ import annotations

from dots_core.search_space.layers import Convolution, Layer, Norm, Pool, ReLU, factorized_reduce
from dots_core.search_space.operations.operation import Operation


class Nothing(Operation):
    """The operation of no output. It has no layers: engines leave it out."""

    name = "none"
    about = "no output: the edge is switched off as far as it weighs"
    family = "none"

    @property
    def learnable(self) -> bool:
        return False

    def layers(self, name: str, channels: int, stride: int, affine: bool, pool_norm: bool) -> tuple[Layer, ...]:
        """Raise ValueError."""
        raise ValueError("'none' has no layers")


class Skip(Operation):
    """The identity; at stride 2, FactorizedReduce."""

    name = "skip_connect"
    about = "the identity; at stride 2 two shifted 1×1 convolutions (FactorizedReduce)"
    family = "skip"
    spellings = ("skipconnect",)

    def layers(self, name: str, channels: int, stride: int, affine: bool, pool_norm: bool) -> tuple[Layer, ...]:
        return () if stride == 1 else factorized_reduce(name, channels, channels, affine)


class Pooling(Operation):
    """3×3 pooling.

    Parameters
    ----------
    kind : str
        ``"max"`` or ``"avg"``.
    """

    family = "pool"

    def __init__(self, kind: str) -> None:
        self.name, self._kind = f"{kind}_pool_3x3", kind
        self.about = f"3×3 {'max' if kind == 'max' else 'average'} pooling; in a supernet followed by a batch norm"
        self.spellings = (f"{kind}pool",)

    def layers(self, name: str, channels: int, stride: int, affine: bool, pool_norm: bool) -> tuple[Layer, ...]:
        pool = Pool(self._kind, stride)
        return (pool, Norm(f"{name}.norm", channels, False)) if pool_norm else (pool,)


class SeparableConvolution(Operation):
    """Twice ReLU, depthwise and pointwise convolution, and batch norm.

    Parameters
    ----------
    kernel : int
        Odd.
    """

    family = "separable"

    def __init__(self, kernel: int) -> None:
        self.name, self._kernel = f"sep_conv_{kernel}x{kernel}", kernel
        self.about = f"twice ReLU, depthwise {kernel}×{kernel} and 1×1 convolution, batch norm"
        # NNI 1 writes names without underscores, AutoDL-Projects (GDAS and others) as the last.
        self.spellings = (f"sepconv{kernel}x{kernel}", f"dua_sepc_{kernel}x{kernel}")

    def layers(self, name: str, channels: int, stride: int, affine: bool, pool_norm: bool) -> tuple[Layer, ...]:
        c, k = channels, self._kernel
        layers: list[Layer] = []
        for number, step in (("1", stride), ("2", 1)):
            layers += [
                ReLU(),
                Convolution(f"{name}.depthwise{number}", c, c, k, step, k // 2, groups=c),
                Convolution(f"{name}.pointwise{number}", c, c, 1),
                Norm(f"{name}.norm{number}", c, affine),
            ]
        return tuple(layers)


class DilatedConvolution(Operation):
    """ReLU, depthwise convolution at dilation 2, pointwise convolution, and batch norm.

    Parameters
    ----------
    kernel : int
        Odd.
    """

    family = "dilated"

    def __init__(self, kernel: int) -> None:
        self.name, self._kernel = f"dil_conv_{kernel}x{kernel}", kernel
        self.about = f"ReLU, depthwise {kernel}×{kernel} convolution at dilation 2, 1×1 convolution, batch norm"
        self.spellings = (f"dilconv{kernel}x{kernel}", f"dil_sepc_{kernel}x{kernel}")

    def layers(self, name: str, channels: int, stride: int, affine: bool, pool_norm: bool) -> tuple[Layer, ...]:
        c, k = channels, self._kernel
        return (
            ReLU(),
            Convolution(f"{name}.depthwise", c, c, k, stride, k - 1, dilation=2, groups=c),
            Convolution(f"{name}.pointwise", c, c, 1),
            Norm(f"{name}.norm", c, affine),
        )
