"""Single layers and single operations, forward and backward."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from dots_conformance.cases.base import Case, Recording, drawn, drawn_arrays
from dots_core.engine.protocol import Engine, Runtime
from dots_core.engine.stacking import Stacker
from dots_core.search_space.layers import (
    Convolution,
    GlobalAverage,
    Layer,
    Linear,
    MaxPool2x2,
    Norm,
    Pool,
    ReLU,
    ShiftedPair,
    Size,
    WindowAverage,
    output_shape,
)
from dots_core.search_space.operations import NONE, OPERATIONS

SIZES = ((1, 1), (3, 3), (7, 9), (8, 8), (32, 32))
CHANNELS = (4, 16)
SAMPLES = 4
WIDTH = 3
"""Edges out of a node: how many equal operations are stacked."""

Images = Callable[[int, str, tuple[int, ...]], NDArray[np.float32]]


def _normal(seed: int, case: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    return drawn(seed, case, "images", shape)


def _badly_scaled(seed: int, case: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Mean 100 and standard deviation 0.01: a variance taken as E[x²] − E[x]² cancels."""
    return (100.0 + 0.01 * drawn(seed, case, "images", shape)).astype(np.float32)


def _tied(seed: int, case: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Whole numbers from −1 to 1: many equal maxima, many zeros."""
    return np.clip(np.round(drawn(seed, case, "images", shape)), -1, 1)


def _not_finite(seed: int, case: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """One NaN and one infinity."""
    images = drawn(seed, case, "images", shape)
    images[0, 0, 0, 0], images[-1, -1, -1, -1] = np.nan, np.inf
    return images


def _single_layers(c: int) -> Iterator[tuple[str, Layer]]:
    yield "relu", ReLU()
    yield "convolution-1x1", Convolution("conv", c, 2 * c, 1)
    yield "convolution-3x3", Convolution("conv", c, 2 * c, 3, 1, 1)
    yield "convolution-3x3-stride2", Convolution("conv", c, 2 * c, 3, 2, 1)
    for kernel in (3, 5):
        for stride in (1, 2):
            label = f"{kernel}x{kernel}-stride{stride}"
            yield f"depthwise-{label}", Convolution("conv", c, c, kernel, stride, kernel // 2, 1, c)
            yield f"dilated-{label}", Convolution("conv", c, c, kernel, stride, kernel - 1, 2, c)
    first, second = Convolution("conv1", c, c // 2, 1, 2), Convolution("conv2", c, c - c // 2, 1, 2)
    yield "shifted-pair", ShiftedPair(first, second)
    yield "norm", Norm("norm", c, False)
    yield "norm-affine", Norm("norm", c, True)
    for kind in ("max", "avg"):
        for stride in (1, 2):
            yield f"pool-{kind}-stride{stride}", Pool(kind, stride)
    yield "halving-max", MaxPool2x2()
    yield "window-average", WindowAverage(3, 2)
    yield "global-average", GlobalAverage()


def layer_cases(seed: int) -> Iterator[Case]:
    """Every layer of `dots_core.search_space.layers` at every number of channels and image size."""
    for c in CHANNELS:
        for label, layer in _single_layers(c):
            for size in SIZES:
                if isinstance(layer, WindowAverage) and min(size) < layer.kernel:
                    continue
                name = f"layers/{label}/c{c}-{size[0]}x{size[1]}"
                yield _case(name, seed, ((layer,),), c, size, quick=c == 4 and size in ((3, 3), (7, 9), (8, 8)))
    yield _case("layers/linear/c16", seed, ((GlobalAverage(), Linear("linear", 16, 10)),), 16, (3, 3), quick=True)
    unusual: tuple[tuple[str, Images, bool], ...] = (
        ("badly-scaled", _badly_scaled, False),
        ("tied", _tied, True),
        ("not-finite", _not_finite, True),
    )
    for label, layer in _single_layers(4):
        for kind, images, exact in unusual:
            name = f"layers/{label}/{kind}"
            yield _case(name, seed, ((layer,),), 4, (8, 8), images, exact, quick=kind != "tied")


def operation_cases(seed: int) -> Iterator[Case]:
    """Every operation of the search space, stacked for several edges, in supernets and in derived networks."""
    c = 4
    for operation in OPERATIONS.names:
        for stride in (1, 2):
            if operation == NONE or not OPERATIONS[operation].layers("", c, stride, False, True):
                continue
            for place, derived in (("supernet", False), ("derived", True)):
                width = 1 if derived else WIDTH
                sequences = tuple(
                    OPERATIONS[operation].layers(f"edge{e}", c, stride, derived, not derived) for e in range(width)
                )
                for size in SIZES:
                    name = f"operations/{operation}-stride{stride}/{place}-{size[0]}x{size[1]}"
                    yield _case(name, seed, sequences, c, size, quick=not derived and size == (7, 9))
            stacked = tuple(OPERATIONS[operation].layers(f"edge{e}", c, stride, False, True) for e in range(WIDTH))
            first = next((layer for layer in stacked[0] if isinstance(layer, (Convolution, ShiftedPair))), None)
            if isinstance(first, Convolution) and first.kernel > 1:
                # A 1×1 convolution of a constant image has, before a batch norm, no gradient but rounding.
                name = f"operations/{operation}-stride{stride}/badly-scaled"
                yield _case(name, seed, stacked, c, (8, 8), _badly_scaled)


def _case(
    name: str,
    seed: int,
    sequences: tuple[tuple[Layer, ...], ...],
    channels: int,
    size: Size,
    images: Images = _normal,
    exact: bool = False,
    quick: bool = False,
) -> Case:
    def record(engine: Engine, runtime: Runtime) -> Recording:
        stacker = Stacker()
        stacker.stack(sequences)
        weights = drawn_arrays(seed, name, stacker.weights.shapes)
        x = images(seed, name, (SAMPLES, channels, *size))
        upstream = drawn(seed, name, "upstream", output_shape(sequences, SAMPLES, channels, size))
        found = engine.run_layers(sequences, weights, x, upstream, runtime)
        if not np.isfinite(x).all():
            # What differentiates at a NaN is nobody's concern; that one is not swallowed is.
            found = {"output": found["output"]}
        return Recording(found)

    return Case(name, record, quick, exact)
