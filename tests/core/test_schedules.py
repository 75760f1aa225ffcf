from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import quick

from dots_core.errors import UsageError
from dots_core.plan.schedules import (
    Constant,
    Cosine,
    Exponential,
    Linear,
    LinearDecay,
    Warmup,
    rate_schedule,
    temperature_schedule,
)

rates = st.floats(0.001, 10)


@pytest.mark.parametrize(
    ("start", "rate", "epochs", "end"),
    [(10, 0.72, 20, 0.0195), (10, 0.65, 10, 0.207), (10, 0.75, 15, 0.178), (10, 0.64, 15, 0.0193)],
)
def test_printed_ends_of_annealing(start, rate, epochs, end):
    schedule = temperature_schedule("exponential", start, rate, 0.0)
    assert schedule.at(0, epochs) == start
    assert schedule.at(epochs - 1, epochs) == pytest.approx(end, rel=0.005)


def test_exponential_is_the_formula_down_to_its_floor():
    schedule = Exponential(10.0, 0.5, 1.0)
    assert [schedule.at(t, 99) for t in range(6)] == [10, 5, 2.5, 1.25, 1, 1]
    assert Exponential(10.0, 0.5).at(5, 99) == 10 / 32


@quick
@given(rates, st.floats(0.1, 1), rates, st.floats(1e-4, 1), st.integers(0, 60), st.integers(0, 2))
def test_scaled_is_everywhere_that_much_smaller(start, rate, floor, factor, epoch, kind):
    schedule = (Exponential(start, rate, floor), Linear(start, floor), Constant(start))[kind]
    assert schedule.scaled(factor).at(epoch, 60) == pytest.approx(factor * schedule.at(epoch, 60))


def test_cosine_of_the_search():
    schedule = Cosine(0.025, 0.001)
    assert schedule.at(0, 70) == 0.025
    assert schedule.at(35, 70) == pytest.approx(0.013)
    assert schedule.at(70, 70) == pytest.approx(0.001)
    assert schedule.at(10, 70) == pytest.approx(0.001 + 0.012 * (1 + math.cos(math.pi / 7)))
    assert Cosine(0.025).at(600, 600) == pytest.approx(0.0, abs=1e-12)


@quick
@given(rates, st.integers(1, 50), st.sampled_from(["cosine", "linear", "exponential"]))
def test_schedules_fall_monotonically_between_their_ends(start, epochs, kind):
    end = start / 10
    schedule = {
        "cosine": Cosine(start, end),
        "linear": Linear(start, end),
        "exponential": Exponential(start, 0.9, end),
    }[kind]
    values = [schedule.at(epoch, epochs) for epoch in range(epochs)]
    assert values[0] == pytest.approx(start)
    assert all(a > b or b == pytest.approx(end) for a, b in pairwise(values))
    assert min(values) >= end * (1 - 1e-9)


def test_linear_reaches_its_end_in_the_last_epoch():
    schedule = Linear(10.0, 0.1)
    assert schedule.at(0, 34) == 10.0
    assert schedule.at(33, 34) == pytest.approx(0.1)
    assert schedule.at(11, 34) == pytest.approx(6.7)
    assert schedule.at(0, 1) == 10.0


def test_linear_decay_falls_by_equal_steps_and_no_epoch_is_spent_at_its_end():
    schedule = LinearDecay(0.5)
    assert [schedule.at(t, 5) for t in range(5)] == pytest.approx([0.5, 0.4, 0.3, 0.2, 0.1])
    assert LinearDecay(1.0, 0.2).at(4, 4) == pytest.approx(0.2)


@quick
@given(rates, st.integers(1, 20), st.integers(0, 30), st.sampled_from(["cosine", "linear", "constant"]))
def test_a_warm_up_rises_to_the_schedule_and_follows_it(start, warmup, more, kind):
    schedule, warmed = rate_schedule(kind, start, start / 9), rate_schedule(kind, start, start / 9, warmup)
    epochs = warmup + more
    for epoch in range(epochs):
        share = (epoch + 1) / warmup if epoch + 1 < warmup else 1
        assert warmed.at(epoch, epochs) == pytest.approx(share * schedule.at(epoch, epochs))
        assert warmed.at(epoch, epochs) > 0


def test_names_of_schedules_of_learning_rates():
    assert rate_schedule("cosine", 0.1, 0.01) == Cosine(0.1, 0.01)
    assert rate_schedule("linear", 0.1, 0.01) == LinearDecay(0.1, 0.01)
    assert rate_schedule("constant", 0.1, 0.01, 5) == Warmup(Constant(0.1), 5)
    with pytest.raises(UsageError, match="unknown schedule of a learning rate 'step'; known: constant, linear, cosine"):
        rate_schedule("step", 0.1, 0.01)


def test_constant():
    assert [Constant(2.0).at(epoch, 9) for epoch in (0, 5, 8)] == [2.0, 2.0, 2.0]


def test_names_of_temperature_schedules():
    assert temperature_schedule("constant", 2.0, 0.5, 0.1) == Constant(2.0)
    assert temperature_schedule("exponential", 2.0, 0.5, 0.1) == Exponential(2.0, 0.5, 0.1)
    assert temperature_schedule("exponential", 2.0, 1.0, 0.0) == Exponential(2.0, 1.0)
    assert temperature_schedule("linear", 2.0, 0.5, 0.1) == Linear(2.0, 0.1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("cosine", 1.0, 1.0, 1.0), "unknown temperature schedule 'cosine'.*; known: constant"),
        (("constant", 0.0, 1.0, 1.0), "does not stay positive"),
        (("constant", -1.0, 1.0, 1.0), "does not stay positive"),
        (("linear", 1.0, 1.0, 0.0), "does not stay positive"),
        (("exponential", 1.0, 0.0, 0.0), "does not stay positive"),
        (("exponential", 1.0, 1.1, 0.0), "does not stay positive"),
        (("exponential", 0.0, 0.9, 0.0), "does not stay positive"),
    ],
)
def test_impossible_temperatures_are_refused(arguments, message):
    with pytest.raises(UsageError, match=message):
        temperature_schedule(*arguments)
