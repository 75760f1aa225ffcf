"""What a step is, against the papers' equations on losses whose gradients are known in closed form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import quick

from dots_core.engine.batch import Batch
from dots_core.engine.protocol import Rates
from dots_core.errors import UsageError
from dots_core.network.spec import NetworkSpec
from dots_core.plan.gradients import RADIUS, MixedLevel, SecondOrder
from dots_core.plan.plan import Phase, Stage, Update
from dots_core.plan.schedules import Constant, Exponential, Linear
from dots_core.search.regularisation import passive_aggressive
from dots_core.search.runner import Runner
from dots_core.search.step import Stepper, StepPosition, due
from dots_core.search_space.cell import search_cell
from dots_core.search_space.mixing import Temperature
from dots_core.search_space.topology import Topology

ALPHA, BETA = "alpha.normal", "beta.normal"
MOMENTUM, DECAY = 0.9, 0.1
RATES = Rates(0.3, 0.05)
WARM = Temperature(0.7, 1.6)
POSITION = StepPosition(0, 0, 1)

# One cell is a normal cell, so there is one α′ and one β′.
CELL = search_cell(3, ("skip_connect", "sep_conv_3x3"), topology=Topology("k-edges", side="output"))
SPEC = NetworkSpec(CELL, CELL, 1, 2, 2, (1, 4, 4))
SHAPES = {"w": (3,), ALPHA: CELL.operation_groups.shape, BETA: CELL.combination_groups.shape}

seeds = st.integers(0, 2**31 - 1)
rates = st.floats(0.01, 1.0)


class Quadratic:
    """L = ½ rᵀHr + c·α + d·β with r = w − Mα − Nβ − u: what every equation of the papers can be worked out for."""

    def __init__(self, seed: int, of_w: bool = True) -> None:
        source = np.random.RandomState(seed)
        size = {name: int(np.prod(shape)) for name, shape in SHAPES.items()}
        square = source.normal(size=(size["w"], size["w"])) * of_w
        self.hessian = square @ square.T
        self.maps = {name: source.normal(size=(size["w"], size[name])) for name in (ALPHA, BETA)}
        self.slopes = {name: source.normal(size=size[name]) for name in (ALPHA, BETA)}
        self.centre = source.normal(size=size["w"])

    def _residual(self, at: Mapping[str, np.ndarray]) -> np.ndarray:
        return at["w"] - sum(self.maps[name] @ at[name].ravel() for name in self.maps) - self.centre

    def loss(self, at: Mapping[str, np.ndarray]) -> float:
        r = self._residual(at)
        return float(r @ self.hessian @ r / 2 + sum(self.slopes[name] @ at[name].ravel() for name in self.slopes))

    def gradient(self, at: Mapping[str, np.ndarray], name: str) -> np.ndarray:
        pull = self.hessian @ self._residual(at)
        if name == "w":
            return pull
        return (self.slopes[name] - self.maps[name].T @ pull).reshape(SHAPES[name])


@dataclass
class Read:
    """A pass that was made: which loss, with which draws, at which w."""

    batch: Batch
    w: np.ndarray
    groups: tuple[str, ...]


class Arithmetic:
    """The verbs of a network on quadratic losses, every update plain gradient descent.

    A batch's label is the number of its loss.
    """

    def __init__(self, losses: Mapping[int, Quadratic], seed: int) -> None:
        source = np.random.RandomState(seed)
        self.losses = losses
        self.at = {name: source.normal(size=shape) for name, shape in SHAPES.items()}
        self.buffer = source.normal(size=SHAPES["w"])
        self.gathered: dict[str, np.ndarray] = {}
        self.before: np.ndarray | None = None
        self.reads: list[Read] = []

    def architecture(self) -> dict[str, np.ndarray]:
        return {name: self.at[name].copy() for name in (ALPHA, BETA)}

    @staticmethod
    def names(groups):
        return [name for name in SHAPES if name.partition(".")[0] in groups]

    def accumulate_gradients(self, groups, batch, temperature, factor=1.0):
        self.reads.append(Read(batch, self.at["w"].copy(), groups))
        for name in self.names(groups):
            gradient = factor * self.losses[int(batch.labels[0])].gradient(self.at, name)
            self.gathered[name] = self.gathered.get(name, 0.0) + gradient

    def update(self, groups, rates, extra_gradients=None):
        for name in self.names(groups):
            gradient = self.gathered.pop(name, 0.0) + (extra_gradients or {}).get(name, 0.0)
            rate = rates.weights if name == "w" else rates.architecture
            self.at[name] = self.at[name] - rate * gradient

    def virtual_step(self, rate):
        self.before = self.at["w"]
        step = MOMENTUM * self.buffer + self.gathered.pop("w") + DECAY * self.at["w"]
        self.at["w"] = self.at["w"] - rate * step

    def perturb_weights(self, radius):
        self.at["w"] = self.before + radius * self.gathered["w"] / self.gradient_norm()

    def gradient_norm(self):
        return float(np.linalg.norm(self.gathered["w"]))

    def restore_weights(self):
        self.at["w"], self.before = self.before, None
        self.gathered.pop("w", None)


def batch(number: int) -> Batch:
    return Batch(np.zeros((1, 1, 1, 1), np.float32), np.array([number]))


def losses(seed: int, count: int = 3) -> dict[int, Quadratic]:
    """Loss n is that of the batches of update n."""
    return {number: Quadratic(seed + number) for number in range(count)}


def stepped(network: Arithmetic, updates: tuple[Update, ...], spec: NetworkSpec = SPEC, step: int = 0):
    stepper = Stepper(network, spec, updates, 0, "test")
    return stepper.step(batch, RATES, WARM, StepPosition(0, step, 8))


def start(seed: int) -> tuple[Arithmetic, dict[str, np.ndarray], dict[int, Quadratic]]:
    of = losses(seed)
    network = Arithmetic(of, seed + 10)
    return network, dict(network.at), of


def descended(at: dict[str, np.ndarray], name: str, gradient: np.ndarray) -> dict[str, np.ndarray]:
    rate = RATES.weights if name == "w" else RATES.architecture
    return {**at, name: at[name] - rate * gradient}


def assert_at(network: Arithmetic, expected: Mapping[str, np.ndarray]) -> None:
    for name in SHAPES:
        np.testing.assert_allclose(network.at[name], expected[name], rtol=1e-10, atol=1e-10)
    assert not network.gathered, "every gradient was used up"


W, A, B = Update(("w",), "third-a"), Update(("alpha",), "third-b"), Update(("beta",), "third-c")


@quick
@given(seeds)
def test_one_level_takes_all_gradients_at_the_old_point(seed):
    """w_t, β_t from w_{t−1}, β_{t−1} (DOTS eq. 10; with α its arXiv version, eq. 12)."""
    network, at, of = start(seed)
    assert stepped(network, (Update(("w", "alpha", "beta"), "all"),)) == [(0, True)]
    assert_at(network, {name: at[name] - (0.3 if name == "w" else 0.05) * of[0].gradient(at, name) for name in at})


@quick
@given(seeds)
def test_bi_level_of_first_order(seed):
    """α, β by ∇L_val at w; then w by ∇L_train at the new α, β (DARTS; DOTS §3)."""
    network, at, of = start(seed)
    updates = (Update(("alpha", "beta"), "half-b"), Update(("w",), "half-a"))
    assert stepped(network, updates) == [(0, True), (1, True)]
    new = descended(descended(at, ALPHA, of[0].gradient(at, ALPHA)), BETA, of[0].gradient(at, BETA))
    assert_at(network, descended(new, "w", of[1].gradient(new, "w")))


@quick
@given(seeds, st.floats(0.1, 10.0))
def test_mixed_level(seed, weight):
    """w − η∇L_tr; α − η(∇L_tr + λ∇L_valα); β − η(∇L_tr + λ∇L_valβ), one after the other (TopoNAS eq. 23)."""
    network, at, of = start(seed)
    alpha = Update(("alpha",), "third-b", gradient=MixedLevel(weight))
    beta = Update(("beta",), "third-c", gradient=MixedLevel(weight))
    assert stepped(network, (W, alpha, beta)) == [(0, True), (1, True), (1, False), (2, True), (2, False)]
    at = descended(at, "w", of[0].gradient(at, "w"))
    at = descended(at, ALPHA, of[0].gradient(at, ALPHA) + weight * of[1].gradient(at, ALPHA))
    at = descended(at, BETA, of[0].gradient(at, BETA) + weight * of[2].gradient(at, BETA))
    assert_at(network, at)


@quick
@given(seeds)
def test_three_splits_in_turn(seed):
    """α, then β at the new α, then w at both (TopoNAS algorithm 1, lines 8-10)."""
    network, at, of = start(seed)
    assert stepped(network, (A, B, W)) == [(0, True), (1, True), (2, True)]
    at = descended(at, ALPHA, of[0].gradient(at, ALPHA))
    at = descended(at, BETA, of[1].gradient(at, BETA))
    assert_at(network, descended(at, "w", of[2].gradient(at, "w")))


@quick
@given(seeds, st.permutations(range(3)))
def test_joint_updates_do_not_depend_on_their_order(seed, order):
    """α, β and w on their own splits, all gradients at the old point (TopoNAS table 8)."""
    network, at, of = start(seed)
    each = [(("alpha",), ALPHA), (("beta",), BETA), (("w",), "w")]
    chosen = [each[number] for number in order]
    updates = tuple(Update(groups, "all", joint=place < 2) for place, (groups, _) in enumerate(chosen))
    stepped(network, updates)
    expected = dict(at)
    for number, (_, name) in enumerate(chosen):
        expected[name] = descended(at, name, of[number].gradient(at, name))[name]
    assert_at(network, expected)


@quick
@given(seeds, st.floats(0.1, 10.0), st.booleans(), st.floats(0.1, 2.0))
def test_regularisation_is_of_beta_alone(seed, weight, one_update, factor):
    """L_valβ + λ r(β) (TopoNAS eq. 15): λ∇r is added to the gradient of β, and to nothing else.

    It is part of that loss, so the weight of the loss is its own as well.
    """
    network, at, of = start(seed)
    _, slope = passive_aggressive(CELL, at[BETA], WARM.beta)
    if one_update:
        stepped(network, (Update(("w", "alpha", "beta"), "all", regularisation=weight),))
        gradients = {name: of[0].gradient(at, name) for name in SHAPES}
        at = {name: descended(at, name, gradients[name] + (weight * slope if name == BETA else 0))[name] for name in at}
    else:
        stepped(network, (A, Update(("beta",), "third-c", gradient=MixedLevel(factor, 0.0), regularisation=weight), W))
        at = descended(at, ALPHA, of[0].gradient(at, ALPHA))
        at = descended(at, BETA, factor * (of[1].gradient(at, BETA) + weight * slope))
        at = descended(at, "w", of[2].gradient(at, "w"))
    assert_at(network, at)


# Second order


SECOND = (Update(("alpha", "beta"), "half-b", gradient=SecondOrder()), Update(("w",), "half-a"))


@quick
@given(seeds)
def test_second_order_is_the_gradient_after_a_step(seed):
    """∇α L_val(w′) − ξ·∂²L_train/∂α∂w·∇w′L_val (DARTS eq. 7): of quadratic losses the difference is exact."""
    network, at, of = start(seed)
    buffer = network.buffer
    rows = stepped(network, SECOND)
    assert rows == [(0, False), (0, True), (0, False), (0, False), (1, True)]
    validation, training = of[0], of[1]
    ahead = at["w"] - 0.3 * (MOMENTUM * buffer + training.gradient(at, "w") + DECAY * at["w"])
    there = {**at, "w": ahead}
    new = dict(at)
    for name in (ALPHA, BETA):
        # ∂²L/∂α∂w = −MᵀH.
        cross = -training.maps[name].T @ training.hessian @ validation.gradient(there, "w")
        gradient = validation.gradient(there, name) - 0.3 * cross.reshape(SHAPES[name])
        new = {**new, name: at[name] - 0.05 * gradient}
    new["w"] = at["w"] - 0.3 * training.gradient(new, "w")
    for name in SHAPES:
        scale = 1 + np.abs(new[name]).max()
        np.testing.assert_allclose(network.at[name] / scale, new[name] / scale, atol=1e-7)


@quick
@given(seeds)
def test_second_order_is_the_derivative_of_the_loss_after_a_step(seed):
    """The same by nothing but values of L_val(w′(α, β), α, β)."""
    network, at, of = start(seed)
    buffer = network.buffer

    def value(point):
        ahead = point["w"] - 0.3 * (MOMENTUM * buffer + of[1].gradient(point, "w") + DECAY * point["w"])
        return of[0].loss({**point, "w": ahead})

    stepped(network, SECOND)
    for name in (ALPHA, BETA):
        direction = np.random.RandomState(seed).normal(size=SHAPES[name])
        up, down = (value({**at, name: at[name] + sign * 1e-3 * direction}) for sign in (1, -1))
        moved = float(np.vdot(at[name] - network.at[name], direction)) / 0.05
        assert moved == pytest.approx((up - down) / 2e-3, rel=1e-5, abs=1e-5 * (abs(up) + 1))


@quick
@given(seeds)
def test_perturbations_have_darts_radius_and_w_comes_back(seed):
    """w± = w ± ε∇w′L_val with ε = 0.01/‖∇w′L_val‖: 0.01 either way, whatever the gradient."""
    network, at, of = start(seed)
    stepped(network, SECOND)
    _, validation, above, below, last = network.reads
    g = of[0].gradient({**at, "w": validation.w}, "w")
    assert RADIUS == 0.01
    np.testing.assert_allclose(above.w, at["w"] + 0.01 * g / np.linalg.norm(g), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(below.w, at["w"] - 0.01 * g / np.linalg.norm(g), rtol=1e-12, atol=1e-12)
    assert last.w.tobytes() == at["w"].tobytes()
    assert above.batch.labels == below.batch.labels == [1]
    assert (above.groups, validation.groups) == (("alpha", "beta"), ("alpha", "beta", "w"))


@quick
@given(seeds)
def test_where_the_validation_loss_does_not_feel_w_second_order_is_first(seed):
    network, at, of = start(seed)
    of[0] = network.losses[0] = Quadratic(seed, of_w=False)
    with np.errstate(all="raise"):
        rows = stepped(network, SECOND)
    assert rows == [(0, False), (0, True), (1, True)]
    new = descended(descended(at, ALPHA, of[0].gradient(at, ALPHA)), BETA, of[0].gradient(at, BETA))
    assert_at(network, descended(new, "w", of[1].gradient(new, "w")))


@quick
@given(seeds)
def test_three_splits_of_second_order_may_be_joint(seed):
    """Each hypergradient at the old point; the gradient of w is not touched by what perturbs w."""
    network, at, of = start(seed)
    alone, _, _ = start(seed)
    stepped(network, (Update(("alpha",), "third-b", gradient=SecondOrder(), joint=True), Update(("w",), "third-a")))
    stepped(alone, (Update(("alpha",), "third-b", gradient=SecondOrder()), Update(("w",), "third-a")))
    assert np.array_equal(network.at[ALPHA], alone.at[ALPHA])
    np.testing.assert_allclose(network.at["w"], at["w"] - 0.3 * of[1].gradient(at, "w"), rtol=1e-10, atol=1e-10)


def test_joint_updates_that_would_get_in_each_others_way_are_refused():
    second_order = (Update(("w",), "half-a", joint=True), Update(("alpha",), "half-b", gradient=SecondOrder()))
    with pytest.raises(UsageError, match="make the update of w the last"):
        Phase("search", 1, second_order)
    twice = (Update(("alpha",), "half-b", joint=True), Update(("w", "alpha"), "half-a"))
    with pytest.raises(UsageError, match="alpha would be updated twice"):
        Phase("search", 1, twice)


@pytest.mark.parametrize("topology", [Topology(), Topology("k-edges"), Topology("edge-sigmoid")])
def test_regularisation_needs_a_topology_that_can_fail(topology):
    phase = Phase("search", 1, (Update(("w", "beta"), "all", regularisation=10.0),))
    with pytest.raises(UsageError, match="leave the regularisation out"):
        Stage("operation", search_cell(2, topology=topology), 3, (phase,))
    Stage("operation", search_cell(2, topology=Topology("k-edges", side="output")), 3, (phase,))


def test_drop_path_in_a_stage_of_several_updates_is_refused():
    phase = Phase("search", 1, (Update(("alpha",), "half-b"), Update(("w",), "half-a")))
    with pytest.raises(UsageError, match="several updates a step"):
        Stage("operation", search_cell(2), 3, (phase,), drop_path=0.3)


# Which step an update is made in, and what it reads


@quick
@given(st.integers(1, 60), st.floats(0, 1))
def test_a_sparse_update_is_due_once_an_epoch(steps, share):
    """In the step before which that share of the epoch's steps is done, at the latest in the last (eDARTS §III-C)."""
    update = Update(("alpha",), "all", once_at=share)
    (step,) = [step for step in range(steps) if due(update, StepPosition(3, step, steps))]
    tolerance = Fraction(1, 10**12)
    assert Fraction(step, steps) <= Fraction(share) + tolerance
    assert step == steps - 1 or Fraction(share) < Fraction(step + 1, steps) + tolerance


