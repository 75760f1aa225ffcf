"""The reference engine against definitions written out once more, number by number.

Nothing here is shared with the engine but the descriptions of networks: convolution, pools,
batch norm and softmax are nested loops, the cell follows the papers' formula edge by edge,
the update rules work on single numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import combinations, product
from typing import Any

import numpy as np
import pytest
from dots_conformance.networks import derived_spec, drawn_batch, drawn_weights, operation_spec, topology_spec
from dots_reference.engine import engine as reference
from dots_reference.layers import ForwardContext, sequence
from dots_reference.loss import cross_entropy
from numpy.typing import NDArray

from dots_core.engine.batch import Batch
from dots_core.engine.protocol import Loss, Optimizers, Rates, Runtime, Setup
from dots_core.network.initialisation import initial_architecture
from dots_core.network.spec import CellLayout, NetworkSpec, auxiliary_layers, cell_layouts, head_layers, stem_layers
from dots_core.network.spec import edge_layers as layers_of_edge
from dots_core.search_space.cell import CellSpec
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
)
from dots_core.search_space.mixing import Temperature
from dots_core.search_space.operations import NONE
from dots_core.search_space.topology import Topology

Array = NDArray[Any]
Weights = Mapping[str, Array]


def assert_near(found: Array, expected: Any, rtol: float, atol: float = 0.0) -> None:
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=atol)


# The definitions


def pixel(image: Array, y: int, x: int) -> float:
    """A pixel of (H, W), 0 beyond the border."""
    inside = 0 <= y < image.shape[0] and 0 <= x < image.shape[1]
    return float(image[y, x]) if inside else 0.0


def literal_convolution(x: Array, weight: Array, layer: Convolution) -> Array:
    span = layer.dilation * (layer.kernel - 1) + 1
    height, width = ((s + 2 * layer.padding - span) // layer.stride + 1 for s in x.shape[2:])
    per_group_in, per_group_out = layer.inputs // layer.groups, layer.outputs // layer.groups
    out = np.zeros((len(x), layer.outputs, height, width))
    for n, o, y, z in product(range(len(x)), range(layer.outputs), range(height), range(width)):
        total = 0.0
        for c, i, j in product(range(per_group_in), range(layer.kernel), range(layer.kernel)):
            row = y * layer.stride - layer.padding + i * layer.dilation
            column = z * layer.stride - layer.padding + j * layer.dilation
            total += float(weight[o, c, i, j]) * pixel(x[n, o // per_group_out * per_group_in + c], row, column)
        out[n, o, y, z] = total
    return out


def literal_shifted_pair(x: Array, layer: ShiftedPair, weights: Weights) -> Array:
    height, width = (math.ceil(s / 2) for s in x.shape[2:])
    out = np.zeros((len(x), layer.first.outputs + layer.second.outputs, height, width))
    for n, y, z in product(range(len(x)), range(height), range(width)):
        for o in range(layer.first.outputs):
            row = weights[f"{layer.first.name}.weight"][o]
            out[n, o, y, z] = sum(row[c, 0, 0] * pixel(x[n, c], 2 * y, 2 * z) for c in range(x.shape[1]))
        for o in range(layer.second.outputs):
            row = weights[f"{layer.second.name}.weight"][o]
            out[n, layer.first.outputs + o, y, z] = sum(
                row[c, 0, 0] * pixel(x[n, c], 2 * y + 1, 2 * z + 1) for c in range(x.shape[1])
            )
    return out


def literal_pool(x: Array, kernel: int, stride: int, padding: int, reduce: Callable[[list[float]], float]) -> Array:
    height, width = ((s + 2 * padding - kernel) // stride + 1 for s in x.shape[2:])
    out = np.zeros((*x.shape[:2], height, width))
    for n, c, y, z in product(*(range(s) for s in out.shape)):
        seen = []
        for i, j in product(range(kernel), range(kernel)):
            row, column = y * stride - padding + i, z * stride - padding + j
            if 0 <= row < x.shape[2] and 0 <= column < x.shape[3]:
                seen.append(float(x[n, c, row, column]))
        out[n, c, y, z] = reduce(seen)
    return out


def mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)


def literal_moments(x: Array, channel: int) -> tuple[float, float, int]:
    """Mean, biased variance and number of values of a channel."""
    values = [float(v) for v in x[:, channel].ravel()]
    centre = mean(values)
    return centre, mean([(v - centre) ** 2 for v in values]), len(values)


def literal_norm(x: Array, layer: Norm, weights: Weights) -> Array:
    out = np.zeros(x.shape)
    for c in range(x.shape[1]):
        centre, variance, _ = literal_moments(x, c)
        scale = float(weights[f"{layer.name}.weight"][c]) if layer.affine else 1.0
        shift = float(weights[f"{layer.name}.bias"][c]) if layer.affine else 0.0
        out[:, c] = (x[:, c] - centre) / math.sqrt(variance + 1e-5) * scale + shift
    return out


def literal_layer(layer: Layer, x: Array, weights: Weights) -> Array:
    if isinstance(layer, ReLU):
        return np.array([v if v > 0 else 0.0 for v in x.ravel()]).reshape(x.shape)
    if isinstance(layer, Convolution):
        return literal_convolution(x, weights[f"{layer.name}.weight"], layer)
    if isinstance(layer, ShiftedPair):
        return literal_shifted_pair(x, layer, weights)
    if isinstance(layer, Norm):
        return literal_norm(x, layer, weights)
    if isinstance(layer, Pool):
        return literal_pool(x, 3, layer.stride, 1, max if layer.kind == "max" else mean)
    if isinstance(layer, WindowAverage):
        return literal_pool(x, layer.kernel, layer.stride, 0, mean)
    if isinstance(layer, GlobalAverage):
        return np.array([[mean([float(v) for v in channel.ravel()]) for channel in image] for image in x])
    weight, bias = weights[f"{layer.name}.weight"], weights[f"{layer.name}.bias"]
    return np.array(
        [[float(np.dot(row, image)) + float(b) for row, b in zip(weight, bias, strict=True)] for image in x]
    )


def literal_layers(layers: tuple[Layer, ...], x: Array, weights: Weights) -> Array:
    for layer in layers:
        x = literal_layer(layer, x, weights)
    return x


def literal_softmax(values: list[float], temperature: float) -> list[float]:
    powers = [math.exp(v / temperature) for v in values]
    return [power / sum(powers) for power in powers]


def literal_alpha(cell: CellSpec, logits: Array, temperature: float) -> dict[tuple[int, str], float]:
    alpha = {}
    for number, edge in enumerate(cell.edges):
        for group in edge.groups:
            weights = literal_softmax([float(logits[number, cell.column(o)]) for o in group], temperature)
            alpha.update({(number, o): weight for o, weight in zip(group, weights, strict=True)})
    return alpha


def literal_gamma(cell: CellSpec, logits: Array, temperature: float) -> list[float]:
    """γ(e) = Σ over the combinations c that hold e of β(c)/N(c), or of β(c) if the space is not scaled."""
    gamma = [0.0] * len(cell.edges)
    topology, place = cell.topology, 0
    for node in range(2, cell.nodes + 2):
        incoming = cell.incoming(node)
        sizes = range(1, len(incoming) + 1)
        if topology.space == "k-edges":
            sizes = [min(topology.edges_per_node, len(incoming))]
        chosen = [c for size in sizes for c in combinations(incoming, size)]
        beta = literal_softmax([float(v) for v in logits[place : place + len(chosen)]], temperature)
        place += len(chosen)
        for combination, weight in zip(chosen, beta, strict=True):
            for edge in combination:
                gamma[edge] += weight / len(combination) if topology.scaled else weight
    assert place == len(logits)
    return gamma


def literal_cell(
    spec: NetworkSpec,
    layout: CellLayout,
    inputs: tuple[Array, Array],
    weights: Weights,
    architecture: Weights,
    temperature: Temperature,
    batch: Batch,
) -> Array:
    cell = spec.cell(layout.kind)
    alpha, gamma = {}, [1.0] * len(cell.edges)
    if cell.mixed:
        alpha = literal_alpha(cell, architecture[f"alpha.{layout.kind}"], temperature.alpha)
    if cell.topology.space != "none":
        gamma = literal_gamma(cell, architecture[f"beta.{layout.kind}"], temperature.beta)
    nodes = [literal_layers(layout.preprocess(n, spec.affine), inputs[n], weights) for n in (0, 1)]
    for node in range(2, cell.nodes + 2):
        parts = []
        for number in cell.incoming(node):
            edge = cell.edges[number]
            for operation in edge.operations:
                if operation == NONE:
                    continue
                layers = layers_of_edge(spec, layout, number, operation)
                part = gamma[number] * alpha.get((number, operation), 1.0)
                output = part * literal_layers(layers, nodes[edge.source], weights)
                if batch.drop_path is not None:
                    for sample in range(len(output)):
                        output[sample] *= batch.drop_path[layout.index, number, sample]
                parts.append(output)
        nodes.append(sum(parts[1:], start=parts[0]))
    return np.concatenate([nodes[node] for node in cell.concat], axis=1)


def literal_network(
    spec: NetworkSpec, weights: Weights, architecture: Weights, temperature: Temperature, batch: Batch
) -> tuple[Array, Array | None]:
    """Logits and the auxiliary head's."""
    outputs = [batch.images.astype(np.float64)]
    for layers in stem_layers(spec):
        outputs.append(literal_layers(layers, outputs[-1], weights))
    before, last = (outputs[-1], outputs[-1]) if len(outputs) == 2 else (outputs[-2], outputs[-1])
    auxiliary_logits = None
    for layout in cell_layouts(spec):
        output = literal_cell(spec, layout, (before, last), weights, architecture, temperature, batch)
        before, last = last, output
        auxiliary = auxiliary_layers(spec)
        if auxiliary is not None and layout.index == auxiliary[0]:
            auxiliary_logits = literal_layers(auxiliary[1], last, weights)
    return literal_layers(head_layers(spec), last, weights), auxiliary_logits


