"""The weights with which a node was summed are told from the sum, however the operations' outputs lie."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from dots_conformance.locate import locate
from dots_conformance.networks import CASES
from dots_conformance.snapshot import NetworkSnapshot
from dots_conformance.sums import _Term, _weighed_wrongly
from faults import FAULTS, faulty_engine
from numpy.typing import NDArray

from dots_core.engine.protocol import Engine, Runtime
from dots_core.random import Stream

TOLERANCE = 1e-5
RIGHT = np.array([0.3, 5e-4, 0.7, 1.0])


def outputs() -> NDArray[np.float64]:
    """Four outputs of 200 elements, of very different sizes."""
    return Stream(0, "sums").normal((4, 200)) * np.array([1.0, 30.0, 0.1, 2.0])[:, None]


def said(columns: NDArray[np.float64], used: NDArray[np.float64], noise: int = 0) -> tuple[list[str], bool]:
    """What is said of a sum in float32, rounded in one way or another, that should have the weights `RIGHT`."""
    rounding = 1 + 2.0**-23 * (2 * Stream(noise, "rounding").uniform((columns.shape[1],)) - 1)
    terms = [_Term(f"{n}", column, weight) for n, (column, weight) in enumerate(zip(columns, RIGHT, strict=True))]
    off, explained = _weighed_wrongly(terms, (used @ columns) * rounding, TOLERANCE)
    return [text for _, text in sorted(off, reverse=True)], explained


@pytest.mark.parametrize("noise", range(5))
@pytest.mark.parametrize("wrong", range(4))
def test_one_wrong_weight_is_named_alone_however_small_it_is(wrong: int, noise: int) -> None:
    used = RIGHT.copy()
    used[wrong] *= 1.5
    texts, explained = said(outputs(), used, noise)
    assert explained
    assert len(texts) == 1
    assert texts[0].startswith(f"{wrong} weighs {used[wrong]:.4g}"), texts


@pytest.mark.parametrize("noise", range(5))
def test_two_exchanged_weights_are_both_named(noise: int) -> None:
    texts, explained = said(outputs(), RIGHT[[3, 1, 2, 0]], noise)
    assert explained
    assert {text.partition(" ")[0] for text in texts} == {"0", "3"}


@pytest.mark.parametrize("noise", range(5))
def test_outputs_that_are_nearly_alike_do_not_blur_the_others(noise: int) -> None:
    columns = outputs()
    columns[1] = columns[0] * (1 + 1e-7 * Stream(1, "alike").normal((200,)))
    used = RIGHT.copy()
    used[2] *= 2
    texts, explained = said(columns, used, noise)
    assert explained
    assert [text.partition(" ")[0] for text in texts] == ["2"]
    used = RIGHT.copy()
    used[0] *= 2
    texts, explained = said(columns, used, noise)
    assert explained
    assert texts == ["0 and 1, which are nearly alike, weigh too much or too little together"]


def test_a_right_sum_and_one_that_no_weights_explain() -> None:
    assert said(outputs(), RIGHT) == ([], True)
    terms = [_Term("0", outputs()[0], 0.3)]
    _, explained = _weighed_wrongly(terms, Stream(2, "another").normal((200,)), TOLERANCE)
    assert not explained


@cache
def swapped(folder: Path) -> Engine:
    return faulty_engine("dots_reference", FAULTS["edges of a reduction cell swapped"], folder, "swapped_edges")


@pytest.mark.parametrize(("seed", "steps"), [(5, 0), (6, 2), (7, 1), (8, 2)])
def test_exchanged_edges_are_named_whatever_the_weights_and_images(
    seed: int, steps: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    engine = swapped(tmp_path_factory.getbasetemp())
    snapshot = NetworkSnapshot.of(replace(CASES["pairs"], seed=seed), steps)
    finding = locate(engine, snapshot, Runtime(precision="float32"))
    assert finding is not None
    assert finding.place == "cell 1 (reduce), node 2"
    assert "edge 1-2, sep_conv_5x5 weighs" in finding.explanation
