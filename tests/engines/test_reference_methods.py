"""What search methods add to the reference engine: gradients by central differences, and steps written out by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from dots_conformance.networks import drawn_batch, drawn_weights
from dots_reference.engine import engine as reference
from dots_reference.layers import ForwardContext, sequence
from dots_reference.network import ReferenceNetwork
from numpy.typing import NDArray

from dots_core.engine.batch import Batch
from dots_core.engine.protocol import Optimizers, Rates, Runtime, Setup
from dots_core.network.initialisation import initial_architecture
from dots_core.network.spec import NetworkSpec
from dots_core.plan import gradients
from dots_core.plan.gradients import RADIUS, MixedLevel, SecondOrder
from dots_core.plan.plan import Update
from dots_core.search.regularisation import passive_aggressive
from dots_core.search.sampling import Sampler
from dots_core.search.step import Stepper, StepPosition
from dots_core.search_space.cell import search_cell
from dots_core.search_space.layers import MaxPool2x2
from dots_core.search_space.mixing import Temperature
from dots_core.search_space.topology import Topology

Array = NDArray[Any]

FEW = ("none", "max_pool_3x3", "skip_connect", "dil_conv_3x3")
TWO_GROUPS = (("none", "skip_connect"), ("max_pool_3x3", "dil_conv_3x3"))
ATTENTION = (("dil_conv_3x3", 0.6), ("skip_connect", -0.4))
WARM = Temperature(0.7, 1.6)

TOPOLOGIES = {
    "no topology": Topology(),
    "pairs": Topology("k-edges"),
    "unscaled pairs": Topology("k-edges", scaled=False),
    "arbitrary": Topology("arbitrary"),
    "output pairs": Topology("k-edges", side="output"),
    "output arbitrary": Topology("arbitrary", side="output"),
    "unscaled output": Topology("arbitrary", scaled=False, side="output"),
    "edge softmax": Topology("edge-softmax"),
    "edge sigmoid": Topology("edge-sigmoid"),
}
MIXINGS: dict[str, dict[str, Any]] = {
    "softmax": {},
    "groups": {"groups": TWO_GROUPS},
    "soft Gumbel": {"sampling": "soft", "groups": TWO_GROUPS},
    "attention": {"attention": ATTENTION},
    "partial": {"partial": 2},
    "hard": {"sampling": "hard", "groups": TWO_GROUPS},
}
SMOOTH = [name for name in MIXINGS if name != "hard"]


def supernet(topology: Topology, nodes: int = 3, size: tuple[int, int] = (5, 6), **mixing: Any) -> NetworkSpec:
    """A normal cell and two reduction cells, in a network as small as partial channels allow."""
    cell = search_cell(nodes, FEW, mixing.pop("groups", "single"), topology, **mixing)
    channels = 2 * cell.partial
    return NetworkSpec(cell, cell, 3, channels, 3, (1, *size), stem_multiplier=1)


def built(spec: NetworkSpec, optimizers: Optimizers | None = None) -> ReferenceNetwork:
    setup = Setup(spec, optimizers or Optimizers(), runtime=Runtime(precision="float64"))
    return reference.build(setup, drawn_weights(spec), initial_architecture(spec, 0, scale=0.5))


def drawn(spec: NetworkSpec, network: ReferenceNetwork, seed: int = 0) -> Batch:
    """A batch with the draws of one step."""
    draws = Sampler(spec, seed, "test").draw(network.architecture(), 0, seed)
    return replace(drawn_batch(spec, seed, samples=3), draws=draws)


def slope(function: Callable[[Array], float], x: Array, direction: Array, step: float = 1e-6) -> float:
    return (function(x + step * direction) - function(x - step * direction)) / (2 * step)


def assert_slopes(
    function: Callable[[Array], float], x: Array, gradient: Array, count: int, atol: float = 2e-8
) -> None:
    """Compare slopes in random directions with the gradient's."""
    random = np.random.default_rng(7)
    assert gradient.dtype == np.float64
    for _ in range(count):
        direction = random.standard_normal(x.shape)
        direction /= np.linalg.norm(direction)
        expected = float(np.vdot(gradient, direction))
        tolerance = 1e-6 * float(np.linalg.norm(gradient)) + atol
        assert abs(slope(function, x, direction) - expected) <= tolerance


