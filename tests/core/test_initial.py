from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import quick, small_network

from dots_core.network.initialisation import initial_architecture, initial_statistics, initial_weights
from dots_core.network.spec import architecture_shapes, statistics_shapes, weight_shapes
from dots_core.random import Stream
from dots_core.search_space.cell import CellSpec, search_cell
from dots_core.search_space.edge import Edge
from dots_core.search_space.operations import DARTS, in_order
from dots_core.search_space.operations.draws import drawn_by_operation
from dots_core.search_space.topology import Topology

SPEC = small_network(search_cell(2, groups="group-v1", topology=Topology("k-edges")), auxiliary=True)
PINNED_WEIGHTS = ["-0x1.2228f60000000p-6", "-0x1.9f94260000000p-8"]
PINNED_ALPHA = [-0.0016285113524645567, -0.0002290805132361129, -0.0003256510244682431]
PINNED_BETA = [-0.0005656081484630704, 0.0024177462328225374]


def test_every_weight_is_drawn_in_its_shape():
    for draw, shapes in (
        (initial_weights(SPEC, 0), weight_shapes(SPEC)),
        (initial_statistics(SPEC), statistics_shapes(SPEC)),
        (initial_architecture(SPEC, 0), architecture_shapes(SPEC)),
    ):
        assert {name: value.shape for name, value in draw.items()} == shapes
        assert all(value.dtype == np.float32 for value in draw.values())


def test_weights_fill_one_over_the_root_of_fan_in():
    weights = initial_weights(SPEC, 0)
    for name, value in weights.items():
        if "norm" in name:
            assert (value == (1.0 if name.endswith("weight") else 0.0)).all(), name
            continue
        layer = name.rpartition(".")[0]
        fan_in = weights[f"{layer}.weight"][0].size
        bound = 1 / np.sqrt(fan_in)
        assert np.abs(value).max() <= bound * (1 + 1e-6), name
        if value.size >= 64:
            assert np.abs(value).max() > 0.85 * bound, name
        if value.size >= 1000:
            assert abs(value.mean()) < 0.1 * bound, name
            assert value.std() == pytest.approx(bound / np.sqrt(3), rel=0.1), name


def test_fan_in_is_that_of_the_group():
    """A depthwise 3×3 weight hears 9 numbers, however many channels there are."""
    weights = initial_weights(small_network(channels=32), 0)
    depthwise = weights["cells.0.edges.0-2.sep_conv_3x3.depthwise1.weight"]
    assert 0.9 / 3 < np.abs(depthwise).max() <= 1 / 3


def test_statistics_start_as_the_identity():
    for name, value in initial_statistics(SPEC).items():
        assert (value == (0.0 if name.endswith("running_mean") else 1.0)).all()


def test_only_seed_salt_and_name_matter():
    name = "cells.0.edges.0-2.sep_conv_3x3.pointwise1.weight"
    value = initial_weights(SPEC, 3, "search")[name]
    pruned = search_cell(2, operations=("sep_conv_3x3",))
    for other in (
        dataclasses.replace(SPEC, auxiliary=False, layers=5, head_norm=True),
        dataclasses.replace(SPEC, normal=pruned, reduce=pruned),
    ):
        np.testing.assert_array_equal(initial_weights(other, 3, "search")[name], value)
    assert not np.array_equal(initial_weights(SPEC, 4, "search")[name], value)
    assert not np.array_equal(initial_weights(SPEC, 3, "topology")[name], value)
    assert not np.array_equal(initial_weights(SPEC, 3)[name], value)
    assert not np.array_equal(initial_weights(SPEC, 3, "search")[name.replace("wise1", "wise2")], value)


def test_architecture_depends_on_seed_and_salt():
    first = initial_architecture(SPEC, 3, "search")
    again = initial_architecture(dataclasses.replace(SPEC, layers=8), 3, "search")
    for name, value in first.items():
        np.testing.assert_array_equal(again[name], value)
        assert not np.array_equal(initial_architecture(SPEC, 4, "search")[name], value)
        assert not np.array_equal(initial_architecture(SPEC, 3, "topology")[name], value)
    assert not np.array_equal(first["alpha.normal"], first["alpha.reduce"])
    assert not np.array_equal(first["beta.normal"], first["beta.reduce"])


def test_absent_operations_are_zero_and_present_ones_are_not():
    edges = (Edge(0, 2, (("none", "sep_conv_3x3"),)), Edge(1, 2, (("skip_connect", "dil_conv_5x5"),)))
    spec = small_network(CellSpec(1, edges, (2,)))
    mask = spec.normal.operation_groups.mask
    assert not mask.all()
    alpha = initial_architecture(spec, 0)["alpha.normal"]
    assert (alpha[~mask] == 0).all()
    assert (alpha[mask] != 0).all()


def test_scale():
    spec = small_network(search_cell(4, topology=Topology("arbitrary")))
    values = initial_architecture(spec, 0, scale=0.5)
    assert np.concatenate([v.ravel() for v in values.values()]).std() == pytest.approx(0.5, rel=0.15)
    usual = initial_architecture(spec, 0)
    for name, value in values.items():
        np.testing.assert_allclose(usual[name] * 500, value, rtol=1e-5)
        assert (initial_architecture(spec, 0, scale=0)[name] == 0).all()


def test_values_are_pinned():
    """Runs of any release begin alike."""
    first = initial_weights(SPEC, 0, "search")["stem.conv.weight"].ravel()[:2]
    alpha = initial_architecture(SPEC, 0, "search")["beta.normal"][:2]
    assert [float(x).hex() for x in first] == PINNED_WEIGHTS
    np.testing.assert_allclose(alpha, PINNED_BETA, rtol=1e-6)


ALPHA = Stream(3, "architecture/search/alpha.normal")
"""What the operations of DARTS are drawn from."""


def test_what_the_operations_of_darts_draw_is_pinned():
    """Runs of any release begin alike."""
    spec = small_network(search_cell(2))
    alpha = initial_architecture(spec, 3, "search")["alpha.normal"]
    np.testing.assert_array_equal(alpha, (1e-3 * ALPHA.normal((5, 8))).astype(np.float32))
    np.testing.assert_allclose(alpha[0, :3], PINNED_ALPHA, rtol=1e-6)


@quick
@given(st.sets(st.sampled_from([*DARTS, "bottleneck", "sep_conv_7x7"]), min_size=1), st.integers(0, 9), st.booleans())
def test_what_an_operation_draws_depends_on_no_other_candidate(candidates, seed, normal):
    draw = Stream.normal if normal else Stream.uniform
    whole = in_order([*DARTS, "bottleneck", "sep_conv_7x7"])
    together = drawn_by_operation(draw, seed, "stream", 5, whole)
    found = drawn_by_operation(draw, seed, "stream", 5, in_order(candidates))
    np.testing.assert_array_equal(found, together[:, [whole.index(o) for o in in_order(candidates)]])
    assert len(np.unique(together)) == together.size
    np.testing.assert_array_equal(together[:, :8], draw(Stream(seed, "stream"), (5, 8)))