def literal_cross_entropy(logits: Array, labels: Array, smoothing: float) -> list[float]:
    losses = []
    for row, label in zip(logits, labels, strict=True):
        probabilities = literal_softmax([float(v) for v in row], 1.0)
        target = [smoothing / len(row) + (1.0 - smoothing if k == label else 0.0) for k in range(len(row))]
        losses.append(-math.fsum(t * math.log(p) for t, p in zip(target, probabilities, strict=True)))
    return losses


# Primitives


PRIMITIVES: dict[str, Layer] = {
    "relu": ReLU(),
    "dense 3x3": Convolution("c", 4, 3, 3, 1, 1),
    "dense 3x3, stride 2": Convolution("c", 4, 3, 3, 2, 1),
    "dense 2x2, padding 1": Convolution("c", 4, 3, 2, 1, 1),
    "pointwise": Convolution("c", 4, 6, 1),
    "pointwise, stride 2": Convolution("c", 4, 6, 1, 2),
    "depthwise 3x3": Convolution("c", 4, 4, 3, 1, 1, groups=4),
    "depthwise 5x5, stride 2": Convolution("c", 4, 4, 5, 2, 2, groups=4),
    "depthwise 3x3, dilated": Convolution("c", 4, 4, 3, 1, 2, 2, 4),
    "depthwise 5x5, dilated, stride 2": Convolution("c", 4, 4, 5, 2, 4, 2, 4),
    "depthwise, two outputs a channel": Convolution("c", 4, 8, 3, 1, 1, groups=4),
    "two groups": Convolution("c", 4, 6, 3, 1, 1, groups=2),
    "shifted pair": ShiftedPair(Convolution("a", 4, 2, 1, 2), Convolution("b", 4, 3, 1, 2)),
    "norm": Norm("n", 4, False),
    "affine norm": Norm("n", 4, True),
    "max pool": Pool("max", 1),
    "max pool, stride 2": Pool("max", 2),
    "average pool": Pool("avg", 1),
    "average pool, stride 2": Pool("avg", 2),
    "window average": WindowAverage(1, 1),
    "global average": GlobalAverage(),
}