def loss_at(network: ReferenceNetwork, batch: Batch, key: str, temperature: Temperature) -> Callable[[Array], float]:
    """The training loss as a function of one array of the state; all others stay as they are now."""
    state = network.export_state()

    def value(point: Array) -> float:
        network.import_state({**state, key: point})
        loss = network.gradients(batch, temperature)["loss"].item()
        network.import_state(state)
        return loss

    return value


# Gradients


@pytest.mark.parametrize("mixing", SMOOTH)
@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_architecture_gradients(topology: str, mixing: str) -> None:
    spec = supernet(TOPOLOGIES[topology], **MIXINGS[mixing])
    network = built(spec)
    batch = drawn(spec, network)
    assert (batch.draws is not None) == (mixing == "soft Gumbel")
    found = network.gradients(batch, WARM)
    names = list(network.architecture())
    assert any(name.startswith("beta.") for name in names) == (topology != "no topology")
    for name in names:
        gradient = found[f"gradient/{name}"]
        assert np.linalg.norm(gradient) > 1e-6
        key = f"architecture/{name}"
        assert_slopes(loss_at(network, batch, key, WARM), network.export_state()[key], gradient, 2)


@pytest.mark.parametrize("size", [(4, 4), (5, 7)], ids=["even", "odd"])
@pytest.mark.parametrize("topology", ["no topology", "edge softmax"])
def test_image_and_weight_gradients_with_partial_channels(topology: str, size: tuple[int, int]) -> None:
    """Through the halving of the channels that pass by, at stride 2 and at odd borders."""
    spec = supernet(TOPOLOGIES[topology], nodes=2, size=size, partial=2)
    network = built(spec)
    batch = drawn(spec, network)
    found = network.gradients(batch, WARM)

    def at_images(point: Array) -> float:
        return network.gradients(replace(batch, images=point), WARM)["loss"].item()

    assert_slopes(at_images, batch.images.astype(np.float64), found["gradient/images"], 4)
    state = network.export_state()
    for key in (key for key in state if key.startswith("weights/")):
        gradient = found[f"gradient/{key.partition('/')[2]}"]
        assert_slopes(loss_at(network, batch, key, WARM), state[key], gradient, 1)


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (5, 4), (3, 7)])
def test_halving_takes_the_maximum_of_what_is_there(size: tuple[int, int]) -> None:
    random = np.random.default_rng(0)
    x = random.permutation(2 * 2 * size[0] * size[1]).reshape(2, 2, *size).astype(np.float64)
    y, pull = sequence((MaxPool2x2(),), x, ForwardContext({}, {}, training=True))
    upstream = random.standard_normal(y.shape)
    dx = pull(upstream)
    assert y.shape == (2, 2, -(-size[0] // 2), -(-size[1] // 2))
    expected = np.zeros_like(x)
    for n, c, i, j in np.ndindex(*y.shape):
        seen = {
            (row, column): x[n, c, row, column]
            for row in range(2 * i, min(2 * i + 2, size[0]))
            for column in range(2 * j, min(2 * j + 2, size[1]))
        }
        place = max(seen, key=lambda p: seen[p])
        assert y[n, c, i, j] == seen[place]
        expected[(n, c, *place)] += upstream[n, c, i, j]
    np.testing.assert_array_equal(dx, expected)


def test_a_node_of_partial_channels_is_shuffled() -> None:
    """With every operation the identity, half of each edge passes through it and half by it, then interleaved."""
    cell = search_cell(1, ("skip_connect",), topology=Topology("edge-softmax"), partial=2)
    # Of 3 cells the first is normal.
    spec = NetworkSpec(cell, cell, 3, 4, 3, (1, 4, 4), stem_multiplier=1)
    network = built(spec)
    beta = network.architecture()["beta.normal"]
    weights = np.exp(beta) / np.exp(beta).sum()
    trace = network.gradients(drawn(spec, network), Temperature(), trace=True)
    summed = weights[0] * trace["trace/cells.0.0"] + weights[1] * trace["trace/cells.0.1"]
    # Channel (g, c) of (2, 2) goes to (c, g): 0, 2, 1, 3.
    np.testing.assert_allclose(trace["trace/cells.0.2"], summed[:, [0, 2, 1, 3]], rtol=1e-12)


# Hard samples: the straight-through estimator


class Explicit:
    """A `Mixture` whose α and γ are given, and which takes no gradient back."""

    def __init__(self, alpha: Array, gamma: Array) -> None:
        self.alpha, self.gamma, self.searched = alpha, gamma, False
        self.evaluated = np.ones(alpha.shape, bool)
        self.alpha_gradient, self.gamma_gradient = np.zeros_like(alpha), np.zeros_like(gamma)

    def pull(self) -> dict[str, Array]:
        return {}


def literal_softmax(spec: NetworkSpec, kind: str, logits: Array) -> Array:
    """Softmax of every group of every edge, one number at a time."""
    out = np.zeros_like(logits)
    cell = spec.cell(kind)
    for number, edge in enumerate(cell.edges):
        for group in edge.groups:
            columns = [cell.column(o) for o in group]
            total = sum(np.exp(logits[number, c]) for c in columns)
            for c in columns:
                out[number, c] = np.exp(logits[number, c]) / total
    return out


def loss_of_mixture(network: ReferenceNetwork, batch: Batch, mixtures: Mapping[str, Explicit]) -> float:
    network._mixtures = lambda temperature, batch: mixtures  # type: ignore[method-assign,assignment,return-value]
    loss = network.gradients(batch, WARM)["loss"].item()
    del network._mixtures  # type: ignore[method-assign]
    return float(loss)


@pytest.mark.parametrize("topology", ["no topology", "pairs", "output arbitrary", "edge sigmoid"])
def test_hard_samples_have_the_gradient_of_their_surrogate(topology: str) -> None:
    """Forward one-hot, backward as one_hot + p − stop(p), of the chosen operations only (GDAS)."""
    spec = supernet(TOPOLOGIES[topology], **MIXINGS["hard"])
    network = built(spec)
    batch = drawn(spec, network)
    assert batch.draws is not None
    architecture = network.architecture()
    found = network.gradients(batch, WARM)
    soft = {
        kind: literal_softmax(spec, kind, (architecture[f"alpha.{kind}"] + draw.noise.astype(np.float64)) / WARM.alpha)
        for kind, draw in batch.draws.items()
    }
    gammas = {}
    for kind in spec.kinds():
        cell, mixture = spec.cell(kind), network._mixtures(WARM, batch)[kind]
        assert np.array_equal(mixture.alpha, batch.draws[kind].chosen), "one-hot on the way forward"
        assert mixture.alpha.sum() == len(TWO_GROUPS) * len(cell.edges)
        gammas[kind] = mixture.gamma

    def at_alpha(changed: str) -> Callable[[Array], float]:
        def value(point: Array) -> float:
            mixtures = {}
            for kind, draw in batch.draws.items():  # type: ignore[union-attr]
                assert draw.chosen is not None
                alpha = point if kind == changed else architecture[f"alpha.{kind}"]
                now = literal_softmax(spec, kind, (alpha + draw.noise.astype(np.float64)) / WARM.alpha)
                mixtures[kind] = Explicit(draw.chosen * (1.0 + now - soft[kind]), gammas[kind])
            return loss_of_mixture(network, batch, mixtures)

        return value

    for kind in spec.kinds():
        gradient = found[f"gradient/alpha.{kind}"]
        assert np.linalg.norm(gradient) > 1e-6
        assert at_alpha(kind)(architecture[f"alpha.{kind}"]) == pytest.approx(found["loss"].item(), rel=1e-13)
        assert_slopes(at_alpha(kind), architecture[f"alpha.{kind}"], gradient, 3)
        if topology != "no topology":
            key = f"architecture/beta.{kind}"
            value = loss_at(network, batch, key, WARM)
            assert_slopes(value, network.export_state()[key], found[f"gradient/beta.{kind}"], 3)
    # Operations that were not chosen are not evaluated: their weights have gradient 0.
    idle = 0
    for number, kind in enumerate(("normal", "reduce", "reduce")):
        cell = spec.cell(kind)
        for row, edge in enumerate(cell.edges):
            chosen = batch.draws[kind].chosen
            assert chosen is not None
            if not chosen[row, cell.column("dil_conv_3x3")]:
                idle += 1
                prefix = f"gradient/cells.{number}.edges.{edge.name}.dil_conv_3x3"
                assert all(not value.any() for name, value in found.items() if name.startswith(prefix))
    assert idle > 0


# Levels. Each rule is followed by hand on a second network, with nothing but its gradients.

OPTIMIZERS = Optimizers(
    momentum=0.8, weight_decay=0.02, clip=2.0, betas=(0.5, 0.99), epsilon=1e-4, architecture_weight_decay=0.03
)
RATES = Rates(0.05, 0.02)
POSITION = StepPosition(0, 0, 4)
TOPONAS = supernet(Topology("k-edges", side="output"))


class ByHand:
    """A network stepped by the formulas of `Optimizers`, its gradients taken from the engine one by one."""

    def __init__(self, spec: NetworkSpec) -> None:
        self.network = built(spec, OPTIMIZERS)
        self.state = self.network.export_state()

    def gradients(self, batch: Batch) -> dict[str, Array]:
        """The gradients at the present point, statistics moved by nothing."""
        self.network.import_state(self.state)
        found = self.network.gradients(batch, WARM)
        return {k.removeprefix("gradient/"): v for k, v in found.items() if k.startswith("gradient/")}

    def names(self, group: str) -> list[str]:
        prefix = "weights/" if group == "w" else f"architecture/{group}."
        return [key.partition("/")[2] for key in self.state if key.startswith(prefix)]

    def descend(self, group: str, gradient: Mapping[str, Array]) -> None:
        state, o = self.state, OPTIMIZERS
        names = self.names(group)
        norm = float(np.sqrt(sum(float((gradient[name] ** 2).sum()) for name in names)))
        for name in names:
            g = gradient[name]
            if group == "w":
                g = min(1.0, o.clip / (norm + 1e-6)) * g + o.weight_decay * state[f"weights/{name}"]
                state[f"momentum/{name}"] = o.momentum * state[f"momentum/{name}"] + g
                state[f"weights/{name}"] = state[f"weights/{name}"] - RATES.weights * state[f"momentum/{name}"]
                continue
            value = state[f"architecture/{name}"]
            g = g + o.architecture_weight_decay * value
            steps = int(state[f"adam.steps/{name}"]) + 1
            first = o.betas[0] * state[f"adam.first/{name}"] + (1 - o.betas[0]) * g
            second = o.betas[1] * state[f"adam.second/{name}"] + (1 - o.betas[1]) * g * g
            mean, square = first / (1 - o.betas[0] ** steps), second / (1 - o.betas[1] ** steps)
            state[f"architecture/{name}"] = value - RATES.architecture * mean / (np.sqrt(square) + o.epsilon)
            state[f"adam.first/{name}"], state[f"adam.second/{name}"] = first, second
            state[f"adam.steps/{name}"] = np.asarray(steps)

    def assert_learned_like(self, network: ReferenceNetwork) -> None:
        """Compare everything but the running statistics."""
        for key, value in network.export_state().items():
            if not key.startswith("statistics/"):
                np.testing.assert_allclose(value, self.state[key], rtol=1e-9, atol=1e-12, err_msg=key)


def batches_of(spec: NetworkSpec, update: int, step: int) -> Batch:
    """What an update reads in a step; other updates read other images."""
    return drawn_batch(spec, 10 * step + update, samples=3)


def stepped(spec: NetworkSpec, updates: tuple[Update, ...], steps: int = 2) -> ReferenceNetwork:
    network = built(spec, OPTIMIZERS)
    stepper = Stepper(network, spec, updates, 0, "test")
    for step in range(steps):
        position = StepPosition(0, step, steps)
        rows = stepper.step(lambda n, step=step: batches_of(spec, n, step), RATES, WARM, position)
        assert len(network.pop_losses()) == len(rows)
    return network


def mixed(*parts: tuple[float, Mapping[str, Array]]) -> dict[str, Array]:
    return {name: sum((factor * g[name] for factor, g in parts), np.zeros(())) for name in parts[0][1]}


def test_one_level() -> None:
    """w, α, β on one loss, all gradients at the old point (DOTS eq. 10)."""
    network, hand = stepped(TOPONAS, (Update(("w", "alpha", "beta"), "all"),)), ByHand(TOPONAS)
    for step in range(2):
        gradient = hand.gradients(batches_of(TOPONAS, 0, step))
        for group in ("w", "alpha", "beta"):
            hand.descend(group, gradient)
    hand.assert_learned_like(network)


def test_bi_level_of_first_order() -> None:
    """α and β on the validation half, then w on the training half at the new α and β."""
    updates = (Update(("alpha", "beta"), "half-b"), Update(("w",), "half-a"))
    network, hand = stepped(TOPONAS, updates), ByHand(TOPONAS)
    for step in range(2):
        gradient = hand.gradients(batches_of(TOPONAS, 0, step))
        hand.descend("alpha", gradient)
        hand.descend("beta", gradient)
        hand.descend("w", hand.gradients(batches_of(TOPONAS, 1, step)))
    hand.assert_learned_like(network)


@pytest.mark.parametrize("weight", [0.4, 1.0])
def test_mixed_level(weight: float) -> None:
    """w by ∇L_train, then α by ∇L_train + λ∇L_valα, then β by ∇L_train + λ∇L_valβ (TopoNAS algorithm 1)."""
    updates = (
        Update(("w",), "third-a"),
        Update(("alpha",), "third-b", gradient=MixedLevel(weight)),
        Update(("beta",), "third-c", gradient=MixedLevel(weight)),
    )
    network, hand = stepped(TOPONAS, updates), ByHand(TOPONAS)
    for step in range(2):
        train = batches_of(TOPONAS, 0, step)
        hand.descend("w", hand.gradients(train))
        for number, group in ((1, "alpha"), (2, "beta")):
            own = hand.gradients(batches_of(TOPONAS, number, step))
            hand.descend(group, mixed((1.0, hand.gradients(train)), (weight, own)))
    hand.assert_learned_like(network)


@pytest.mark.parametrize("joint", [False, True], ids=["alternating", "joint"])
def test_three_splits(joint: bool) -> None:
    """α on D_valα, β on D_valβ, w on D_tr, each at what came before or all at the old point (TopoNAS table 8)."""
    updates = (
        Update(("alpha",), "third-b", joint=joint),
        Update(("beta",), "third-c", joint=joint),
        Update(("w",), "third-a"),
    )
    network, hand = stepped(TOPONAS, updates), ByHand(TOPONAS)
    for step in range(2):
        reads = [batches_of(TOPONAS, number, step) for number in range(3)]
        if joint:
            old = [hand.gradients(batch) for batch in reads]
            for group, gradient in zip(("alpha", "beta", "w"), old, strict=True):
                hand.descend(group, gradient)
        else:
            for group, batch in zip(("alpha", "beta", "w"), reads, strict=True):
                hand.descend(group, hand.gradients(batch))
    hand.assert_learned_like(network)


def test_regularisation_adds_to_the_gradient_of_beta_alone() -> None:
    """λ∇r(β) on the β split (TopoNAS eq. 15), and nothing to α or w."""
    updates = (Update(("alpha",), "third-b"), Update(("beta",), "third-c", regularisation=10.0), Update(("w",), "all"))
    network, hand = stepped(TOPONAS, updates), ByHand(TOPONAS)
    added = 0.0
    for step in range(2):
        hand.descend("alpha", hand.gradients(batches_of(TOPONAS, 0, step)))
        gradient = hand.gradients(batches_of(TOPONAS, 1, step))
        for kind in ("normal", "reduce"):
            beta = hand.state[f"architecture/beta.{kind}"]
            _, slope_of_r = passive_aggressive(TOPONAS.cell(kind), beta, WARM.beta)
            added += float(np.abs(slope_of_r).sum())
            gradient[f"beta.{kind}"] = gradient[f"beta.{kind}"] + 10.0 * slope_of_r
        hand.descend("beta", gradient)
        hand.descend("w", hand.gradients(batches_of(TOPONAS, 2, step)))
    assert added > 0, "a regularisation of 0 would show nothing"
    hand.assert_learned_like(network)


def test_a_sparse_update_is_made_in_one_step_of_the_epoch() -> None:
    """After three quarters of the steps; w moves in all of them (eDARTS §III-C)."""
    updates = (Update(("alpha",), "half-b", once_at=0.75), Update(("w",), "half-a"))
    network, hand = built(TOPONAS, OPTIMIZERS), ByHand(TOPONAS)
    stepper = Stepper(network, TOPONAS, updates, 0, "test")
    read: list[list[int]] = [[], []]

    def next_batch(number: int) -> Batch:
        read[number].append(len(read[number]))
        return batches_of(TOPONAS, number, read[number][-1])

    for step in range(4):
        before = network.architecture()["alpha.normal"]
        stepper.step(next_batch, RATES, WARM, StepPosition(2, step, 4))
        if step == 3:
            hand.descend("alpha", hand.gradients(batches_of(TOPONAS, 0, 0)))
        hand.descend("w", hand.gradients(batches_of(TOPONAS, 1, step)))
        assert np.array_equal(network.architecture()["alpha.normal"], before) == (step != 3)
    assert read == [[0], [0, 1, 2, 3]]
    hand.assert_learned_like(network)


# Second order


BI = (Update(("alpha", "beta"), "half-b", gradient=SecondOrder()), Update(("w",), "half-a"))


class Recorder:
    """A network that notes its weights whenever they are perturbed or brought back."""

    def __init__(self, network: ReferenceNetwork) -> None:
        self._network = network
        self.noted: list[tuple[str, dict[str, Array]]] = []

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._network, name)
        if name not in ("virtual_step", "perturb_weights", "restore_weights", "accumulate_gradients"):
            return method

        def call(*arguments: Any) -> Any:
            before = self._network.export_state()
            result = method(*arguments)
            self.noted.append((name, before if name == "accumulate_gradients" else self._network.export_state()))
            if name == "accumulate_gradients":
                self.noted.append(("differentiated", self._network.export_state()))
            return result

        return call


def with_momentum(spec: NetworkSpec) -> ReferenceNetwork:
    """A network that has made two steps, so that its momentum is not 0."""
    network = built(spec, OPTIMIZERS)
    for seed in (50, 51):
        network.step(("w",), drawn_batch(spec, seed, samples=3), RATES, WARM)
    network.pop_losses()
    return network


def part(state: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def test_the_points_of_second_order_are_darts() -> None:
    """w′ = w − ξ(momentum·buffer + ∇L_train + wd·w), w± = w ± ε∇w′L_val with ε = 0.01/‖∇w′L_val‖."""
    network = with_momentum(TOPONAS)
    start = network.export_state()
    training, validation = batches_of(TOPONAS, 1, 0), batches_of(TOPONAS, 0, 0)
    w, buffer = part(start, "weights/"), part(start, "momentum/")
    train = part(network.gradients(training, WARM), "gradient/")
    ahead = {
        name: w[name] - RATES.weights * (0.8 * buffer[name] + train[name] + 0.02 * w[name]) for name in w
    }  # fmt: skip
    network.import_state({**start, **{f"weights/{name}": value for name, value in ahead.items()}})
    there = part(network.gradients(validation, WARM), "gradient/")
    norm = np.sqrt(sum(float((there[name] ** 2).sum()) for name in w))
    network.import_state(start)

    recorder = Recorder(network)
    stepper = Stepper(recorder, TOPONAS, BI, 0, "test")  # type: ignore[arg-type]
    rows = stepper.step(lambda n: (validation, training)[n], RATES, WARM, POSITION)
    assert rows == [(0, False), (0, True), (0, False), (0, False), (1, True)]
    assert len(network.pop_losses()) == len(rows)

    points = {"virtual_step": [ahead]}
    points["perturb_weights"] = [{name: w[name] + sign * RADIUS / norm * there[name] for name in w} for sign in (1, -1)]
    for verb, expected in points.items():
        found = [part(state, "weights/") for name, state in recorder.noted if name == verb]
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            for name in w:
                np.testing.assert_allclose(one[name], other[name], rtol=1e-10, atol=1e-13)
    (restored,) = [state for name, state in recorder.noted if name == "restore_weights"]
    assert all(restored[f"weights/{name}"].tobytes() == value.tobytes() for name, value in w.items())
    assert all(restored[f"momentum/{name}"].tobytes() == value.tobytes() for name, value in buffer.items())
    # Statistics move with the two passes at w itself, on the training batch, and not while w is perturbed.
    passes = [
        (before, after) for (verb, before), (_, after) in pairwise(recorder.noted) if verb == "accumulate_gradients"
    ]
    moves = [any((b[k] != a[k]).any() for k in b if k.startswith("statistics/")) for b, a in passes]
    assert moves == [True, False, False, False, True]


def smooth_network() -> NetworkSpec:
    """One cell without a kink but the ReLUs behind the stem, which `lifted` keeps open."""
    cell = search_cell(2, ("none", "avg_pool_3x3", "skip_connect"), topology=Topology("k-edges", 1))
    return NetworkSpec(cell, cell, 1, 2, 3, (1, 5, 6), stem_multiplier=1)


def lifted(network: ReferenceNetwork) -> ReferenceNetwork:
    state = network.export_state()
    network.import_state({**state, "weights/stem.norm.bias": np.full(2, 6.0)})
    return network


def deviations(spec: NetworkSpec, rate: float, prepare: Callable[[ReferenceNetwork], ReferenceNetwork]) -> list[float]:
    """Errors of the step's gradient, and of its first term alone, as shares of d L_val(w′(α, β), α, β).

    The derivative is taken numerically in some directions, through a step of SGD written out here.
    """
    training, validation = batches_of(spec, 1, 0), batches_of(spec, 0, 0)
    network = prepare(with_momentum(spec))
    start, at = network.export_state(), network.architecture()
    w, buffer = part(start, "weights/"), part(start, "momentum/")

    def after(changed: Mapping[str, Array]) -> dict[str, Array]:
        """What the validation batch gives after the step."""
        moved = {**start, **{f"architecture/{name}": value for name, value in changed.items()}}
        network.import_state(moved)
        train = part(network.gradients(training, WARM), "gradient/")
        ahead = {f"weights/{n}": w[n] - rate * (0.8 * buffer[n] + train[n] + 0.02 * w[n]) for n in w}
        network.import_state({**moved, **ahead})
        return network.gradients(validation, WARM)

    plain = part(after(at), "gradient/")
    network.import_state(start)
    Stepper(network, spec, BI, 0, "test").step(
        lambda n: (validation, training)[n], replace(RATES, weights=rate), WARM, POSITION
    )
    # Adam's first position after its first step is (1 − β₁)·(g + wd·α′).
    first = part(network.export_state(), "adam.first/")
    found = {name: first[name] / 0.5 - 0.03 * value for name, value in at.items()}

    random = np.random.default_rng(3)
    rows = []
    for _ in range(6):
        direction = {name: random.standard_normal(value.shape) for name, value in at.items()}
        up, down = (
            after({name: at[name] + sign * 1e-7 * direction[name] for name in at})["loss"].item() for sign in (1, -1)
        )
        rows.append(
            [(up - down) / 2e-7]
            + [sum(float(np.vdot(gradient[name], direction[name])) for name in at) for gradient in (found, plain)]
        )
    exact, second, first_order = np.transpose(rows)
    return [float(np.linalg.norm(each - exact) / np.linalg.norm(exact)) for each in (second, first_order)]


@pytest.mark.parametrize("rate", [0.025, 0.1])
def test_the_hypergradient_is_that_of_the_loss_after_a_step(rate: float) -> None:
    """At DARTS' radius, against numerical differentiation of L_val(w′(α, β), α, β)."""
    second, first = deviations(smooth_network(), rate, lifted)
    assert second <= 1e-2
    assert first > 5 * second, "the second-order term is there"


@pytest.mark.parametrize("mixing", ["softmax", "groups", "attention", "partial"])
def test_the_hypergradient_of_a_network_with_kinks(mixing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A radius of 0.01 passes kinks of ReLU and max-pooling on so few pixels; in the limit they do not matter."""
    monkeypatch.setattr(gradients, "RADIUS", 1e-6)
    spec = supernet(Topology("k-edges"), nodes=2, **MIXINGS[mixing])
    second, first = deviations(spec, 0.025, lambda network: network)
    assert second <= 1e-4
    assert first > 5 * second


def test_no_gradient_of_w_is_no_division_by_zero() -> None:
    """Where `none` alone weighs anything and the labels are balanced, ∇w L_val is 0 to the last bit."""
    cell = search_cell(1, ("none", "skip_connect"), topology=Topology("edge-softmax"))
    spec = NetworkSpec(cell, cell, 3, 2, 2, (1, 4, 4), stem_multiplier=1)
    network = built(spec, OPTIMIZERS)
    state = network.export_state()
    for kind in ("normal", "reduce"):
        state[f"architecture/alpha.{kind}"][:, cell.column("none")] = 1e4
    state["weights/classifier.bias"][:] = 0.0
    network.import_state(state)
    batch = replace(drawn_batch(spec, 0, samples=4), labels=np.array([0, 1, 1, 0]))
    rows = Stepper(network, spec, BI, 0, "test").step(lambda n: batch, RATES, WARM, POSITION)
    assert rows == [(0, False), (0, True), (1, True)], "nothing was perturbed"
    assert len(network.pop_losses()) == 3
    found = network.export_state()
    assert all(np.isfinite(value).all() for value in found.values())
    for key, value in found.items():
        if key.startswith("weights/"):  # what is left is weight decay
            np.testing.assert_allclose(value, (1 - 0.05 * 0.02) * state[key], rtol=1e-12)
