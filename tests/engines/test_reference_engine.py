"""The reference engine keeps the promises every engine makes, and the suite that checks them can fail."""

from __future__ import annotations

import numpy as np
import pytest
from dots_conformance.closeness import norm
from dots_conformance.engine_suite import (
    PERTURBED,
    RATES,
    EngineSuite,
    left_out,
    perturbed,
    reference_gradients,
    reference_state,
)
from dots_conformance.networks import CASES, MARGIN, derived_spec, drawn_batch, drawn_weights
from dots_reference import layers, pooling
from dots_reference.engine import engine as reference
from dots_reference.windows import Array, offsets, output_size, pad

from dots_core.engine.protocol import GROUPS, Rates, Setup
from dots_core.errors import CorruptFile, UsageError
from dots_core.search_space.mixing import Temperature
from dots_core.search_space.operations import DARTS, NONE, SKIP


class ReferenceSuite(EngineSuite):
    backend = "reference"
    unsupported_precision = "float8"


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
    assert found.pop_losses().shape == (0, 2)


# The cases


def test_no_compared_gradient_is_nothing() -> None:
    for name in CASES:
        found, _ = reference_gradients(name, "float32")
        case = CASES[name]
        largest = max(norm(value) for key, value in found.items() if key.startswith("gradient/"))
        absent = tuple(f"gradient/{prefix}" for prefix in left_out(case, case.batch()))
        small = [key for key, value in found.items() if norm(value) < 1e-4 * largest]
        assert not [key for key in small if not key.startswith(absent)], name


def test_the_cases_hold_every_operation_in_either_stage() -> None:
    for name in ("operations", "arbitrary"):
        spec = CASES[name].spec
        assert {o for kind in spec.kinds() for e in spec.cell(kind).edges for o in e.operations} == set(DARTS)


def test_hard_samples_choose_every_sort_of_operation() -> None:
    for name in ("hard sampling", "hard partial"):
        case = CASES[name]
        for number in (0, 9):
            draws = case.batch(number).draws
            assert draws is not None
            chosen = [draw.chosen for draw in draws.values()]
            held = {DARTS[column] for mask in chosen if mask is not None for column in np.nonzero(mask)[1]}
            assert held & set(DARTS[1:3])
            assert held & set(DARTS[4:])
            assert {NONE, SKIP} <= held


@pytest.mark.parametrize("name", CASES)
def test_no_compared_pass_is_decided_by_rounding(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Exact zeros and exact ties are no matter of rounding: dropped paths, pixels that ReLU cut off.
    margins: list[float] = []
    real_relu, real_max_pool, real_halving_max = layers.relu, layers.max_pool, layers.halving_max

    def relu(x: Array) -> tuple[Array, pooling.Pull]:
        margins.append(float(np.abs(x[x != 0]).min(initial=1.0)))
        return real_relu(x)

    def max_pool(x: Array, stride: int) -> tuple[Array, pooling.Pull]:
        note_gaps(pad(x, 1, -np.inf), 3, stride)
        return real_max_pool(x, stride)

    def halving_max(x: Array) -> tuple[Array, pooling.Pull]:
        odd = [(0, 0), (0, 0), *((0, size % 2) for size in x.shape[2:])]
        note_gaps(np.pad(x, odd, constant_values=-np.inf), 2, 2)
        return real_halving_max(x)

    def note_gaps(padded: Array, kernel: int, stride: int) -> None:
        places = offsets(kernel, stride, output_size(padded, kernel, stride))
        ordered = np.sort([padded[window] for _, _, window in places], axis=0)
        gaps = ordered[-1] - ordered[-2]
        margins.append(float(gaps[gaps != 0].min(initial=1.0)))

    case = CASES[name]
    found = case.build(reference, "float64")
    state = reference_state(name)
    for attribute, replacement in (("relu", relu), ("max_pool", max_pool), ("halving_max", halving_max)):
        monkeypatch.setattr(layers, attribute, replacement)
    found.gradients(case.batch(), case.temperature)
    found.import_state(state)
    found.gradients(case.batch(9), case.temperature)
    if name == PERTURBED:
        perturbed(found)
    assert min(margins) > MARGIN
