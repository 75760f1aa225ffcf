"""Every gradient of the reference engine against central differences, in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from dots_conformance.networks import derived_spec, drawn_batch, drawn_weights, operation_spec, topology_spec
from dots_reference.engine import engine as reference
from dots_reference.layers import ForwardContext, sequence
from dots_reference.loss import cross_entropy
from dots_reference.windows import Array
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dots_core.engine.protocol import Loss, Runtime, Setup
from dots_core.network.initialisation import initial_architecture
from dots_core.network.spec import NetworkSpec
from dots_core.search_space.layers import (
    Convolution,
    GlobalAverage,
    Layer,
    Linear,
    Norm,
    Pool,
    ReLU,
    ShiftedPair,
    WindowAverage,
    factorized_reduce,
)
from dots_core.search_space.mixing import Temperature
from dots_core.search_space.operations import DARTS, NONE, OPERATIONS
from dots_core.search_space.topology import Topology

SIZES = ((1, 1), (3, 3), (7, 9), (8, 8))


def assert_gradient(
    function: Callable[[Array], float], x: Array, gradient: Array, random: np.random.Generator, step: float = 1e-6
) -> None:
    """Assert that a function's slope at x, in a random direction, is the gradient's."""
    assert gradient.shape == x.shape
    direction = random.standard_normal(x.shape)
    direction /= np.linalg.norm(direction)
    slope = (function(x + step * direction) - function(x - step * direction)) / (2 * step)
    expected = float(np.vdot(gradient, direction))
    # The difference of two values of order 1 is known to 1e-16 / step.
    assert abs(slope - expected) <= 1e-6 * float(np.linalg.norm(gradient)) + 2e-8


def spread(random: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Numbers in [−2, 2] far from each other and from 0, so that no small step passes a kink."""
    count = int(np.prod(shape))
    return ((random.permutation(count) + 0.25) / count * 4 - 2).reshape(shape)


def weights_of(layers: tuple[Layer, ...], random: np.random.Generator) -> dict[str, Array]:
    """Random weights for layers."""
    weights: dict[str, Array] = {}
    for layer in layers:
        if isinstance(layer, Convolution):
            weights[f"{layer.name}.weight"] = random.standard_normal(layer.weight_shape)
        elif isinstance(layer, ShiftedPair):
            weights.update(weights_of((layer.first, layer.second), random))
        elif isinstance(layer, Linear):
            weights[f"{layer.name}.weight"] = random.standard_normal((layer.outputs, layer.inputs))
            weights[f"{layer.name}.bias"] = random.standard_normal(layer.outputs)
        elif isinstance(layer, Norm) and layer.affine:
            weights[f"{layer.name}.weight"] = random.standard_normal(layer.channels)
            weights[f"{layer.name}.bias"] = random.standard_normal(layer.channels)
    return weights


def assert_layer_gradients(layers: tuple[Layer, ...], x: Array, random: np.random.Generator) -> None:
    """Check the gradients of a random functional of the layers' output: of the input and of every weight."""
    weights = weights_of(layers, random)
    run = ForwardContext(weights, {}, training=True)
    y, pull = sequence(layers, x, run)
    upstream = random.standard_normal(y.shape) / np.sqrt(y.size)
    dx = pull(upstream)
    assert set(run.gradients) == set(weights)

    def value(x: Array, changed: dict[str, Array]) -> float:
        return float(
            np.vdot(upstream, sequence(layers, x, ForwardContext({**weights, **changed}, {}, training=True))[0])
        )

    assert_gradient(lambda point: value(point, {}), x, dx, random)
    for name, weight in weights.items():
        assert_gradient(lambda point, name=name: value(x, {name: point}), weight, run.gradients[name], random)


@st.composite
def convolutions(draw: st.DrawFn) -> Convolution:
    groups = draw(st.sampled_from([1, 2, 4]))
    outputs = draw(st.sampled_from([4, 8]))
    kernel = draw(st.sampled_from([1, 2, 3, 5]))
    dilation = draw(st.sampled_from([1, 2]))
    # Wide enough that the window fits into an image of one pixel.
    least = dilation * (kernel - 1) // 2 + (dilation * (kernel - 1)) % 2
    padding = draw(st.integers(least, least + 1))
    return Convolution("c", 4, outputs, kernel, draw(st.sampled_from([1, 2, 3])), padding, dilation, groups)