def primitive_weights(layer: Layer) -> dict[str, Array]:
    random = np.random.default_rng(1)
    if isinstance(layer, Convolution):
        return {f"{layer.name}.weight": random.standard_normal(layer.weight_shape)}
    if isinstance(layer, ShiftedPair):
        return {**primitive_weights(layer.first), **primitive_weights(layer.second)}
    if isinstance(layer, Norm) and layer.affine:
        return {f"{layer.name}.{part}": random.standard_normal(layer.channels) for part in ("weight", "bias")}
    return {}


@pytest.mark.parametrize("size", [(1, 1), (3, 3), (7, 9), (8, 8)])
@pytest.mark.parametrize("name", PRIMITIVES)
def test_primitive(name: str, size: tuple[int, int]) -> None:
    layer = PRIMITIVES[name]
    x, weights = np.random.default_rng(0).standard_normal((2, 4, *size)), primitive_weights(layer)
    found, _ = sequence((layer,), x, ForwardContext(weights, {}, training=True))
    expected = literal_layer(layer, x, weights)
    assert found.shape == expected.shape
    assert_near(found, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(("kernel", "stride"), [(5, 3), (5, 2), (2, 3)])
def test_window_average(kernel: int, stride: int) -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 9))
    layer = WindowAverage(kernel, stride)
    found, _ = sequence((layer,), x, ForwardContext({}, {}, training=True))
    assert_near(found, literal_layer(layer, x, {}), rtol=1e-12, atol=1e-14)


