"""The exact gradient through a step of SGD: against what it is defined as, and finite differences against it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from dots_conformance.networks import NetworkCase, drawn_batch, operation_spec, topology_spec

from dots_core.engine.protocol import Loss, Optimizers, Rates
from dots_core.engine.registry import load_engine
from dots_core.network.spec import NetworkSpec
from dots_core.plan import gradients
from dots_core.plan.gradients import SecondOrder
from dots_core.plan.plan import Update
from dots_core.search.sampling import Sampler
from dots_core.search.step import Stepper, StepPosition
from dots_core.search_space.cell import search_cell
from dots_core.search_space.mixing import Temperature
from dots_core.search_space.topology import Topology

pytestmark = pytest.mark.engine("torch")

RATE = 0.05
GROUPS = ("alpha", "beta")
# Without decay of α, and with ½ as its first constant, Adam's first moment after an update is half the gradient.
OPTIMIZERS = Optimizers(betas=(0.5, 0.999), architecture_weight_decay=0.0)


def searched(topology: Topology, sampling: str = "none", partial: int = 1, **changes: object) -> NetworkSpec:
    operations = ("none", "max_pool_3x3", "skip_connect", "sep_conv_3x3")
    cell = search_cell(2, operations, "single", topology, None, sampling, partial)
    return replace(operation_spec(), normal=cell, reduce=cell, layers=2, input_shape=(2, 6, 5), **changes)


def case_of(spec: NetworkSpec) -> NetworkCase:
    return NetworkCase(spec, Temperature(0.8, 1.5), OPTIMIZERS, Loss(0.1, 0.4), drop_path=0.2, seed=11)


CASES = {
    "pairs": case_of(topology_spec(Topology("k-edges", 2), input_shape=(2, 6, 5))),
    "none": case_of(searched(Topology())),
    "edge-sigmoid": case_of(searched(Topology("edge-sigmoid"), head_norm=True)),
    "soft": case_of(searched(Topology("arbitrary", side="output"), "soft", auxiliary=True)),
    "partial": case_of(searched(Topology("edge-softmax"), partial=2)),
}


def built(case: NetworkCase, engine: str):
    """A network in float64 whose momentum and statistics have left their initial values."""
    network = case.build(load_engine(engine), "float64")
    for number in range(2):
        network.step(("w",), batch_of(case, 50 + number), Rates(0.02), case.temperature)
    network.pop_losses()
    return network


def batch_of(case: NetworkCase, number: int, samples: int = 4):
    batch = drawn_batch(case.spec, 100 * case.seed + number, samples, case.drop_path)
    sampler = Sampler(case.spec, 5, "second order")
    hard = load_engine("reference")  # α of the start serves all draws: both engines then choose alike
    architecture = case.build(hard, "float64").architecture() if sampler.hard else {}
    return replace(batch, draws=sampler.draw(architecture, 0, 0))


def found_gradient(network) -> np.ndarray:
    """The gradient of architecture weights that is accumulated, as one vector; it is used up."""
    network.update(GROUPS, Rates())
    return flattened({k: 2 * v for k, v in network.export_state().items() if k.startswith("adam.first/")})


def flattened(arrays) -> np.ndarray:
    return np.concatenate([arrays[name].ravel() for name in sorted(arrays)])


def validation_loss_ahead(case: NetworkCase, network, state, training, validation) -> float:
    """L_val(w′(α), α), word by word: take the gradient, take the step, look at the loss."""
    network.import_state(state)
    gradients = network.gradients(training, case.temperature)
    constants = case.optimizers
    ahead = dict(state)
    for key in [key for key in state if key.startswith("weights/")]:
        name = key.removeprefix("weights/")
        descent = constants.momentum * state[f"momentum/{name}"] + gradients[f"gradient/{name}"]
        ahead[key] = state[key] - RATE * (descent + constants.weight_decay * state[key])
    network.import_state(ahead)
    return float(network.gradients(validation, case.temperature)["loss"])


def literal_gradient(case: NetworkCase, training, validation, width: float = 1e-5) -> np.ndarray:
    """Numerical differentiation of `validation_loss_ahead`, entry by entry, on the reference engine."""
    network = built(case, "reference")
    state = network.export_state()
    gradients = {}
    for key in [key for key in state if key.startswith("architecture/")]:
        gradients[key] = np.zeros_like(state[key])
        kind = key.rpartition(".")[2]
        blocks = case.spec.cell(kind).operation_groups if "/alpha." in key else case.spec.cell(kind).combination_groups
        free = blocks.mask if blocks.free is None else blocks.mask & blocks.free
        for index in zip(*np.nonzero(free), strict=True):
            losses = []
            for sign in (1, -1):
                moved = state[key].copy()
                moved[index] += sign * width
                losses.append(validation_loss_ahead(case, network, {**state, key: moved}, training, validation))
            gradients[key][index] = (losses[0] - losses[1]) / (2 * width)
    return flattened(gradients)


@pytest.mark.parametrize("name", CASES)
def test_the_exact_gradient_is_the_derivative_of_the_loss_ahead(name):
    case = CASES[name]
    training, validation = batch_of(case, 0), batch_of(case, 1)
    network = built(case, "torch")
    network.accumulate_unrolled_gradients(GROUPS, training, validation, RATE, case.temperature)
    found, expected = found_gradient(network), literal_gradient(case, training, validation)
    assert np.linalg.norm(found - expected) <= 1e-5 * np.linalg.norm(expected)
    # The step of w matters: a gradient that ignores it would not pass.
    network.accumulate_gradients(GROUPS, validation, case.temperature)
    plain = found_gradient(network) - 0.5 * found
    assert np.linalg.norm(plain - expected) > 1e-2 * np.linalg.norm(expected)


def test_the_engine_says_that_it_has_it():
    assert load_engine("torch").unrolls
    assert hasattr(built(CASES["none"], "torch"), "accumulate_unrolled_gradients")


@pytest.mark.parametrize("name", CASES)
def test_it_moves_nothing_but_the_statistics_once(name):
    case = CASES[name]
    training, validation = batch_of(case, 0), batch_of(case, 1)
    network, other = built(case, "torch"), built(case, "torch")
    network.accumulate_unrolled_gradients(GROUPS, training, validation, RATE, case.temperature)
    other.accumulate_gradients(("w",), training, case.temperature)
    expected, found = other.export_state(), network.export_state()
    assert all(np.array_equal(found[key], value) for key, value in expected.items())
    rows = network.pop_losses()
    assert rows.shape == (1, 2)
    reference = built(case, "reference")
    ahead = validation_loss_ahead(case, reference, reference.export_state(), training, validation)
    assert rows[0, 0] == pytest.approx(ahead, rel=1e-9)


@dataclass(frozen=True)
class Agreement:
    """How near one gradient is to another.

    Attributes
    ----------
    error : float
        Norm of the difference, relative to the norm of the exact one.
    signs : float
        Share of entries of equal sign, of those above a thousandth of the largest.
    """

    error: float
    signs: float

    @classmethod
    def of(cls, found: np.ndarray, exact: np.ndarray) -> Agreement:
        large = np.abs(exact) > 1e-3 * np.abs(exact).max()
        signs = np.sign(found[large]) == np.sign(exact[large])
        return cls(float(np.linalg.norm(found - exact) / np.linalg.norm(exact)), float(signs.mean()))


def stepped_gradient(case: NetworkCase, exact: bool, samples: int, rate: float = RATE) -> np.ndarray:
    """The gradient of architecture weights that one step of a plan of second order takes."""
    network = built(case, "torch")
    updates = (Update(GROUPS, "half-b", gradient=SecondOrder(exact)), Update(("w",), "half-a"))
    stepper = Stepper(network, case.spec, updates, 3, "second order")
    batches = [batch_of(case, 1, samples), batch_of(case, 0, samples)]
    rows = stepper.step(batches.__getitem__, Rates(rate), case.temperature, StepPosition(0, 0, 1))
    assert len(network.pop_losses()) == len(rows)
    return flattened({k: 2 * v for k, v in network.export_state().items() if k.startswith("adam.first/")})


HARD = case_of(searched(Topology("edge-softmax"), "hard", 2))


@pytest.mark.parametrize("name", [*CASES, "hard"])
def test_finite_differences_tend_to_the_exact_gradient(name, monkeypatch):
    """Over a distance on which no ReLU and no max-pool changes its mind."""
    case = HARD if name == "hard" else CASES[name]
    monkeypatch.setattr(gradients, "RADIUS", 1e-6)
    exact, found = (stepped_gradient(case, exact, 16) for exact in (True, False))
    agreement = Agreement.of(found, exact)
    assert agreement.error <= 1e-3
    assert agreement.signs == 1


@pytest.mark.parametrize("name", [*CASES, "hard"])
def test_finite_differences_at_the_published_distance(name):
    """Between w⁺ and w⁻ some ReLUs do change their mind: each adds a jump of the gradient, divided by the distance.

    The rate scales the term that is differentiated so, and a large batch averages the jumps.
    """
    case = HARD if name == "hard" else CASES[name]
    exact, found = (stepped_gradient(case, exact, 64, rate=0.01) for exact in (True, False))
    agreement = Agreement.of(found, exact)
    assert agreement.error <= 0.15
    assert agreement.signs >= 0.9
