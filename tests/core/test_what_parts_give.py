"""What parts of other packages give is checked where it comes in, and the part is named."""

from __future__ import annotations

from dataclasses import dataclass, replace
from unittest.mock import Mock

import numpy as np
import pytest

from dots_core.errors import UsageError
from dots_core.network.spec import NetworkSpec
from dots_core.network.stems import STEMS, Stem
from dots_core.plan.levels import LEVELS, Level, StepSettings
from dots_core.plan.plan import Phase, Plan, Stage, Update
from dots_core.plan.schedules import Constant, Schedule
from dots_core.search.sampling import Sampler
from dots_core.search_space.cell import search_cell
from dots_core.search_space.derivation import RETENTIONS, Retention, derive, retain
from dots_core.search_space.layers import Convolution, GlobalAverage, Norm, ReLU
from dots_core.search_space.mixing import SAMPLINGS, Sampling
from dots_core.search_space.topology import TOPOLOGY_SPACES, Topology, TopologyMatrix, TopologySpace

CANDIDATES = ("skip_connect", "sep_conv_3x3")


@pytest.fixture
def made(monkeypatch):
    """Register an object of a class with given attributes, called ``made``."""

    def register(registry, base, **attributes):
        monkeypatch.setattr(registry, "_members", {**registry._members})
        found = {name: Mock(return_value=value) for name, value in attributes.items()}
        registry.register(type("Made", (base,), {"name": "made", "about": "made", **found})())

    return register


def matrix(edges=2, **changes):
    """Each edge against the others."""
    ours = TopologyMatrix(np.eye(edges), tuple((n,) for n in range(edges)), np.zeros(edges, int), np.ones(edges, bool))
    return replace(ours, **changes)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (matrix(3), r"has shares of shape \(3, 3\) for 2 edges and 3 combinations, not \(2, 3\)"),
        (matrix(groups=np.zeros(3, int)), r"has groups of shape \(3,\)"),
        (matrix(free=np.ones(1, bool)), r"has free of shape \(1,\)"),
        (matrix(combinations=(), shares=np.zeros((2, 0))), "has shares of shape"),
        (matrix(shares=np.full((2, 2), np.nan)), "has shares that are no numbers"),
        (matrix(groups=np.array([0, -1])), "has groups below 0"),
        (matrix(combinations=((0,), (2,))), "has combinations of edges that there are not; they are numbered 0 to 1"),
        (None, "says that β is searched, but has no matrix A"),
    ],
)
def test_matrices_fit_the_edges(given, said, made):
    made(TOPOLOGY_SPACES, TopologySpace, matrix=given, kept=[0])
    cell = search_cell(1, CANDIDATES, topology=Topology("made"))
    with pytest.raises(UsageError, match=f"^the topology space 'made' {said}.*; mend its package, or choose another"):
        cell.matrix  # noqa: B018


def test_kept_edges_are_edges(made):
    made(TOPOLOGY_SPACES, TopologySpace, matrix=matrix(), kept=[0, 2])
    cell = search_cell(1, CANDIDATES, topology=Topology("made"))
    arrays = {f"{group}.{kind}": np.zeros((2, 2)[:n]) for kind in ("normal", "reduce") for group, n in ABOUT}
    with pytest.raises(UsageError, match=r"'made' keeps the edges \[0, 2\] of a cell whose edges are numbered 0 to 1"):
        derive({"normal": cell, "reduce": cell}, arrays)


ABOUT = (("alpha", 2), ("beta", 1))


@pytest.mark.parametrize(("kept", "said"), [(set(), "nothing"), ({"max_pool_3x3"}, "max_pool_3x3")])
def test_retained_operations_are_those_of_the_edge(kept, said, made):
    made(RETENTIONS, Retention, rivals=[], kept=kept)
    cell = search_cell(1, CANDIDATES)
    with pytest.raises(UsageError, match=f"the retention 'made' keeps {said} of edge 0-2, which has skip_connect, sep"):
        retain(cell, np.zeros((2, 2)), "made", Topology())


@pytest.mark.parametrize("noise", [None, np.zeros(3), np.full((2, 2), np.nan), np.full((2, 2), np.inf)])
def test_noise_is_of_finite_numbers(noise, made):
    made(SAMPLINGS, Sampling, noise=noise)
    with pytest.raises(
        UsageError, match=r"the sampling 'made' draws noise of shape .* finite numbers of shape \(2, 2\)"
    ):
        _sampler().draw({}, 0, 0)


