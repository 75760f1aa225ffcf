"""What passes and what does not."""

from __future__ import annotations

import numpy as np
import pytest
from dots_conformance.closeness import FAIL, ILL, PASS, judge
from dots_conformance.thresholds import CAPPED, ELEMENT, FLOORS, GROWTH, MOVES, MULTIPLE
from hypothesis import given
from hypothesis import strategies as st

RNG = np.random.default_rng(0)
EXACT = RNG.normal(size=(40, 25))


def one(found, exact=EXACT, draws=None, key="output", precision="float32"):
    """Judge one tensor."""
    draws = [exact.astype(np.float32)] if draws is None else draws
    (verdict,) = judge({key: found}, {key: exact}, [{key: draw} for draw in draws], precision)
    return verdict


def shifted(relative: float, seed: int = 0) -> np.ndarray:
    """EXACT plus noise of a relative norm."""
    noise = np.random.default_rng(seed).normal(size=EXACT.shape)
    return EXACT + relative * np.linalg.norm(EXACT) / np.linalg.norm(noise) * noise


def test_the_same_passes() -> None:
    verdict = one(EXACT)
    assert (verdict.verdict, verdict.multiple, verdict.relative) == (PASS, 0.0, 0.0)
    assert verdict.cosine == pytest.approx(1.0)


@given(st.sampled_from(["float64", "float32", "tf32", "float16", "bfloat16"]), st.integers(0, 1000))
def test_the_floor_is_the_border(precision: str, seed: int) -> None:
    floor = FLOORS[precision][0]
    draws = [EXACT]  # no rounding at all: only the floor counts
    assert one(shifted(0.9 * floor, seed), draws=draws, precision=precision).verdict == PASS
    verdict = one(shifted(1.2 * floor, seed), draws=draws, precision=precision)
    assert verdict.verdict == FAIL
    assert verdict.multiple == pytest.approx(1.2, rel=0.05)


def test_the_budget_grows_with_what_float32_is_away() -> None:
    draws = [shifted(1e-4, 1), shifted(3e-4, 2)]
    assert one(shifted(0.9 * MULTIPLE * 3e-4), draws=draws).verdict == PASS
    assert one(shifted(1.1 * MULTIPLE * 3e-4), draws=draws).verdict == FAIL


def test_a_tensor_of_zeros_fails_however_coarse_the_precision() -> None:
    draws = [shifted(0.3)]
    assert one(0 * EXACT, draws=draws, precision="bfloat16").verdict == FAIL
    assert one(shifted(0.85), draws=draws, precision="bfloat16").verdict == PASS
    assert one(shifted(0.45), draws=[shifted(0.1)], precision="bfloat16").verdict == PASS


def test_gradients_have_a_floor_of_their_own() -> None:
    between = (FLOORS["float32"][0] + FLOORS["float32"][1]) / 2
    assert one(shifted(between), key="output").verdict == FAIL
    assert one(shifted(between), key="gradient/x").verdict == PASS
    assert one(shifted(between), key="momentum/x").verdict == PASS


def test_a_single_wrong_element_in_a_large_tensor() -> None:
    exact = np.full(4_000_000, 1e-3)
    exact[:1000] = 1e3  # nearly all of the norm
    found = exact.copy()
    found[2_000_000] = 5 * ELEMENT * FLOORS["float32"][0] * np.linalg.norm(exact) / 2000
    verdict = one(found, exact, draws=[exact])
    assert verdict.verdict == FAIL
    assert verdict.index == (2_000_000,)
    assert verdict.value == found[2_000_000]
    assert verdict.expected == 1e-3
    assert "element" in verdict.reason


@given(st.sampled_from([np.nan, np.inf, -np.inf]), st.integers(0, EXACT.size - 1))
def test_non_finite_values_must_stand_in_the_same_places(value: float, place: int) -> None:
    broken = EXACT.copy()
    broken.flat[place] = value
    verdict = one(broken)
    assert verdict.verdict == FAIL
    assert verdict.multiple == np.inf
    assert verdict.index == np.unravel_index(place, EXACT.shape)
    assert one(EXACT, broken, [broken]).verdict == FAIL
    assert one(broken, broken, [broken]).verdict == PASS


def test_what_float32_cannot_tell_is_reported_not_passed() -> None:
    verdict = one(EXACT, draws=[shifted(0.05)])
    assert verdict.verdict == ILL
    assert "the reference itself is 0.05 away in float32" in verdict.reason
    # Below float32 all is judged that the reference computes to a half.
    assert one(EXACT, draws=[shifted(0.4)], precision="bfloat16").verdict == PASS
    assert one(EXACT, draws=[shifted(0.6)], precision="bfloat16").verdict == ILL


def test_what_the_reference_cannot_compute_at_all_is_not_judged() -> None:
    broken = EXACT.copy()
    broken[3, 4] = np.inf
    assert one(EXACT, draws=[broken], precision="float16").verdict == ILL
    assert one(broken, draws=[broken], precision="float16").verdict == ILL
    assert one(broken, draws=[EXACT], precision="float16").verdict == FAIL


def test_a_tensor_that_is_small_among_its_sort_is_judged_by_what_it_is_away() -> None:
    exact = {"gradient/large": EXACT, "gradient/small": 1e-2 * EXACT}
    draws = [{"gradient/large": shifted(0.01), "gradient/small": 1e-2 * shifted(2.0)}]

    def verdict(relative: float) -> str:
        found = {"gradient/large": EXACT, "gradient/small": 1e-2 * shifted(relative, 3)}
        return {v.key: v.verdict for v in judge(found, exact, draws, "bfloat16")}["gradient/small"]

    assert (verdict(0.9 * CAPPED * 2.0), verdict(1.1 * CAPPED * 2.0)) == (PASS, FAIL)


