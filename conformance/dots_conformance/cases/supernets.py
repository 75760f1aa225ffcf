"""Whole networks, forward and backward: mixed operations, topologies, stages, derived networks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dots_conformance.cases.base import Case, Recording
from dots_conformance.networks import NetworkCase, derived_spec, operation_spec, topology_spec
from dots_core.engine import Engine, Loss, Runtime, Temperature
from dots_core.named_cells import named_cell, named_cells
from dots_core.operations import GROUPINGS
from dots_core.topology import Topology


def topologies() -> Iterator[tuple[str, Topology]]:
    """Every topology matrix of `dots_core.topology` for cells of two to four nodes."""
    for scaled in (True, False):
        suffix = "" if scaled else "-unscaled"
        for k in (1, 2, 3):
            yield f"{k}-edges{suffix}", Topology("k-edges", k, scaled)
        yield f"arbitrary{suffix}", Topology("arbitrary", scaled=scaled)


def gradient_cases(seed: int) -> Iterator[Case]:
    """Outputs, losses and every gradient of small networks."""
    for grouping in GROUPINGS:
        for layers in (1, 3):
            network = NetworkCase(operation_spec(grouping, layers=layers), Temperature(0.5), seed=seed)
            yield _gradients(f"mixed/{grouping}/{layers}-cells", network, quick=layers == 1 or grouping == "group-v2")
    head = NetworkCase(operation_spec("group-v1", head_norm=True, layers=1), seed=seed)
    yield _gradients("mixed/head-norm", head)
    joint = operation_spec("single", topology=Topology("k-edges", 2), nodes=3, layers=1)
    yield _gradients("mixed/one-stage", NetworkCase(joint, Temperature(1.0, 0.5), seed=seed))

    for label, topology in topologies():
        for nodes in (2, 3, 4):
            # The first cell of two is a normal one, the other a reduction cell.
            spec = topology_spec(topology, nodes, layers=2)
            network = NetworkCase(spec, Temperature(0.2, 2.0), seed=seed)
            yield _gradients(f"topology/{label}/{nodes}-nodes", network, quick=nodes == 3)
    fixed = topology_spec(Topology("none"), 3, layers=2)
    yield _gradients("topology/none/3-nodes", NetworkCase(fixed, Temperature(0.2), seed=seed))
    for label, temperature in (("hot", Temperature(10.0, 10.0)), ("cold", Temperature(0.02, 0.02))):
        spec = topology_spec(Topology("k-edges", 2), 3, layers=2)
        yield _gradients(f"topology/2-edges/{label}", NetworkCase(spec, temperature, seed=seed))

    for name in named_cells():
        spec = derived_spec(named_cell(name), channels=2)
        network = NetworkCase(spec, loss=Loss(0.1, 0.4), drop_path=0.3, seed=seed)
        yield _gradients(f"derived/{name.lower()}", network, quick=name in ("DARTS_V2", named_cells()[0]))
    plain = NetworkCase(derived_spec(auxiliary=False), seed=seed)
    yield _gradients("derived/plain", plain)
    for label, size in (("even", (32, 32)), ("odd", (27, 35))):
        spec = topology_spec(Topology("k-edges", 2), stem="imagenet", input_shape=(3, *size))
        yield _gradients(f"stem/imagenet-{label}", NetworkCase(spec, Temperature(0.5, 0.5), seed=seed))


def _gradients(name: str, network: NetworkCase, quick: bool = False) -> Case:
    def record(engine: Engine, runtime: Runtime) -> Recording:
        built = network.build(engine, runtime.precision, runtime.device)
        arrays = built.gradients(network.batch(), network.temperature)
        loss, correct = built.evaluate(network.batch(1, samples=6), network.temperature)
        arrays["evaluation/loss"] = np.asarray(loss, np.float64)
        arrays["evaluation/correct"] = np.asarray(correct, np.int64)
        return Recording(arrays)

    return Case(f"networks/{name}", record, quick)