@quick
@given(st.integers(1, 60))
def test_other_updates_are_due_in_every_step(steps):
    assert all(due(A, StepPosition(0, step, steps)) for step in range(steps))


@quick
@given(st.integers(1, 12), st.floats(0, 1), st.integers(1, 4))
def test_loaders_stand_where_a_resumed_run_takes_them_up(steps, share, epochs):
    """A sparse update has read one batch for each epoch in which it was made, other updates one a step."""
    updates = (Update(("alpha",), "half-b", once_at=share), Update(("w",), "half-a"))
    network = Arithmetic(losses(0), 0)
    read = [0, 0]

    def next_batch(number):
        read[number] += 1
        return batch(number)

    for epoch in range(epochs):
        stepper = Stepper(network, SPEC, updates, 0, "test")
        for step in range(steps):
            resumed = SimpleNamespace(_progress=SimpleNamespace(epoch=epoch, step=step))
            assert [Runner._read_before(resumed, update, steps) for update in updates] == read
            stepper.step(next_batch, RATES, WARM, StepPosition(epoch, step, steps))
    assert read == [epochs, epochs * steps]


@pytest.mark.parametrize("sampling", ["soft", "hard"])
def test_draws_belong_to_the_update(sampling):
    """Both passes of a mixed update have its draws; other updates, other steps and other epochs have others."""
    cell = search_cell(3, ("skip_connect", "sep_conv_3x3"), topology=CELL.topology, sampling=sampling)
    spec = NetworkSpec(cell, cell, 1, 2, 2, (1, 4, 4))
    network = Arithmetic(losses(0), 0)
    before = network.at[ALPHA]
    mixed = Update(("alpha",), "half-b", gradient=MixedLevel())
    stepped(network, (mixed, W), spec)
    own, training, weights = (read.batch.draws["normal"] for read in network.reads)
    assert [int(read.batch.labels[0]) for read in network.reads] == [0, 1, 1]
    assert own.noise.tobytes() == training.noise.tobytes() != weights.noise.tobytes()
    if sampling == "hard":
        # Of α′ before the step, for every update of it.
        for draw in (own, weights):
            noisy = np.where(cell.operation_groups.mask, before + draw.noise, -np.inf)
            assert (draw.chosen.argmax(axis=1) == noisy.argmax(axis=1)).all()
            assert (draw.chosen.sum(axis=1) == 1).all()
    again = Arithmetic(losses(0), 0)
    stepped(again, (mixed, W), spec)
    assert again.reads[0].batch.draws["normal"].noise.tobytes() == own.noise.tobytes()
    stepped(again, (mixed, W), spec, step=1)
    assert again.reads[3].batch.draws["normal"].noise.tobytes() != own.noise.tobytes()