single_layers = st.one_of(
    convolutions(),
    st.just(ReLU()),
    st.builds(ShiftedPair, st.just(Convolution("a", 4, 2, 1, 2)), st.just(Convolution("b", 4, 3, 1, 2))),
    st.builds(Norm, st.just("n"), st.just(4), st.booleans()),
    st.builds(Pool, st.sampled_from(["max", "avg"]), st.sampled_from([1, 2])),
    st.just(GlobalAverage()),
)


@given(single_layers, st.sampled_from(SIZES), st.integers(0, 2**32 - 1))
@settings(max_examples=150, deadline=None)
def test_layers(layer: Layer, size: tuple[int, int], seed: int) -> None:
    random = np.random.default_rng(seed)
    assert_layer_gradients((layer,), spread(random, (3, 4, *size)), random)


@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (2, 1), (5, 3), (5, 2), (4, 3)])
@pytest.mark.parametrize("size", [(5, 5), (7, 9), (8, 8)])
def test_window_average(kernel: int, stride: int, size: tuple[int, int]) -> None:
    random = np.random.default_rng(0)
    assert_layer_gradients((WindowAverage(kernel, stride),), spread(random, (2, 3, *size)), random)


def test_linear() -> None:
    random = np.random.default_rng(0)
    assert_layer_gradients((Linear("l", 5, 3),), random.standard_normal((4, 5)), random)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(3, 3), (7, 9)])
@pytest.mark.parametrize("operation", [operation for operation in DARTS if operation != NONE])
def test_operations(operation: str, size: tuple[int, int], stride: int, affine: bool) -> None:
    random = np.random.default_rng(1)
    layers = OPERATIONS[operation].layers("o", 4, stride, affine, pool_norm=True)
    assert_layer_gradients(layers, spread(random, (3, 4, *size)), random)


def test_factorized_reduce_of_other_widths() -> None:
    random = np.random.default_rng(2)
    assert_layer_gradients(factorized_reduce("f", 3, 6, True), spread(random, (2, 3, 7, 9)), random)


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.1, 1.0]), st.integers(1, 4), st.integers(2, 6))
@settings(max_examples=40, deadline=None)
def test_cross_entropy(seed: int, smoothing: float, samples: int, classes: int) -> None:
    random = np.random.default_rng(seed)
    logits, labels = 3 * random.standard_normal((samples, classes)), random.integers(0, classes, samples)
    _, gradient = cross_entropy(logits, labels, smoothing)
    assert_gradient(lambda point: cross_entropy(point, labels, smoothing)[0].sum(), logits, gradient, random)


def test_maxima_that_tie() -> None:
    x = np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0], [0.0, 1.0, 1.0]])[None, None]
    y, pull = sequence((Pool("max", 2),), x, ForwardContext({}, {}, training=True))
    assert y.shape == (1, 1, 2, 2)
    # Row by row: the window of (0, 0) first meets (0, 1), that of (0, 1) too, that of (1, 0) meets (1, 0).
    expected = np.array([[0.0, 3.0, 0.0], [4.0, 0.0, 8.0], [0.0, 0.0, 0.0]])
    assert np.array_equal(pull(np.array([[1.0, 2.0], [4.0, 8.0]])[None, None])[0, 0], expected)


def test_relu_at_zero() -> None:
    y, pull = sequence((ReLU(),), np.array([-1.0, 0.0, 1.0]), ForwardContext({}, {}, training=True))
    assert np.array_equal(y, [0.0, 0.0, 1.0])
    assert np.array_equal(pull(np.ones(3)), [0.0, 0.0, 1.0])


# Whole networks


def doubles(point: NDArray[Any], gradient: NDArray[Any]) -> tuple[Array, Array]:
    """Both in float64, which the gradient must be in already."""
    assert gradient.dtype == np.float64
    return point.astype(np.float64), gradient


