from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import genotypes, quick

from dots_core.engine.batch import Batch
from dots_core.network.spec import cell_layouts, derived_network
from dots_core.search.drop_path import DropPath, droppable_edges
from dots_core.search_space.genotype import Genotype
from dots_core.search_space.named_cells import named_cell

SPEC = derived_network(named_cell("DARTS_V2"), layers=6, channels=4, input_shape=(3, 8, 8))


def batch(size: int = 64, value: float = 0.0) -> Batch:
    return Batch(np.full((size, 3, 8, 8), value, np.float32), np.full(size, int(value), np.int64))


@quick
@given(genotypes(), st.integers(1, 6))
def test_all_edges_but_identities_may_be_dropped(genotype, layers):
    spec = derived_network(genotype, layers=layers, channels=4, input_shape=(3, 8, 8))
    droppable = droppable_edges(spec)
    for layout in cell_layouts(spec):
        nodes = getattr(genotype, layout.kind)
        edges = [(o, s) for node in nodes for o, s in node]
        identity = [o == "skip_connect" and not (layout.kind == "reduce" and s < 2) for o, s in edges]
        assert droppable[layout.index, : len(edges)].tolist() == [not i for i in identity]
        assert not droppable[layout.index, len(edges) :].any()
    assert droppable.shape == (layers, max(len(spec.cell(x.kind).edges) for x in cell_layouts(spec)))


@pytest.mark.parametrize(("epoch", "probability"), [(1, 0.02), (5, 0.1), (9, 0.18)])
def test_factors(epoch, probability):
    drop = DropPath(SPEC, seed=0, final=0.2, epochs=10)
    droppable = droppable_edges(SPEC)
    factors = np.concatenate([drop(batch(), epoch, step).drop_path for step in range(20)], axis=2)
    assert factors.dtype == np.float32
    assert factors.shape == (*droppable.shape, 64 * 20)
    assert (factors[~droppable] == 1).all()
    kept = np.float32(1 / (1 - probability))
    assert set(np.unique(factors[droppable])) == {0, kept}
    assert (factors[droppable] == 0).mean() == pytest.approx(probability, abs=0.01)
    assert factors[droppable].mean() == pytest.approx(1, abs=0.01)


def test_paths_are_dropped_independently():
    """Of samples, edges, cells, steps and epochs."""
    drop = DropPath(SPEC, seed=0, final=0.5, epochs=2)
    droppable = droppable_edges(SPEC)
    factors = np.stack([drop(batch(256), 1, step).drop_path[droppable] for step in range(4)])
    rows = (factors == 0).reshape(-1, 256).astype(float)
    assert np.abs(np.corrcoef(rows) - np.eye(len(rows))).max() < 0.35
    assert np.abs(rows.mean(axis=1) - 0.25).max() < 0.12
    assert not np.array_equal(drop(batch(), 1, 0).drop_path == 0, drop(batch(), 1, 1).drop_path == 0)
    longer = DropPath(SPEC, seed=0, final=0.5, epochs=4)
    assert not np.array_equal(longer(batch(), 2, 0).drop_path, drop(batch(), 1, 0).drop_path)


def test_the_first_epoch_drops_nothing():
    given_batch = batch()
    assert DropPath(SPEC, 0, 0.2, 10)(given_batch, 0, 3) is given_batch
    assert DropPath(SPEC, 0, 0.0, 10)(given_batch, 9, 3).drop_path is None


def test_only_seed_epoch_and_step_matter():
    drop = DropPath(SPEC, 1, 0.4, 10)
    first = drop(batch(), 4, 7).drop_path
    drop(batch(), 5, 0)
    np.testing.assert_array_equal(drop(batch(value=3.0), 4, 7).drop_path, first)
    np.testing.assert_array_equal(DropPath(SPEC, 1, 0.4, 10)(batch(), 4, 7).drop_path, first)
    np.testing.assert_array_equal(DropPath(SPEC, 1, 0.8, 20)(batch(), 4, 7).drop_path, first)
    for other in (DropPath(SPEC, 2, 0.4, 10)(batch(), 4, 7), drop(batch(), 4, 8)):
        assert not np.array_equal(other.drop_path, first)


def test_the_batch_is_otherwise_untouched():
    given_batch = batch(value=2.0)
    result = DropPath(SPEC, 0, 0.2, 10)(given_batch, 5, 0)
    assert given_batch.drop_path is None
    assert result.images is given_batch.images
    assert result.labels is given_batch.labels


def test_a_cell_of_identities_is_never_dropped():
    skips = ((("skip_connect", 0), ("skip_connect", 1)),)
    spec = derived_network(Genotype(skips, (2,), skips, (2,)), layers=3, channels=2, input_shape=(3, 8, 8))
    assert droppable_edges(spec).tolist() == [[False, False], [True, True], [True, True]]