def test_linear() -> None:
    random = np.random.default_rng(0)
    x, layer = random.standard_normal((3, 5)), Linear("l", 5, 2)
    weights = {"l.weight": random.standard_normal((2, 5)), "l.bias": random.standard_normal(2)}
    found, _ = sequence((layer,), x, ForwardContext(weights, {}, training=True))
    assert_near(found, literal_layer(layer, x, weights), rtol=1e-13)


@pytest.mark.parametrize("name", PRIMITIVES)
def test_primitive_stays_in_float32(name: str) -> None:
    layer = PRIMITIVES[name]
    x = np.random.default_rng(0).standard_normal((2, 4, 7, 9)).astype(np.float32)
    run = ForwardContext(
        {key: value.astype(np.float32) for key, value in primitive_weights(layer).items()}, {}, training=True
    )
    y, pull = sequence((layer,), x, run)
    moments = [array for pair in run.moments.values() for array in pair]
    arrays = [y, pull(np.ones_like(y)), *run.gradients.values(), *moments]
    assert {array.dtype for array in arrays} == {np.dtype(np.float32)}


@pytest.mark.parametrize("kind", ["max", "avg"])
def test_pools_pass_on_what_is_not_a_number(kind: str) -> None:
    x = np.zeros((1, 1, 5, 5))
    x[0, 0, 0, 0] = np.nan
    y, _ = sequence((Pool(kind, 1),), x, ForwardContext({}, {}, training=True))
    expected = np.zeros((5, 5), bool)
    expected[:2, :2] = True
    assert np.array_equal(np.isnan(y[0, 0]), expected)


