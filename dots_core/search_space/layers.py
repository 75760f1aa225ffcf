"""The primitive layers that operations and networks are made of.

Layers are descriptions only: names, shapes and strides. Engines give them life; parameter
counts, MACs and initial weights come from the descriptions alone. Kernels, and so weights,
are square; tensors are N, C, H, W and weights O, I, H, W.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

NORM_EPSILON = 1e-5
NORM_MOMENTUM = 0.1
"""Share of the newest batch in running statistics: running = 0.9 running + 0.1 batch, variance unbiased."""


@dataclass(frozen=True)
class ReLU:
    """max(x, 0); gradient 0 at 0."""


@dataclass(frozen=True)
class Convolution:
    """Convolution without bias; weight shape (outputs, inputs/groups, kernel, kernel)."""

    name: str
    inputs: int
    outputs: int
    kernel: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    groups: int = 1

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        """(outputs, inputs/groups, kernel, kernel)."""
        return (self.outputs, self.inputs // self.groups, self.kernel, self.kernel)

    @property
    def of_every_second_pixel(self) -> Convolution | None:
        """The plain convolution that gives the same result of every second row and column of the input.

        There is one where the stride is 2 and all taps fall on even pixels: of a kernel of one tap, and of
        dilation 2. That is several times faster on most libraries than the dilated one.
        """
        if self.stride == 2 and self.kernel == 1 and self.padding == 0:
            return replace(self, stride=1, dilation=1)
        if self.stride == self.dilation == 2 and self.kernel % 2 and self.padding == self.kernel - 1:
            return replace(self, stride=1, dilation=1, padding=self.kernel // 2)
        return None


@dataclass(frozen=True)
class ShiftedPair:
    """Two 1×1 stride-2 convolutions, the second on the input shifted by one pixel, concatenated.

    The core of FactorizedReduce. The shift reads pixel (y+1, x+1); beyond the border of an
    image of odd size it reads 0, so that the output is ceil(size / 2) like every other
    stride-2 operation's. Weights are ``<name>.conv1`` and ``<name>.conv2``.
    """

    first: Convolution
    second: Convolution


@dataclass(frozen=True)
class Norm:
    """Batch normalisation; two-pass variance, ε = 1e-5, see `NORM_MOMENTUM`."""

    name: str
    channels: int
    affine: bool


@dataclass(frozen=True)
class Pool:
    """3×3 pooling with padding 1: the maximum, or the average that does not count the padding."""

    kind: str
    stride: int


@dataclass(frozen=True)
class MaxPool2x2:
    """2×2 max-pooling at stride 2; a last row or column of odd size is pooled alone: to ⌈H/2⌉ × ⌈W/2⌉.

    Of several equal maxima the first, row by row, gets the whole gradient.
    """


@dataclass(frozen=True)
class WindowAverage:
    """Average pooling without padding."""

    kernel: int
    stride: int


@dataclass(frozen=True)
class GlobalAverage:
    """Mean over height and width: (N, C, H, W) to (N, C)."""


@dataclass(frozen=True)
class Linear:
    """Affine map; weight shape (outputs, inputs), bias shape (outputs,)."""

    name: str
    inputs: int
    outputs: int


Layer = ReLU | Convolution | ShiftedPair | Norm | Pool | MaxPool2x2 | WindowAverage | GlobalAverage | Linear


def factorized_reduce(name: str, inputs: int, outputs: int, affine: bool) -> tuple[Layer, ...]:
    """FactorizedReduce (DARTS): ReLU, two shifted 1×1 stride-2 convolutions, batch norm."""
    half = outputs // 2
    pair = ShiftedPair(
        Convolution(f"{name}.conv1", inputs, half, 1, stride=2),
        Convolution(f"{name}.conv2", inputs, outputs - half, 1, stride=2),
    )
    return (ReLU(), pair, Norm(f"{name}.norm", outputs, affine))


def relu_conv_norm(name: str, inputs: int, outputs: int, affine: bool) -> tuple[Layer, ...]:
    """ReLU, 1×1 convolution, batch norm: how a cell reads its inputs."""
    return (ReLU(), Convolution(f"{name}.conv", inputs, outputs, 1), Norm(f"{name}.norm", outputs, affine))


Size = tuple[int, int]
"""Height and width."""


def output_size(layer: Layer, size: Size) -> Size:
    """Height and width after a layer, given height and width before it."""

    def after(kernel: int, stride: int, padding: int, dilation: int = 1) -> tuple[int, int]:
        h, w = ((s + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1 for s in size)
        return h, w

    if isinstance(layer, Convolution):
        return after(layer.kernel, layer.stride, layer.padding, layer.dilation)
    if isinstance(layer, ShiftedPair):
        return after(1, 2, 0)
    if isinstance(layer, Pool):
        return after(3, layer.stride, 1)
    if isinstance(layer, MaxPool2x2):
        return (size[0] + 1) // 2, (size[1] + 1) // 2
    if isinstance(layer, WindowAverage):
        return after(layer.kernel, layer.stride, 0)
    if isinstance(layer, GlobalAverage):
        return 1, 1
    return size


def output_shape(sequences: tuple[tuple[Layer, ...], ...], samples: int, channels: int, size: Size) -> tuple[int, ...]:
    """Shape of what ``Engine.run_layers`` returns for an input of some samples, channels and size.

    That is (samples, outputs, height, width), or (samples, outputs) after a global average.
    """
    flat = False
    for layer in sequences[0]:
        size = output_size(layer, size)
        if isinstance(layer, (Convolution, Linear)):
            channels = layer.outputs
        elif isinstance(layer, ShiftedPair):
            channels = layer.first.outputs + layer.second.outputs
        flat = flat or isinstance(layer, GlobalAverage)
    outputs = channels * len(sequences)
    return (samples, outputs) if flat else (samples, outputs, *size)