@pytest.mark.parametrize("chosen", [None, np.zeros((2, 2), bool), np.ones((2, 2), bool), np.ones((1, 1), bool)])
def test_one_operation_of_each_group_is_chosen(chosen, made):
    class Chooses(Sampling):
        chooses = True

    made(SAMPLINGS, Chooses, noise=np.zeros((2, 2)), chosen=chosen)
    architecture = {f"alpha.{kind}": np.zeros((2, 2), np.float32) for kind in ("normal", "reduce")}
    with pytest.raises(UsageError, match="the sampling 'made' does not choose one operation of each group of an edge"):
        _sampler().draw(architecture, 0, 0)


def _sampler():
    cell = search_cell(1, CANDIDATES, sampling="made")
    return Sampler(NetworkSpec(cell, cell, 1, 4, 10, (1, 8, 8)), 0, "")


@dataclass(frozen=True)
class Falls(Schedule):
    last: object

    def at(self, epoch, epochs):
        return 1.0 if epoch + 1 < epochs else self.last


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "1", None, True])
def test_schedules_are_of_finite_numbers_in_every_epoch(value):
    updates = (Update(("w",), "all"),)
    with pytest.raises(UsageError, match=r"Falls\(last=.*\) gives .* in epoch 3 of 3, which is no finite number"):
        Phase("search", 3, updates, beta_temperature=Falls(value))
    with pytest.raises(UsageError, match="is no schedule; make it an object of a frozen dataclass that extends"):
        Phase("search", 3, updates, alpha_temperature=lambda epoch, epochs: 1.0)
    stage = Stage("search", search_cell(1, CANDIDATES), 1, (Phase("search", 3, updates),))
    with pytest.raises(UsageError, match="in epoch 3 of 3, which is no finite number"):
        Plan((stage,), Falls(value))


@pytest.mark.parametrize("over", ["run", "stage"])
def test_temperatures_are_above_0_and_rates_not_below(over):
    updates = (Update(("w",), "all"),)
    for below in (0.0, -1.0):
        with pytest.raises(UsageError, match=f"gives the temperature {below} in epoch 2 of phase search, not above 0"):
            Phase("search", 2, updates, alpha_temperature=Falls(below))
    stage = Stage("search", search_cell(1, CANDIDATES), 1, (Phase("search", 2, updates),))
    with pytest.raises(UsageError, match=r"gives the learning rate -1.0 in epoch 2, below 0"):
        Plan((stage,), Falls(-1.0), rate_over=over)
    assert Plan((stage,), Falls(0.0), rate_over=over).weights_rate(0, 0, 1, 1) == 0
    numbers = Phase("search", 1, updates, alpha_temperature=Constant(np.float32(2))).temperature(0)
    assert type(numbers.alpha) is float


def conv(name="stem.conv", inputs=1, outputs=4, stride=1):
    return Convolution(name, inputs, outputs, 3, stride, 1)


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ((), "has 0 sequences of layers, not 1 or 2"),
        (((conv(),),) * 3, "has 3 sequences of layers"),
        (((ReLU(),),), "has a sequence of layers without a convolution"),
        (((conv(), GlobalAverage()),), r"holds GlobalAverage\(\); take Convolution, Norm, ReLU, Pool or MaxPool2x2"),
        (((conv(), "norm"),), "holds 'norm'; take"),
        (((conv(inputs=3),),), "has a layer 'stem.conv' of 3 channels that is given 1"),
        (((conv(), Norm("stem.norm", 8, True)),), "has a layer 'stem.norm' of 8 channels that is given 4"),
        (((conv(), conv(inputs=4)),), "calls a layer 'stem.conv'; names begin with stem, and each is used once"),
        (((conv("cells.0.conv"),),), "calls a layer 'cells.0.conv'"),
        (((conv(), Convolution("stem.big", 4, 4, 9)),), "leaves nothing of 8×8 pixels"),
        (
            ((conv(),), (conv("stem1.conv", 4),)),
            r"brings \(8, 8\) pixels to \(8, 8\) in its second sequence, not to \(4, 4",
        ),
        (((conv(),), (conv("stem1.conv", 4, stride=2),)), None),
    ],
)
def test_layers_of_a_stem_fit_each_other(layers, said, made):
    made(STEMS, Stem, layers=layers)
    cell = search_cell(1, CANDIDATES)
    if said is None:
        assert NetworkSpec(cell, cell, 1, 4, 10, (1, 8, 8), "made").stem == "made"
        return
    with pytest.raises(UsageError, match=f"^the stem 'made' {said}.*; mend its package, or choose another stem"):
        NetworkSpec(cell, cell, 1, 4, 10, (1, 8, 8), "made")


@pytest.mark.parametrize("updates", [(), (Update(("w",), "half-a"), Update(("w",), "half-b"))])
def test_a_level_updates_w_once(updates, made):
    made(LEVELS, Level, updates=updates)
    with pytest.raises(UsageError, match=f"the level 'made' has {len(updates)} updates of w, not 1; mend its package"):
        LEVELS["made"].weights_split(StepSettings())
