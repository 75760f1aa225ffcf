"""The cases cover what `dots_core` describes, and are the same every time."""

from __future__ import annotations

import numpy as np
import pytest
from dots_conformance.cases import all_cases, select
from dots_conformance.cases.layers import SIZES
from dots_conformance.rounding import RoundingDraw

from dots_core.engine.protocol import Runtime
from dots_core.errors import UsageError
from dots_core.random import Stream
from dots_core.search_space.named_cells import named_cells
from dots_core.search_space.operations import DARTS, NONE, SKIP

CASES = all_cases()


def test_every_operation_stride_and_size() -> None:
    for operation in DARTS:
        for stride in (1, 2):
            if operation == NONE or (operation, stride) == (SKIP, 1):
                continue
            for place in ("supernet", "derived"):
                for height, width in SIZES:
                    assert f"operations/{operation}-stride{stride}/{place}-{height}x{width}" in CASES


def test_every_published_cell_and_every_group() -> None:
    assert {name for name in CASES if name.startswith("networks/derived/")} >= {
        f"networks/derived/{name.lower()}" for name in named_cells()
    }
    groups = {name.partition("/")[0] for name in CASES}
    assert groups == {"layers", "operations", "networks", "steps", "growth", "search"}
    assert {name.partition("/")[0] for name in select(CASES, quick=True)} == groups


def test_cases_of_another_seed_have_the_same_names_and_other_numbers() -> None:
    other = all_cases(1)
    assert list(other) == list(CASES)
    runtime = Runtime(precision="float64")
    engine = RoundingDraw(0)
    name = "layers/norm/c4-7x9"
    first, again, different = (cases[name].record(engine, runtime).arrays for cases in (CASES, all_cases(), other))
    assert first["output"].tobytes() == again["output"].tobytes()
    assert not np.allclose(first["output"], different["output"])


def test_selecting() -> None:
    assert select(CASES) == CASES
    below = select(CASES, ("layers/norm",))
    assert below
    assert all(name.startswith("layers/norm/") for name in below)
    assert len(select(CASES, ("layers/norm", "search/*"))) == len(below) + len(select(CASES, ("search",)))
    assert 0 < len(select(CASES, quick=True)) < len(CASES) / 2
    with pytest.raises(UsageError, match="no conformance case matches 'layers/nrom'"):
        select(CASES, ("layers/nrom",))


def test_a_draw_moves_its_inputs_by_a_rounding_error() -> None:
    values = Stream(0, "values").normal((1000,)).astype(np.float32)
    assert RoundingDraw(0).moved("x", values) is values
    moved, other = (RoundingDraw(number).moved("x", values) for number in (1, 2))
    assert moved.dtype == np.float32
    assert not np.array_equal(moved, other)
    assert 0 < np.max(np.abs(moved - values) / np.abs(values)) <= 2.0**-22
    coarsely = RoundingDraw(1).moved("x", values, "bfloat16")
    assert 2.0**-10 < np.max(np.abs(coarsely - values) / np.abs(values)) <= 2.0**-8
    labels = np.arange(3)
    assert RoundingDraw(1).moved("labels", labels) is labels