def test_norm_of_a_badly_scaled_input() -> None:
    # E[x²] − E[x]² would have lost every digit in float32.
    x = (100 + 0.01 * np.random.default_rng(0).standard_normal((4, 2, 8, 8))).astype(np.float32)
    layer = Norm("n", 2, False)
    found, _ = sequence((layer,), x, ForwardContext({}, {}, training=True))
    expected = literal_norm(x.astype(np.float64), layer, {})
    assert np.linalg.norm(found - expected) < 2e-3 * np.linalg.norm(expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy(smoothing: float) -> None:
    logits, labels = np.random.default_rng(0).standard_normal((5, 7)), np.array([0, 6, 3, 3, 1])
    found, _ = cross_entropy(logits, labels, smoothing)
    assert_near(found, literal_cross_entropy(logits, labels, smoothing), rtol=1e-13)


def test_cross_entropy_of_large_logits() -> None:
    found, gradient = cross_entropy(np.array([[1e4, 0.0], [0.0, 1e4]]), np.array([0, 0]))
    assert np.array_equal(found, [0.0, 1e4])
    assert np.array_equal(gradient, [[0.0, 0.0], [-1.0, 1.0]])


# Networks


NETWORKS = {
    "operations": (operation_spec("group-v2", channels=2, input_shape=(2, 6, 6)), Temperature(0.5), 0.0),
    "pairs": (topology_spec(Topology("k-edges", 2), nodes=3, channels=2), Temperature(0.3, 2.0), 0.0),
    "arbitrary": (topology_spec(Topology("arbitrary"), nodes=3, channels=2), Temperature(2.0, 0.5), 0.0),
    "unscaled": (topology_spec(Topology("arbitrary", scaled=False), channels=2), Temperature(1.0, 0.5), 0.2),
    "derived": (derived_spec(channels=2), Temperature(), 0.3),
    "imagenet": (
        topology_spec(
            Topology("k-edges", 1), channels=2, stem="imagenet", input_shape=(1, 20, 28), head_norm=True
        ),
        Temperature(0.5, 0.5),
        0.0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_network(name: str) -> None:
    spec, temperature, drop_path = NETWORKS[name]
    weights, architecture = drawn_weights(spec), initial_architecture(spec, 0, scale=0.5)
    setup = Setup(spec, loss=Loss(0.1, 0.4), runtime=Runtime(precision="float64"))
    batch = drawn_batch(spec, samples=3, drop_path=drop_path)
    found = reference.build(setup, weights, architecture).gradients(batch, temperature)
    doubles = {key: value.astype(np.float64) for key, value in weights.items()}
    logits, auxiliary_logits = literal_network(spec, doubles, architecture, temperature, batch)
    assert_near(found["logits"], logits, rtol=1e-9, atol=1e-10)
    loss = mean(literal_cross_entropy(logits, batch.labels, 0.1))
    assert ("auxiliary_logits" in found) == (auxiliary_logits is not None)
    if auxiliary_logits is not None:
        assert_near(found["auxiliary_logits"], auxiliary_logits, rtol=1e-9, atol=1e-10)
        loss += 0.4 * mean(literal_cross_entropy(auxiliary_logits, batch.labels, 0.1))
    assert found["loss"].item() == pytest.approx(loss, rel=1e-11)


# State


SMALL = operation_spec(
    operations=("none", "skip_connect", "max_pool_3x3", "dil_conv_3x3"), topology=Topology("k-edges", 1), channels=2
)


def test_running_statistics() -> None:
    network = reference.build(
        Setup(SMALL, runtime=Runtime(precision="float64")), drawn_weights(SMALL), initial_architecture(SMALL, 0)
    )
    means, variances = np.zeros(6), np.ones(6)
    for number in range(2):
        batch = drawn_batch(SMALL, number)
        stem = stem_layers(SMALL)[0][0]
        assert isinstance(stem, Convolution)
        seen = literal_convolution(batch.images, drawn_weights(SMALL)["stem.conv.weight"], stem)
        for channel in range(6):
            centre, variance, count = literal_moments(seen, channel)
            means[channel] = 0.9 * means[channel] + 0.1 * centre
            variances[channel] = 0.9 * variances[channel] + 0.1 * variance * count / (count - 1)
        network.step((), batch, Rates(), Temperature())
    state = network.export_state()
    assert_near(state["statistics/stem.norm.running_mean"], means, rtol=1e-10, atol=1e-12)
    assert_near(state["statistics/stem.norm.running_var"], variances, rtol=1e-10)


def test_evaluation_normalises_with_the_running_statistics() -> None:
    layer = Norm("n", 2, True)
    arrays = {"weight": [2.0, 3.0], "bias": [0.5, -0.5]}, {"running_mean": [1.0, -1.0], "running_var": [4.0, 0.25]}
    weights, statistics = ({f"n.{key}": np.array(value) for key, value in each.items()} for each in arrays)
    x = np.random.default_rng(0).standard_normal((3, 2, 2, 2))
    y, _ = sequence((layer,), x, ForwardContext(weights, statistics, training=False))
    for n, i, j in product(range(3), range(2), range(2)):
        assert y[n, 0, i, j] == pytest.approx((x[n, 0, i, j] - 1.0) / math.sqrt(4.0 + 1e-5) * 2.0 + 0.5)
        assert y[n, 1, i, j] == pytest.approx((x[n, 1, i, j] + 1.0) / math.sqrt(0.25 + 1e-5) * 3.0 - 0.5)


@pytest.mark.parametrize(("clip", "architecture_clip"), [(0.0, 0.0), (0.3, 1e-3), (100.0, 100.0)])
def test_three_steps_of_both_optimisers(clip: float, architecture_clip: float) -> None:
    optimizers = Optimizers(
        clip=clip,
        weight_decay=0.01,
        epsilon=1e-3,
        architecture_weight_decay=0.02,
        architecture_clip=architecture_clip,
    )
    network = reference.build(
        Setup(SMALL, optimizers, runtime=Runtime(precision="float64")),
        drawn_weights(SMALL),
        initial_architecture(SMALL, 0, scale=0.5),
    )
    values = {
        key.partition("/")[2]: [float(v) for v in array.ravel()]
        for key, array in network.export_state().items()
        if key.startswith(("weights/", "architecture/"))
    }
    first = {name: [0.0] * len(value) for name, value in values.items()}
    second = {name: [0.0] * len(value) for name, value in values.items()}
    for step in (1, 2, 3):
        batch, temperature = drawn_batch(SMALL, step), Temperature(0.5, 2.0)
        raw = network.gradients(batch, temperature)
        gradients = {name: [float(v) for v in raw[f"gradient/{name}"].ravel()] for name in values}
        network.step(("w", "alpha", "beta"), batch, Rates(0.1, 0.03), temperature)

        searched = [name for name in values if name.startswith(("alpha.", "beta."))]
        norm = math.sqrt(math.fsum(g * g for n, each in gradients.items() if n not in searched for g in each))
        scale = min(1.0, clip / (norm + 1e-6)) if clip else 1.0
        assert (scale < 1.0) == (clip == 0.3)
        norm = math.sqrt(math.fsum(g * g for n in searched for g in gradients[n]))
        searched_scale = min(1.0, architecture_clip / (norm + 1e-6)) if architecture_clip else 1.0
        assert (searched_scale < 1.0) == (architecture_clip == 1e-3)
        for name, value in values.items():
            for k, gradient in enumerate(gradients[name]):
                if name in searched:
                    g = searched_scale * gradient + 0.02 * value[k]
                    first[name][k] = 0.5 * first[name][k] + 0.5 * g
                    second[name][k] = 0.999 * second[name][k] + 0.001 * g * g
                    corrected = first[name][k] / (1 - 0.5**step), second[name][k] / (1 - 0.999**step)
                    value[k] -= 0.03 * corrected[0] / (math.sqrt(corrected[1]) + 1e-3)
                else:
                    first[name][k] = 0.9 * first[name][k] + scale * gradient + 0.01 * value[k]
                    value[k] -= 0.1 * first[name][k]

    state = network.export_state()
    for name, value in values.items():
        if name.startswith(("alpha.", "beta.")):
            expected = {"architecture": value, "adam.first": first[name], "adam.second": second[name]}
            assert state[f"adam.steps/{name}"] == 3
        else:
            expected = {"weights": value, "momentum": first[name]}
        for sort, numbers in expected.items():
            assert_near(state[f"{sort}/{name}"].ravel(), numbers, rtol=1e-9, atol=1e-12)
