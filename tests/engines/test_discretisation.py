"""The derived sub-network with the supernet's weights is what it is said to be, on any engine."""

from __future__ import annotations

import numpy as np
import pytest

from dots_core.backends import load_engine
from dots_core.batch import Batch
from dots_core.diagnostics import completed
from dots_core.discretisation import TEMPERATURE, hardened, sub_network, sub_state
from dots_core.engine import Loss, Optimizers, Rates, Runtime, Setup, Temperature
from dots_core.initial import initial_architecture, initial_weights
from dots_core.network import NetworkSpec
from dots_core.operations import OPERATIONS
from dots_core.selection import derive, retain
from dots_core.space import CELL_TYPES, search_cell
from dots_core.topology import Topology


def batch(seed: int) -> Batch:
    source = np.random.RandomState(seed)
    return Batch(source.normal(size=(8, 3, 8, 8)).astype(np.float32), source.randint(0, 3, 8).astype(np.int64))


pytestmark = pytest.mark.any_engine


def supernet(backend: str, topology: Topology, operations: tuple[str, ...] = OPERATIONS):
    """A supernet with searched weights far from uniform and statistics that saw images."""
    cell = search_cell(3, operations, "group-v2")
    if topology.space != "none":
        noise = np.random.RandomState(1).normal(size=(len(cell.edges), 8))
        cell = retain(cell, noise, "groups", topology)
    spec = NetworkSpec(cell, cell, 3, 4, 3, (3, 8, 8))
    network = load_engine(backend).build(
        Setup(spec, Optimizers(), Loss(), Runtime()),
        initial_weights(spec, 0, "test"),
        initial_architecture(spec, 0, "test", 1.0),
    )
    for seed in range(3):
        network.step(("w", "alpha"), batch(seed), Rates(0.05, 0.01), Temperature())
    network.drain()
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
    hard = hardened(spec, genotype, state)
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
    spec, network, genotype = supernet(backend, Topology("arbitrary"), OPERATIONS[1:])
    state = network.export_state()
    cold = network.evaluate(batch(9), Temperature(1e-4, 1e-4))
    hard = hardened(spec, genotype, state)
    assert hard is not None
    network.import_state(hard)
    assert network.evaluate(batch(9), TEMPERATURE)[0] == pytest.approx(cold[0], rel=1e-4)


def test_without_a_topology_nothing_can_be_hardened_but_the_sub_network_runs(backend):
    spec, network, genotype = supernet(backend, Topology())
    state = network.export_state()
    assert hardened(spec, genotype, state) is None
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
    assert hardened(spec, derive(cells, architecture), state) is None
