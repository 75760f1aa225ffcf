"""Gumbel noise is Gumbel noise, and what is sampled by it is distributed as α says."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import quick, small_network

from dots_core.network.spec import NetworkSpec
from dots_core.search.sampling import Sampler
from dots_core.search_space.cell import CellSpec, search_cell
from dots_core.search_space.mixing import gumbel
from dots_core.search_space.operations import DARTS, NONE
from dots_core.search_space.topology import Topology

seeds = st.integers(0, 2**31 - 1)
groups = st.sampled_from(["single", "group-v1", "group-v2"])
MANY = 400
"""Steps that are drawn where frequencies are counted."""


def network(cell: CellSpec) -> NetworkSpec:
    return small_network(cell)


def sampled(sampling: str, groups: str = "single", nodes: int = 2, **fields) -> NetworkSpec:
    return network(search_cell(nodes, groups=groups, sampling=sampling, **fields))


def architecture(spec: NetworkSpec, seed: int) -> dict[str, np.ndarray]:
    source = np.random.RandomState(seed)
    return {f"alpha.{kind}": source.normal(size=spec.cell(kind).operation_groups.shape) for kind in spec.kinds()}


def noise(spec: NetworkSpec, steps: int = MANY, seed: int = 0) -> np.ndarray:
    """All the noise of some steps that is added to a logit."""
    sampler = Sampler(spec, seed, "test")
    values = []
    for step in range(steps):
        for kind, draw in sampler.draw({}, step // 50, step % 50).items():
            values.append(draw.noise[spec.cell(kind).operation_groups.mask])
    return np.concatenate(values).astype(np.float64)


# The distribution


def test_gumbel_numbers_invert_the_distribution_function():
    """F(x) = exp(−exp(−x)): the number of u is where F is u."""
    uniform = np.linspace(0.001, 0.999, 101)
    np.testing.assert_allclose(np.exp(-np.exp(-gumbel(uniform))), uniform, rtol=1e-12)
    assert (np.diff(gumbel(uniform)) > 0).all()


@pytest.mark.parametrize("extreme", [0.0, 2.0**-53, 1 - 2.0**-53])
def test_the_ends_of_the_uniform_numbers_are_finite(extreme):
    """−log(−log 0) is infinite, and 0 can be drawn."""
    value = gumbel(np.array([extreme]))
    assert np.isfinite(value.astype(np.float32)).all()
    assert -4 < value[0] < 40


def test_moments():
    """Mean γ = 0.5772…, variance π²/6, skewness 12√6·ζ(3)/π³ of the standard Gumbel distribution."""
    values = noise(sampled("soft"))
    count, spread = len(values), math.pi / math.sqrt(6)
    assert count > 30_000
    centred = values - np.euler_gamma
    assert abs(centred.mean()) < 4 * spread / math.sqrt(count)
    # The fourth central moment of a Gumbel number is 27/5 times its squared variance.
    assert abs((centred**2).mean() - spread**2) < 4 * spread**2 * math.sqrt(4.4 / count)
    assert (centred**3).mean() / spread**3 == pytest.approx(1.13955, abs=0.1)


def test_kolmogorov_smirnov():
    """The empirical distribution function is nowhere farther from exp(−exp(−x)) than chance explains (p = 0.001)."""
    values = np.sort(noise(sampled("soft")))
    count = len(values)
    cumulative = np.exp(-np.exp(-values))
    above = (np.arange(1, count + 1) / count - cumulative).max()
    below = (cumulative - np.arange(count) / count).max()
    assert max(above, below) < 1.95 / math.sqrt(count)


def test_numbers_of_neighbouring_entries_steps_and_epochs_are_unrelated():
    spec = sampled("soft")
    sampler = Sampler(spec, 0, "test")
    drawn = np.stack([sampler.draw({}, step // 20, step % 20)["normal"].noise.ravel() for step in range(MANY)])
    drawn = drawn.astype(np.float64)
    assert len(np.unique(drawn)) > 0.999 * drawn.size
    for one, other in ((drawn[:, 1:], drawn[:, :-1]), (drawn[1:], drawn[:-1]), (drawn[20:], drawn[:-20])):
        correlation = np.corrcoef(one.ravel(), other.ravel())[0, 1]
        assert abs(correlation) < 4 / math.sqrt(one.size)


# What a draw depends on


@quick
@given(seeds, st.integers(0, 500), st.integers(0, 2000), st.sampled_from(["soft", "hard"]), groups)
def test_a_draw_is_a_function_of_seed_salt_epoch_and_step(seed, epoch, step, sampling, grouping):
    spec = sampled(sampling, grouping)
    alpha = architecture(spec, seed)

    def bytes_of(seed: int = seed, salt: str = "op/search/0", epoch: int = epoch, step: int = step) -> dict[str, bytes]:
        sampler = Sampler(spec, seed, salt)
        # Draws made before do not matter.
        sampler.draw(alpha, 7, 8)
        return {kind: draw.noise.tobytes() for kind, draw in sampler.draw(alpha, epoch, step).items()}

    once = bytes_of()
    assert once == bytes_of()
    assert set(once) == {"normal", "reduce"}
    assert once["normal"] != once["reduce"]
    others = [
        bytes_of(seed=seed + 1),
        bytes_of(salt="op/search/1"),
        bytes_of(epoch=epoch + 1),
        bytes_of(step=step + 1),
        bytes_of(epoch=step, step=epoch) if epoch != step else {},
    ]
    assert all(once.get(kind) != other.get(kind) for other in others for kind in once)


@quick
@given(seeds, groups, st.booleans())
def test_absent_operations_get_no_noise(seed, grouping, attention):
    operations = tuple(o for o in DARTS if o not in (NONE, "sep_conv_5x5"))
    offsets = (("sep_conv_3x3", 3.0),) if attention else ()
    cell = search_cell(2, operations, grouping, sampling="soft", attention=offsets)
    draw = Sampler(network(cell), seed, "test").draw({}, 0, 0)["normal"]
    assert draw.chosen is None
    assert draw.noise.dtype == np.float32
    assert draw.noise.shape == cell.operation_groups.shape
    assert (draw.noise[~cell.operation_groups.mask] == 0).all()
    assert (draw.noise[cell.operation_groups.mask] != 0).all()


def test_nothing_is_drawn_where_nothing_is_sampled():
    sampler = Sampler(sampled("none"), 0, "test")
    assert not sampler.hard
    assert sampler.draw({}, 0, 0) is None
    assert sampler.most_likely({}) is None


def test_one_cell_type_may_be_sampled_alone():
    hard, plain = search_cell(2, sampling="hard"), search_cell(2)
    sampler = Sampler(NetworkSpec(plain, hard, 3, 4, 3, (3, 8, 8)), 0, "test")
    assert sampler.hard
    assert set(sampler.draw({"alpha.reduce": np.zeros((5, 8))}, 0, 0)) == {"reduce"}


# Hard samples


def literal_choice(cell: CellSpec, alpha: np.ndarray, noise: np.ndarray) -> set[tuple[int, str]]:
    """The operation with the largest α′ + constant + noise of each group of each edge."""
    constants = dict(cell.attention)
    chosen = set()
    for row, edge in enumerate(cell.edges):
        for group in edge.groups:
            best = None
            for operation in DARTS:
                if operation in group:
                    column = cell.column(operation)
                    value = np.float32(np.float32(alpha[row, column]) + np.float32(constants.get(operation, 0.0)))
                    value = value + noise[row, column]
                    if best is None or value > best[0]:
                        best = value, operation
            chosen.add((row, best[1]))
    return chosen


@quick
@given(seeds, groups, st.booleans(), st.integers(1, 4))
def test_one_operation_of_each_group_is_chosen(seed, grouping, attention, nodes):
    offsets = (("sep_conv_3x3", 0.5), ("skip_connect", -0.5)) if attention else ()
    spec = sampled("hard", grouping, nodes, attention=offsets, topology=Topology("edge-softmax"))
    alpha = architecture(spec, seed)
    sampler = Sampler(spec, seed, "test")
    for draws in (sampler.draw(alpha, 1, 2), sampler.most_likely(alpha)):
        for kind, draw in draws.items():
            cell = spec.cell(kind)
            found = {(int(row), cell.candidates[column]) for row, column in np.argwhere(draw.chosen)}
            assert found == literal_choice(cell, alpha[f"alpha.{kind}"], draw.noise)
            assert draw.chosen.sum() == len(cell.operation_groups.members)
    assert all(not draw.noise.any() for draw in sampler.most_likely(alpha).values())


@pytest.mark.parametrize("grouping", ["single", "group-v2"])
def test_operations_are_chosen_as_often_as_they_weigh(grouping):
    """arg max(α′ + g) is distributed as softmax(α′), at any temperature (the Gumbel-max trick): χ² of every group."""
    spec = sampled("hard", grouping, nodes=1)
    alpha = architecture(spec, 1)
    sampler = Sampler(spec, 3, "test")
    steps = 1500
    counts = {kind: np.zeros(spec.cell(kind).operation_groups.shape) for kind in spec.kinds()}
    for step in range(steps):
        for kind, draw in sampler.draw(alpha, step // 100, step % 100).items():
            counts[kind] += draw.chosen
    worst = 0.0
    for kind, count in counts.items():
        cell = spec.cell(kind)
        for row, edge in enumerate(cell.edges):
            for group in edge.groups:
                columns = [cell.column(o) for o in group]
                powers = np.exp(alpha[f"alpha.{kind}"][row, columns])
                expected = steps * powers / powers.sum()
                square = float(((count[row, columns] - expected) ** 2 / expected).sum())
                # χ² of k − 1 degrees has mean k − 1 and variance 2(k − 1).
                degrees = len(columns) - 1
                worst = max(worst, (square - degrees) / math.sqrt(2 * degrees))
                assert count[row, columns].sum() == steps
    assert worst < 4.5


def test_uniform_logits_are_chosen_uniformly():
    spec = sampled("hard", nodes=1)
    zeros = {name: np.zeros_like(value) for name, value in architecture(spec, 0).items()}
    sampler = Sampler(spec, 0, "test")
    count = sum(sampler.draw(zeros, 0, step)["normal"].chosen.astype(int) for step in range(1600))
    assert (abs(count - 200) < 4.5 * math.sqrt(1600 * 7 / 64)).all()


def test_what_the_operations_of_darts_draw_is_pinned():
    """Runs of any release sample alike."""
    noise = Sampler(sampled("soft", "single", 2), 3, "s/p").draw({}, 1, 2)["reduce"].noise
    np.testing.assert_allclose(noise[0, :3], [-0.9555523991584778, -0.29263702034950256, 1.4794719219207764], rtol=1e-6)