def test_nothing_is_drawn_where_nothing_is_sampled():
    network = Arithmetic(losses(0), 0)
    stepped(network, (A, B, W))
    assert all(read.batch.draws is None for read in network.reads)


# Temperature


@pytest.mark.parametrize(
    ("start", "rate", "epochs", "printed"),
    [
        (10.0, 0.72, 20, 0.02),  # DOTS, topology stage
        (10.0, 0.65, 10, 0.2),  # arXiv version, operation stage
        (10.0, 0.75, 15, 0.178),  # on ImageNet; its print says 0.1
        (10.0, 0.64, 15, 0.019),  # likewise, 0.01
    ],
)
def test_annealing_reaches_the_printed_ends(start, rate, epochs, printed):
    """T(t) = T0·θ^t (DOTS eq. 9), t = 0 in the first epoch after the warm-up."""
    schedule = Exponential(start, rate)
    value = start
    for epoch in range(epochs):
        assert schedule.at(epoch, epochs) == pytest.approx(value, rel=1e-12)
        value *= rate
    last = schedule.at(epochs - 1, epochs)
    digits = 3 if printed in (0.178, 0.019) else len(str(printed)) - 2
    assert round(last, digits) == printed


@quick
@given(st.floats(0.1, 20), st.floats(0.1, 1), st.integers(0, 60))
def test_operations_freeze_a_thousand_times_colder(start, rate, epoch):
    """T_α = T_β/1000 (DOTS fig. 3), at every epoch."""
    schedule = Exponential(start, rate)
    assert schedule.scaled(1e-3).at(epoch, 61) == pytest.approx(start * rate**epoch / 1000, rel=1e-12)


@quick
@given(st.floats(1e-3, 20), st.floats(1e-3, 20), st.integers(2, 300))
def test_linear_and_constant_temperatures(start, end, epochs):
    """GDAS' temperature falls linearly, from the first epoch to the last."""
    values = [Linear(start, end).at(epoch, epochs) for epoch in range(epochs)]
    assert values[0] == start
    assert values[-1] == pytest.approx(end, rel=1e-12)
    np.testing.assert_allclose(np.diff(values), (end - start) / (epochs - 1), atol=1e-9)
    assert {Constant(start).at(epoch, epochs) for epoch in range(epochs)} == {start}
