from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import quick, small_network

from dots_core.engine.state import check_state, state_shapes
from dots_core.errors import CorruptFile
from dots_core.network.spec import architecture_shapes, derived_network, statistics_shapes, weight_shapes
from dots_core.search_space.named_cells import named_cell

SPEC = small_network()
KEYS = sorted(state_shapes(SPEC))


def zeros() -> dict[str, np.ndarray]:
    return {
        key: np.zeros(shape, np.int64 if key.startswith("adam.steps/") else np.float32)
        for key, shape in state_shapes(SPEC).items()
    }


def test_the_state_holds_everything_that_training_changes():
    expected = {}
    for name, shape in weight_shapes(SPEC).items():
        expected[f"weights/{name}"] = expected[f"momentum/{name}"] = shape
    for name, shape in statistics_shapes(SPEC).items():
        expected[f"statistics/{name}"] = shape
    for name, shape in architecture_shapes(SPEC).items():
        expected[f"architecture/{name}"] = expected[f"adam.first/{name}"] = expected[f"adam.second/{name}"] = shape
        expected[f"adam.steps/{name}"] = ()
    assert state_shapes(SPEC) == expected
    check_state(SPEC, zeros())


@quick
@given(st.sampled_from(KEYS), st.sampled_from(["missing", "shape", "kind", "unknown"]))
def test_any_difference_is_named(key, fault):
    state = zeros()
    if fault == "unknown":
        state[f"{key}.more"] = state[key]
    else:
        value = state.pop(key)
        if fault == "shape":
            state[key] = np.zeros((*value.shape, 1), value.dtype)
        if fault == "kind":
            state[key] = value.astype(np.float32 if value.dtype.kind == "i" else np.int64)
    with pytest.raises(CorruptFile, match=f"'{key}"):
        check_state(SPEC, state)


def test_the_state_of_an_imagenet_head_with_a_second_norm_is_refused_by_its_name():
    """Networks were once built with it; what it learned has no place any more."""
    spec = derived_network(named_cell("DARTS_V2"), 3, 4, 5, (3, 33, 33), "imagenet", auxiliary=True)
    state = {key: np.zeros(shape) for key, shape in state_shapes(spec).items()}
    check_state(spec, state)
    state |= {f"statistics/auxiliary.norm2.{name}": np.zeros(768) for name in ("running_mean", "running_var")}
    with pytest.raises(CorruptFile, match=r"auxiliary\.norm2\.running_mean', which the network does not have"):
        check_state(spec, state)
