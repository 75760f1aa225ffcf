"""The reference engine computes as if in lower precisions: what is rounded, to what, and what is not."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from dots_conformance.engine_suite import RATES
from dots_conformance.networks import CASES
from dots_reference.engine import engine as reference
from dots_reference.precision import BFLOAT16, FLOAT16, HF32, PRECISIONS, TF32, Format
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dots_core.engine.protocol import GROUPS, Runtime
from dots_core.search_space.layers import Convolution

FORMATS = {"tf32": TF32, "hf32": HF32, "bfloat16": BFLOAT16, "float16": FLOAT16}
BITS = st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=50)
LOWER = [name for name, precision in PRECISIONS.items() if precision.operands is not None]


def floats(bits: list[int]) -> np.ndarray:
    return np.array(bits, np.uint32).view(np.float32)


def literally_rounded(x: float, form: Format) -> float:
    """The nearest multiple of the unit that x's exponent has in a format; Python rounds fractions half to even."""
    if not np.isfinite(x) or x == 0:
        return x
    exponent = max(int(np.frexp(x)[1]) - 1, form.exponents[0])
    unit = Fraction(2) ** (exponent - form.mantissa)
    nearest = round(Fraction(x) / unit) * unit
    if abs(nearest) >= Fraction(2) ** (form.exponents[1] + 1):
        return float(np.copysign(np.inf, x))
    return float(np.copysign(float(nearest), x))


@pytest.mark.parametrize("name", FORMATS)
@given(BITS)
@example([0x7F7FFFFF, 0xFF7FFFFF, 0x7F800000, 0xFF800000, 0x7FFFFFFF, 0xFFFFFFFF, 0x7F800001, 0x80000000, 1])
@example([0x477FEFFF, 0x477FF000, 0x33000000, 0x33000001, 0x33C00000, 0x387FFFFF, 0x38800000])  # float16's borders
def test_rounding_is_to_the_nearest_and_of_two_to_the_even(name: str, bits: list[int]) -> None:
    x = floats(bits)
    with np.errstate(all="ignore"):
        found = FORMATS[name].rounded(x)
        wanted = np.array([literally_rounded(float(value), FORMATS[name]) for value in x])
    assert found.dtype == np.float32
    assert np.array_equal(found, wanted, equal_nan=True)
    assert np.array_equal(np.signbit(found), np.signbit(x))


@given(BITS)
def test_float16_is_numpys(bits: list[int]) -> None:
    x = floats(bits)
    with np.errstate(all="ignore"):
        assert np.array_equal(FLOAT16.rounded(x), x.astype(np.float16).astype(np.float32), equal_nan=True)


@pytest.mark.engine("torch")
@settings(deadline=None)  # torch is imported
@given(BITS)
def test_bfloat16_is_torchs(bits: list[int]) -> None:
    torch = pytest.importorskip("torch")
    x = floats(bits)
    with np.errstate(all="ignore"):
        found = BFLOAT16.rounded(x)
    assert np.array_equal(found, torch.from_numpy(x).bfloat16().float().numpy(), equal_nan=True)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4)])
def test_arrays_that_are_views_and_single_numbers_are_rounded(shape: tuple[int, ...]) -> None:
    x = np.full((*shape, 2), 1.001, np.float32)[..., 0]
    assert np.array_equal(BFLOAT16.rounded(x), np.ones(shape, np.float32))


def convolved(precision: str) -> dict[str, np.ndarray]:
    """What a convolution makes of images at a precision."""
    rng = np.random.default_rng(0)
    images, upstream = (rng.normal(size=shape).astype(np.float32) for shape in ((2, 4, 5, 5), (2, 8, 5, 5)))
    weights = {"c.weight": rng.normal(size=(8, 4, 3, 3)).astype(np.float32)}
    layers = ((Convolution("c", 4, 8, 3, 1, 1),),)
    return reference.run_layers(layers, weights, images, upstream, Runtime(precision=precision))


def error(found: np.ndarray, exact: np.ndarray) -> float:
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))


@pytest.mark.parametrize("precision", LOWER)
def test_errors_are_of_the_size_of_the_format_s_rounding(precision: str) -> None:
    exact, found = convolved("float64"), convolved(precision)
    form = FORMATS[precision]
    unit = 2.0 ** -(form.mantissa + 1)
    for key, value in exact.items():
        assert unit / 8 < error(found[key], value) < 2 * unit, key


@pytest.mark.parametrize("precision", LOWER)
def test_what_is_stored_is_rounded_and_sums_are_not_kept_short(precision: str) -> None:
    found, form = convolved(precision), FORMATS[precision]
    stored = PRECISIONS[precision].storage is not None
    assert {np.array_equal(form.rounded(value), value) for value in found.values()} == {stored}


def test_what_stays_in_float32_below_it() -> None:
    case = CASES["pairs"]
    network = case.build(reference, "bfloat16")
    found = network.gradients(case.batch(), case.temperature, trace=True)
    network.step(GROUPS, case.batch(), RATES, case.temperature)
    state = network.export_state()

    def rounded(arrays: dict[str, np.ndarray]) -> set[str]:
        return {key for key, value in arrays.items() if np.array_equal(BFLOAT16.rounded(value), value)}

    kept = rounded({key: value for key, value in state.items() if not key.startswith("adam.steps/")})
    assert not kept - {key for key, value in state.items() if not value.any()}
    short = rounded({key: value for key, value in found.items() if value.any()})
    assert {key for key in found if key.startswith(("trace", "logits"))} <= short | {
        key for key, value in found.items() if not value.any()
    }
    assert "gradient/stem.conv.weight" in short
    assert not short & {"loss", "gradient/stem.norm.weight", "gradient/alpha.normal", "gradient/beta.normal"}


@pytest.mark.parametrize("name", CASES)
def test_logits_are_as_near_to_those_of_float64_as_the_precision_allows(name: str) -> None:
    case = CASES[name]
    exact = case.build(reference, "float64").gradients(case.batch(), case.temperature)["logits"]
    errors = {
        precision: error(case.build(reference, precision).gradients(case.batch(), case.temperature)["logits"], exact)
        for precision in PRECISIONS
    }
    assert errors["float32"] < min(errors[each] for each in LOWER)
    assert max(errors[each] for each in LOWER if each != "bfloat16") < errors["bfloat16"] < 0.1


def test_the_loss_is_scaled_where_gradients_would_vanish() -> None:
    """In float16 nothing is below 6e-8; the gradients of 4096 times as many samples are."""
    case = CASES["one cell"]
    exact = case.build(reference, "float64").gradients(case.batch(), case.temperature, trace=True)
    found = case.build(reference, "float16").gradients(case.batch(), case.temperature, trace=True)
    for key in ("gradient/images", "gradient/stem.conv.weight", "trace.gradient/stems.0", "gradient/alpha.normal"):
        assert error(found[key], exact[key]) < 0.05, key