def test_a_gradient_that_is_nothing_but_rounding() -> None:
    exact = {"gradient/large": EXACT, "gradient/nothing": 1e-12 * EXACT}
    draws = [{"gradient/large": EXACT, "gradient/nothing": 1e-9 * RNG.normal(size=EXACT.shape)}]
    found = {"gradient/large": EXACT, "gradient/nothing": 1e-9 * RNG.normal(size=EXACT.shape)}
    assert {v.verdict for v in judge(found, exact, draws, "float32")} <= {PASS, ILL}
    zero = {"gradient/large": EXACT, "gradient/zero": np.zeros(3)}
    assert {v.verdict for v in judge(zero, zero, [zero], "float32")} == {PASS}
    wrong = {**zero, "gradient/zero": np.full(3, 0.1)}
    assert judge(wrong, zero, [zero], "float32")[0].verdict == FAIL


def test_a_weight_that_adam_moves_by_the_sign_of_rounding_is_not_compared() -> None:
    moment = np.array([1.0, -1.0, 0.02, 0.0])
    exact = {"architecture/a": np.ones(4), "adam.first/a": moment}
    draws = [{**exact, "adam.first/a": moment * (1 + 0.01 * np.array([1, -1, 1, 1]))}]

    def judged(place: int, turned: float, precision: str = "bfloat16") -> str:
        found = {key: value.copy() for key, value in exact.items()}
        found["architecture/a"][place] += 0.2
        found["adam.first/a"][place] = turned
        return {v.key: v.verdict for v in judge(found, exact, draws, precision)}["architecture/a"]

    assert judged(2, -0.01) == PASS
    assert judged(2, -0.01, "float32") == judged(2, -0.01, "float64") == FAIL
    assert judged(2, 0.01) == FAIL  # it did not turn
    for place in (0, 1, 3):
        assert judged(place, -0.01) == FAIL  # rounding cannot have turned it


def test_what_is_kept_in_float32_has_a_floor_of_its_own_below_it() -> None:
    floor = MOVES * FLOORS["bfloat16"][0]
    for key in ("weights/x", "architecture/x", "loss/x", "evaluation/x"):
        assert one(shifted(0.9 * floor), key=key, precision="bfloat16").verdict == PASS
        assert one(shifted(1.1 * floor), key=key, precision="bfloat16").verdict == FAIL
    assert one(shifted(1.1 * floor), key="statistics/x", precision="bfloat16").verdict == PASS
    assert one(shifted(0.9 * FLOORS["float32"][0]), key="weights/x").verdict == PASS


def test_keys_shapes_and_integers() -> None:
    exact = {"output": EXACT, "count/steps": np.array(3)}
    verdicts = judge({"output": EXACT.T, "count/steps": np.array(4), "extra": EXACT}, exact, [exact], "float32")
    reasons = {v.key: v.reason for v in verdicts}
    assert {v.verdict for v in verdicts} == {FAIL}
    assert "shape" in reasons["output"]
    assert "4" in reasons["count/steps"]
    assert "no such tensor" in reasons["extra"]
    (lacking,) = (v for v in judge({"output": EXACT}, exact, [exact], "float32") if v.key == "count/steps")
    assert "did not return" in lacking.reason


def test_trajectories_may_drift_as_float32_has_drifted_so_far() -> None:
    steps = [f"growth.loss/{n:03}" for n in range(4)]
    exact = {key: np.asarray(1.0) for key in steps}
    away = dict(zip(steps, (0.0, 1e-3, 1e-6, 1e-6), strict=True))
    draws = [{key: np.asarray(1.0 + away[key]) for key in steps}]
    found = {key: np.asarray(1.0 + 0.9 * GROWTH * 1e-3) for key in steps}
    verdicts = {v.key: v.verdict for v in judge(found, exact, draws, "float32")}
    assert verdicts == dict(zip(steps, (FAIL, PASS, PASS, PASS), strict=True))


def test_the_worst_come_first() -> None:
    exact = {f"output/{n}": EXACT for n in range(4)}
    found = {f"output/{n}": shifted(1e-5 * (n + 0.5)) for n in range(4)}
    verdicts = judge(found, exact, [exact], "float32")
    assert [v.key for v in verdicts] == ["output/3", "output/2", "output/1", "output/0"]


@given(st.permutations(range(4)))
def test_the_order_in_which_arrays_are_stored_does_not_matter(order) -> None:
    exact = {f"growth.loss/{n:03}": np.asarray(1.0) for n in order}
    draws = [{key: np.asarray(1.0 + 10.0 ** (int(key[-3:]) - 6)) for key in exact}]
    found = {key: np.asarray(1.0 + 0.5 * GROWTH * 10.0 ** (int(key[-3:]) - 6)) for key in exact}
    found["growth.loss/000"] = np.asarray(1.0 + FLOORS["float32"][2] * 2)
    verdicts = judge(found, exact, draws, "float32")
    assert [v.key for v in verdicts if v.verdict == FAIL] == ["growth.loss/000"]
    again = judge(dict(sorted(found.items())), dict(sorted(exact.items())), draws, "float32")
    assert [v.key for v in verdicts] == [v.key for v in again]
