"""The derived sub-network with the supernet's weights is what it is said to be, on any engine."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dots_core.engine.batch import Batch
from dots_core.engine.protocol import Loss, Optimizers, Rates, Runtime, Setup
from dots_core.engine.registry import load_engine
from dots_core.network.initialisation import initial_architecture, initial_weights
from dots_core.network.spec import NetworkSpec
from dots_core.search.diagnostics import completed
from dots_core.search.discretisation import TEMPERATURE, discretised, sub_network, sub_state
from dots_core.search.sampling import Sampler
from dots_core.search_space.cell import CELL_TYPES, search_cell
from dots_core.search_space.derivation import decide, derive, retain
from dots_core.search_space.mixing import Temperature
from dots_core.search_space.operations import DARTS
from dots_core.search_space.topology import Topology


def batch(seed: int) -> Batch:
    source = np.random.RandomState(seed)
    return Batch(source.normal(size=(8, 3, 8, 8)).astype(np.float32), source.randint(0, 3, 8).astype(np.int64))


pytestmark = pytest.mark.any_engine


def supernet(backend: str, topology: Topology, operations: tuple[str, ...] = DARTS):
    """A supernet with searched weights far from uniform and statistics that saw images."""
    cell = search_cell(3, operations, "group-v2")
    if topology.space != "none":
        noise = np.random.RandomState(1).normal(size=cell.operation_groups.shape)
        cell = retain(cell, noise, "groups", topology)
    spec = NetworkSpec(cell, cell, 3, 4, 3, (3, 8, 8))
    network = load_engine(backend).build(
        Setup(spec, Optimizers(), Loss(), Runtime()),
        initial_weights(spec, 0, "test"),
        initial_architecture(spec, 0, "test", 1.0),
    )
    for seed in range(3):
        network.step(("w", "alpha"), batch(seed), Rates(0.05, 0.01), Temperature())
    network.pop_losses()
    cells = {kind: spec.cell(kind) for kind in CELL_TYPES}
    return spec, network, derive(cells, completed(cells, network.architecture()))


def sub_network_loss(backend: str, spec, genotype, state) -> tuple[float, int]:
    sub = sub_network(spec, genotype)
    taken = sub_state(sub, state)
    network = load_engine(backend).build(
        Setup(sub, Optimizers(), Loss(), Runtime()),
        {key.removeprefix("weights/"): value for key, value in taken.items() if key.startswith("weights/")},
        {key.removeprefix("architecture/"): value for key, value in taken.items() if key.startswith("architecture/")},
    )
    network.import_state(taken)
    return network.evaluate(batch(9), TEMPERATURE)


@pytest.mark.parametrize("scaled", [True, False])
def test_hardened_weights_compute_the_sub_network(backend, scaled):
    """Pruned to the kept edges and operations, k edges a node leave one combination: no architecture weight matters."""
    spec, network, genotype = supernet(backend, Topology("k-edges", scaled=scaled))
    state = network.export_state()
    before = network.evaluate(batch(9), TEMPERATURE)
    hard = discretised(spec, genotype, state)
    assert hard is not None
    network.import_state(hard)
    loss, correct = network.evaluate(batch(9), TEMPERATURE)
    expected_loss, expected_correct = sub_network_loss(backend, spec, genotype, state)
    assert loss == pytest.approx(expected_loss, rel=1e-4)
    assert correct == expected_correct
    assert abs(loss - before[0]) > 1e-3, "the supernet itself computes something else"
    network.import_state(state)
    again = network.export_state()
    assert {key: value.tobytes() for key, value in again.items()} == {k: v.tobytes() for k, v in state.items()}
    assert network.evaluate(batch(9), TEMPERATURE) == before


def test_a_subset_of_any_size_can_be_chosen(backend):
    """Low temperatures lead to the same network, where no `none` can win that is never derived."""
    spec, network, genotype = supernet(backend, Topology("arbitrary"), DARTS[1:])
    state = network.export_state()
    cold = network.evaluate(batch(9), Temperature(1e-4, 1e-4))
    hard = discretised(spec, genotype, state)
    assert hard is not None
    network.import_state(hard)
    assert network.evaluate(batch(9), TEMPERATURE)[0] == pytest.approx(cold[0], rel=1e-4)


def test_without_a_topology_nothing_can_be_hardened_but_the_sub_network_runs(backend):
    spec, network, genotype = supernet(backend, Topology())
    state = network.export_state()
    assert discretised(spec, genotype, state) is None
    loss, _ = sub_network_loss(backend, spec, genotype, state)
    assert np.isfinite(loss)
    sub = sub_network(spec, genotype)
    for kind in CELL_TYPES:
        kept = {(e.source, e.target, e.operations) for e in sub.cell(kind).edges}
        assert kept == {(e.source, e.target, e.operations) for e in genotype.cell(kind).edges}


def test_a_group_without_the_choice_and_without_none_cannot_be_hardened():
    cell = search_cell(2, groups="group-v1", topology=Topology("k-edges"))
    spec = NetworkSpec(cell, cell, 3, 4, 3, (3, 8, 8))
    state = {f"architecture/{k}": v for k, v in initial_architecture(spec, 0, "test", 1.0).items()}
    cells = dict.fromkeys(CELL_TYPES, cell)
    architecture = {key.removeprefix("architecture/"): value for key, value in state.items()}
    assert discretised(spec, derive(cells, architecture), state) is None


# Other methods' supernets

WITHOUT_NONE = ("max_pool_3x3", "skip_connect", "dil_conv_3x3")
PATH = ((0, 2), (1, 2), (1, 3), (2, 3), (0, 4), (3, 4))


def searched(backend: str, topology: Topology, edges=None, **fields):
    """A supernet of some method with weights far from uniform, and what is derived of it."""
    cell = search_cell(3, WITHOUT_NONE, topology=topology, edges=edges, **fields)
    spec = NetworkSpec(cell, cell, 3, 4, 3, (3, 8, 8))
    network = load_engine(backend).build(
        Setup(spec, Optimizers(), Loss(), Runtime()),
        initial_weights(spec, 0, "test"),
        initial_architecture(spec, 0, "test", 1.0),
    )
    for seed in range(2):
        draws = Sampler(spec, 0, "test").draw(network.architecture(), 0, seed)
        network.step(("w", "alpha"), replace(batch(seed), draws=draws), Rates(0.05, 0.01), Temperature())
    network.pop_losses()
    cells = {kind: spec.cell(kind) for kind in CELL_TYPES}
    return spec, network, decide(cells, completed(cells, network.architecture()))


def evaluated(spec, network) -> tuple[float, int]:
    """The network as a run measures it: samples at their most likely."""
    draws = Sampler(spec, 0, "").most_likely(network.architecture())
    return network.evaluate(replace(batch(9), draws=draws), TEMPERATURE)


def sub_evaluated(backend: str, spec, genotype, state) -> tuple[float, int]:
    sub = sub_network(spec, genotype)
    taken = sub_state(sub, state)
    parts = ({k.removeprefix(p): v for k, v in taken.items() if k.startswith(p)} for p in ("weights/", "architecture/"))
    network = load_engine(backend).build(Setup(sub, Optimizers(), Loss(), Runtime()), *parts)
    network.import_state(taken)
    return evaluated(sub, network)


MIXINGS = [{}, {"sampling": "soft"}, {"sampling": "hard"}, {"partial": 2}, {"attention": (("skip_connect", 0.5),)}]


@pytest.mark.parametrize("fields", MIXINGS, ids=str)
def test_output_sides_can_be_hardened(backend, fields):
    """Without shares a kept edge weighs 1, as in the sub-network."""
    # β′ that leads to every node: where a repair is needed, no β′ says what was derived.
    spec, network, _ = searched(backend, Topology("k-edges", scaled=False, side="output"), **fields)
    state = network.export_state()
    path = {"0-2", "0-3", "1-2", "1-4", "2-4", "3-4"}
    for kind in CELL_TYPES:
        cell = spec.cell(kind)
        held = [{cell.edges[e].name for e in c} <= path for c in cell.matrix.combinations]
        state[f"architecture/beta.{kind}"] = np.array(held, np.float32)
    network.import_state(state)
    cells = {kind: spec.cell(kind) for kind in CELL_TYPES}
    found = decide(cells, network.architecture())
    assert found.repairs == ()
    assert {edge.name for edge in found.genotype.cell("normal").edges} == path
    hard = discretised(spec, found.genotype, state)
    assert hard is not None
    network.import_state(hard)
    loss, correct = evaluated(spec, network)
    expected_loss, expected_correct = sub_evaluated(backend, spec, found.genotype, state)
    assert loss == pytest.approx(expected_loss, rel=1e-4)
    assert correct == expected_correct


@pytest.mark.parametrize("fields", MIXINGS, ids=str)
def test_a_fixed_path_reduces_to_its_operations(backend, fields):
    spec, network, found = searched(backend, Topology("fixed"), PATH, **fields)
    state = network.export_state()
    assert discretised(spec, found.genotype, state) is None
    loss, correct = sub_evaluated(backend, spec, found.genotype, state)
    if fields.get("sampling") == "hard":
        # Only the likeliest operation is evaluated, and every edge is kept: nothing is left to lose.
        assert (loss, correct) == (pytest.approx(evaluated(spec, network)[0], rel=1e-4), evaluated(spec, network)[1])
    # The same by temperature: at 1e-4 each edge's softmax has decided.
    draws = Sampler(spec, 0, "").most_likely(network.architecture())
    cold, _ = network.evaluate(replace(batch(9), draws=draws), Temperature(1e-4, 1.0))
    assert loss == pytest.approx(cold, rel=1e-4)


@pytest.mark.parametrize("space", ["edge-softmax", "edge-sigmoid"])
def test_edges_that_are_not_chosen_together_cannot_be_hardened(backend, space):
    spec, network, found = searched(backend, Topology(space))
    assert discretised(spec, found.genotype, network.export_state()) is None


def test_a_repaired_cell_cannot_be_hardened(backend):
    spec, network, _ = searched(backend, Topology("k-edges", side="output"))
    state = network.export_state()
    for kind in CELL_TYPES:
        cell = spec.cell(kind)
        away = [all(cell.edges[e].target != 3 for e in c) for c in cell.matrix.combinations]
        state[f"architecture/beta.{kind}"] = np.array(away, np.float32)
    network.import_state(state)
    found = decide({kind: spec.cell(kind) for kind in CELL_TYPES}, network.architecture())
    assert {repair.node for repair in found.repairs} == {3}
    assert discretised(spec, found.genotype, state) is None