def assert_network_gradients(
    spec: NetworkSpec,
    temperature: Temperature,
    loss: Loss | None = None,
    drop_path: float = 0.0,
    sorts: tuple[str, ...] = ("",),
) -> None:
    """Check the gradients of images, architecture weights, and of the first two weights of each sort.

    A sort is a part of the weight's name.
    """
    random = np.random.default_rng(3)
    setup = Setup(spec, loss=loss or Loss(), runtime=Runtime(precision="float64"))
    network = reference.build(setup, drawn_weights(spec), initial_architecture(spec, 0, scale=0.5))
    batch = drawn_batch(spec, samples=3, drop_path=drop_path)
    state = network.export_state()
    found = network.gradients(batch, temperature)

    def at_images(point: Array) -> float:
        # Held in float64, which an engine takes too: steps of a difference are below float32's resolution.
        return network.gradients(replace(batch, images=point), temperature)["loss"].item()

    def at_state(key: str) -> Callable[[Array], float]:
        def value(point: Array) -> float:
            network.import_state({**state, key: point})
            return network.gradients(batch, temperature)["loss"].item()

        return value

    assert_gradient(at_images, *doubles(batch.images, found["gradient/images"]), random)
    weights = [key.removeprefix("weights/") for key in state if key.startswith("weights/")]
    chosen = {name for sort in sorts for name in [n for n in weights if sort in n][:2]}
    keys = [f"weights/{name}" for name in weights if name in chosen]
    keys += [key for key in state if key.startswith("architecture/")]
    for key in keys:
        assert_gradient(at_state(key), *doubles(state[key], found[f"gradient/{key.partition('/')[2]}"]), random)


SUPERNET_SORTS = (
    "stem.conv", "stem.norm.weight", "stem.norm.bias", "cells.0.preprocess", "cells.2.preprocess0",
    "cells.0.edges.0-2", "cells.1.edges.1-2", "cells.2.edges.2-3", "sep_conv_3x3", "sep_conv_5x5",
    "dil_conv_3x3", "dil_conv_5x5", "skip_connect", "classifier.weight", "classifier.bias",
)  # fmt: skip


@pytest.mark.parametrize(
    ("groups", "topology", "temperature"),
    [
        ("single", Topology(), Temperature()),
        ("group-v2", Topology("k-edges", 2), Temperature(0.5, 3.0)),
        ("group-v1", Topology("arbitrary"), Temperature(2.0, 0.4)),
        ("single", Topology("k-edges", 1, scaled=False), Temperature(0.7, 1.5)),
        ("group-v2", Topology("arbitrary", scaled=False), Temperature(1.0, 0.3)),
    ],
    ids=lambda value: value.space if isinstance(value, Topology) else None,
)
def test_supernet(groups: str, topology: Topology, temperature: Temperature) -> None:
    spec = operation_spec(groups, topology=topology, channels=2, input_shape=(1, 6, 6))
    assert_network_gradients(spec, temperature, sorts=SUPERNET_SORTS)


def test_topology_supernet_with_imagenet_stem_and_head_norm() -> None:
    spec = topology_spec(Topology("k-edges", 2), stem="imagenet", input_shape=(2, 28, 36), head_norm=True)
    assert_network_gradients(spec, Temperature(0.5, 2.0), sorts=("stem0", "stem1", "preprocess0", "head.norm"))


def test_three_nodes_of_retained_operations() -> None:
    spec = topology_spec(Topology("k-edges", 2), nodes=3, channels=2)
    assert_network_gradients(spec, Temperature(0.5, 2.0), sorts=("edges.3-4", "edges.0-4"))


def test_two_cells() -> None:
    spec = operation_spec(operations=("skip_connect", "max_pool_3x3", "sep_conv_3x3"), layers=2, channels=2)
    assert_network_gradients(spec, Temperature(), sorts=("stem", "edges"))


def test_derived_network() -> None:
    spec = derived_spec(channels=2)
    assert_network_gradients(
        spec,
        Temperature(),
        Loss(label_smoothing=0.1, auxiliary_weight=0.4),
        drop_path=0.4,
        sorts=(
            "stem",
            "preprocess",
            "cells.0.edges",
            "cells.1.edges",
            "norm.bias",
            "auxiliary",
            "auxiliary.classifier",
        ),
    )
