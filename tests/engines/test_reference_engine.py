"""The reference engine keeps the promises every engine makes, and the suite that checks them can fail."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from dots_conformance.closeness import assert_close, norm
from dots_conformance.engine_suite import RATES, EngineSuite, reference_gradients, reference_state, reference_step
from dots_conformance.networks import CASES, MARGIN, derived_spec, drawn_batch, drawn_weights
from dots_reference import cell, convolution, layers, network, normalisation, optimizers, pooling
from dots_reference.engine import engine as reference
from dots_reference.windows import Array, offsets, output_size, pad

from dots_core.engine import GROUPS, Rates, Setup, Temperature
from dots_core.errors import CorruptFile, UsageError
from dots_core.operations import OPERATIONS


class ReferenceSuite(EngineSuite):
    backend = "reference"
    unsupported_precision = "bfloat16"


class TestReferenceFloat64(ReferenceSuite):
    precision = "float64"


class TestReferenceFloat32(ReferenceSuite):
    precision = "float32"


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("name", CASES)
def test_everything_is_in_the_precision_asked_for(name: str, precision: str) -> None:
    case = CASES[name]
    found = case.build(reference, precision)
    found.step(GROUPS, case.batch(), RATES, case.temperature)
    arrays = {**found.gradients(case.batch(), case.temperature), **found.export_state(), **found.architecture()}
    odd = {key for key, value in arrays.items() if value.dtype != precision and not key.startswith("adam.steps/")}
    assert not odd


def test_a_missing_weight_is_named() -> None:
    weights = drawn_weights(derived_spec())
    del weights["classifier.bias"]
    with pytest.raises(CorruptFile, match=r"classifier\.bias"):
        reference.build(Setup(derived_spec()), weights, {})


def test_an_unknown_group_is_named() -> None:
    case = CASES["pairs"]
    with pytest.raises(UsageError, match="gamma"):
        case.build(reference, "float32").step(("gamma",), case.batch(), RATES, case.temperature)


def test_a_variance_of_one_value_is_refused_and_nothing_moves() -> None:
    spec = derived_spec(auxiliary=False, input_shape=(2, 4, 4))
    found = reference.build(Setup(spec), drawn_weights(spec), {})
    before = found.export_state()
    with pytest.raises(UsageError, match=r"cells\.2\."):
        found.step(("w",), drawn_batch(spec, samples=1), Rates(0.1), Temperature())
    assert all(np.array_equal(value, before[key]) for key, value in found.export_state().items())
    assert found.drain().shape == (0, 2)


# The cases


def test_no_compared_gradient_is_nothing() -> None:
    for name in CASES:
        found = reference_gradients(name, "float64")
        largest = max(norm(value) for key, value in found.items() if key.startswith("gradient/"))
        assert not [key for key, value in found.items() if norm(value) < 1e-4 * largest]


def test_the_cases_hold_every_operation_in_either_stage() -> None:
    for name in ("operations", "arbitrary"):
        spec = CASES[name].spec
        assert {o for kind in spec.kinds() for e in spec.cell(kind).edges for o in e.operations} == set(OPERATIONS)


@pytest.mark.parametrize("name", CASES)
def test_no_compared_pass_is_decided_by_rounding(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Exact zeros and exact ties are no matter of rounding: dropped paths, pixels that ReLU cut off.
    margins: list[float] = []
    real_relu, real_max_pool = layers.relu, layers.max_pool

    def relu(x: Array) -> tuple[Array, pooling.Pull]:
        margins.append(float(np.abs(x[x != 0]).min(initial=1.0)))
        return real_relu(x)

    def max_pool(x: Array, stride: int) -> tuple[Array, pooling.Pull]:
        padded = pad(x, 1, -np.inf)
        places = offsets(3, stride, output_size(padded, 3, stride))
        ordered = np.sort([padded[window] for _, _, window in places], axis=0)
        gaps = ordered[-1] - ordered[-2]
        margins.append(float(gaps[gaps != 0].min(initial=1.0)))
        return real_max_pool(x, stride)

    monkeypatch.setattr(layers, "relu", relu)
    monkeypatch.setattr(layers, "max_pool", max_pool)
    case = CASES[name]
    found = case.build(reference, "float64")
    found.gradients(case.batch(), case.temperature)
    found.import_state(reference_state(name))
    found.gradients(case.batch(9), case.temperature)
    assert min(margins) > MARGIN


# Faults put into the reference, each of which an engine might have: the suite must notice.


def _biased_variance(monkeypatch: pytest.MonkeyPatch) -> None:
    def batch_norm(x: Array, weight: Array | None, bias: Array | None):
        y, (mean, variance), pull = normalisation.batch_norm(x, weight, bias)
        count = x.size // x.shape[1]
        return y, (mean, variance * ((count - 1) / count)), pull

    monkeypatch.setattr(layers, "batch_norm", batch_norm)


def _pool_counts_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    def average_pool(x: Array, stride: int) -> tuple[Array, pooling.Pull]:
        y, pull = pooling.window_average(pad(x, 1), 3, stride)
        return y, lambda gradient: pull(gradient)[:, :, 1:-1, 1:-1]

    monkeypatch.setattr(layers, "average_pool", average_pool)


def _pair_not_shifted(monkeypatch: pytest.MonkeyPatch) -> None:
    def shifted_pair(x: Array, first: Array, second: Array):
        y, pull = convolution.convolution(x, np.concatenate([first, second]), stride=2)

        def pull_all(gradient: Array) -> tuple[Array, Array, Array]:
            dx, dweight = pull(gradient)
            return dx, dweight[: len(first)], dweight[len(first) :]

        return y, pull_all

    monkeypatch.setattr(layers, "shifted_pair", shifted_pair)


def _edges_swapped(monkeypatch: pytest.MonkeyPatch) -> None:
    class Swapped(cell.Mixture):
        def __init__(self, *arguments) -> None:
            super().__init__(*arguments)
            self.gamma = self.gamma[[1, 0, *range(2, len(self.gamma))]]

    monkeypatch.setattr(network, "Mixture", Swapped)


def _adam_epsilon_before_the_correction(monkeypatch: pytest.MonkeyPatch) -> None:
    def adam(value, first, second, steps, gradient, rate, constants):
        _, first, second = optimizers.adam(value, first, second, steps, gradient, rate, constants)
        beta1, beta2 = constants.betas
        root = (np.sqrt(second) + constants.epsilon) / np.sqrt(1 - beta2**steps)
        return value - rate * first / (1 - beta1**steps) / root, first, second

    monkeypatch.setattr(network, "adam", adam)


def _no_clipping(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "clipped", lambda gradients, clip: dict(gradients))


def _nesterov(monkeypatch: pytest.MonkeyPatch) -> None:
    def sgd(weight, momentum, gradient, rate, constants):
        _, buffer = optimizers.sgd(weight, momentum, gradient, rate, constants)
        looked_ahead = gradient + constants.weight_decay * weight + constants.momentum * buffer
        return weight - rate * looked_ahead, buffer

    monkeypatch.setattr(network, "sgd", sgd)


FAULTS: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], str, str]] = {
    "biased variance": (_biased_variance, "operations", "running_var"),
    "pool counts padding": (_pool_counts_padding, "operations", "logits|gradient/|weights/"),
    "pair not shifted": (_pair_not_shifted, "operations", r"skip_connect\.conv2\.weight"),
    "edges swapped": (_edges_swapped, "arbitrary", "logits|gradient/|weights/"),
    "Adam's epsilon before the bias correction": (_adam_epsilon_before_the_correction, "operations", "architecture/"),
    "no clipping": (_no_clipping, "operations", "weights/"),
    "Nesterov momentum": (_nesterov, "operations", "weights/"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_the_suite_notices(fault: str, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    inject, name, place = FAULTS[fault]
    case = CASES[name]
    # Taken and kept before the fault is there.
    ref64, ref32 = (reference_step(name, p) for p in ("float64", "float32"))
    start = reference_state(name)
    inject(monkeypatch)
    faulty = case.build(reference, precision)
    faulty.import_state(start)
    faulty.step(GROUPS, case.batch(9), RATES, case.temperature)
    with pytest.raises(AssertionError, match=place):
        assert_close(faulty.export_state(), ref64, ref32, precision)
