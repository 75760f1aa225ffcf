"""Whole networks, forward and backward: mixed operations, topologies, stages, derived networks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from dots_conformance.cases.base import Case, Recording
from dots_conformance.networks import ATTENTION, NetworkCase, derived_spec, operation_spec, topology_spec
from dots_core.engine.protocol import Engine, Loss, Runtime
from dots_core.network.stems import STEMS
from dots_core.search_space.mixing import SAMPLINGS, Temperature
from dots_core.search_space.named_cells import named_cell, named_cells
from dots_core.search_space.operations import DARTS, NONE, OPERATIONS, SKIP
from dots_core.search_space.operations.groupings import GROUPINGS
from dots_core.search_space.topology import TOPOLOGY_SPACES, Topology


def topologies() -> Iterator[tuple[str, Topology]]:
    """Every topology matrix of `dots_core.search_space.topology` for cells of two to four nodes."""
    for scaled in (True, False):
        suffix = "" if scaled else "-unscaled"
        for k in (1, 2, 3):
            yield f"{k}-edges{suffix}", Topology("k-edges", k, scaled)
        yield f"arbitrary{suffix}", Topology("arbitrary", scaled=scaled)
        yield f"2-edges-output{suffix}", Topology("k-edges", 2, scaled, side="output")
        yield f"arbitrary-output{suffix}", Topology("arbitrary", scaled=scaled, side="output")
    for space in TOPOLOGY_SPACES:
        if space.searched and space.name not in ("k-edges", "arbitrary"):
            for side in space.sides:
                yield space.name if side == "input" else f"{space.name}-{side}", Topology(space.name, side=side)


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
            # Two cells, both of them reduction cells: strides of 1 and 2 occur in each.
            spec = topology_spec(topology, nodes, layers=2)
            network = NetworkCase(spec, Temperature(0.2, 2.0), seed=seed)
            quick = nodes == 3 and (topology.side == "input" or topology.scaled)
            yield _gradients(f"topology/{label}/{nodes}-nodes", network, quick)
    fixed = topology_spec(Topology("none"), 3, layers=2)
    yield _gradients("topology/none/3-nodes", NetworkCase(fixed, Temperature(0.2), seed=seed))
    # Here a cell reads two different tensors of one shape: nothing but numbers tells them apart.
    alike = topology_spec(Topology("k-edges", 2), 3)
    yield _gradients("topology/2-edges/3-cells", NetworkCase(alike, Temperature(0.2, 2.0), seed=seed), quick=True)
    for label, temperature in (("hot", Temperature(10.0, 10.0)), ("cold", Temperature(0.02, 0.02))):
        spec = topology_spec(Topology("k-edges", 2), 3, layers=2)
        yield _gradients(f"topology/2-edges/{label}", NetworkCase(spec, temperature, seed=seed))

    yield from _operation_cases(seed)
    yield from _sampling_cases(seed)
    yield from _partial_cases(seed)
    attention = operation_spec("single", attention=ATTENTION, layers=1)
    yield _gradients("attention/mixed", NetworkCase(attention, Temperature(0.5), seed=seed), quick=True)
    # The path of eDARTS: every edge is kept.
    path = topology_spec(Topology("fixed"), 3, attention=ATTENTION, layers=2)
    yield _gradients("attention/fixed-edges", NetworkCase(path, Temperature(0.5), seed=seed))

    for name in named_cells():
        spec = derived_spec(named_cell(name), channels=2)
        network = NetworkCase(spec, loss=Loss(0.1, 0.4), drop_path=0.3, seed=seed)
        yield _gradients(f"derived/{name.lower()}", network, quick=name in ("DARTS_V2", named_cells()[0]))
    plain = NetworkCase(derived_spec(auxiliary=False), seed=seed)
    yield _gradients("derived/plain", plain)
    # So much smoothing that a loss which is smoothed where it should not be is told in any precision.
    yield _gradients("derived/smoothing-0.5", replace(plain, loss=Loss(0.5, 0.4)), quick=True)
    # The auxiliary head of ImageNet; at the papers' size it pools 7×7 pixels to 2×2.
    for label, side in (("small", 33), ("7x7", 193)):
        headed = derived_spec(stem="imagenet", channels=2, input_shape=(3, side, side))
        network = NetworkCase(headed, loss=Loss(0.1, 0.4), seed=seed)
        yield _gradients(f"derived/imagenet-head-{label}", network, quick=label == "small")
    for stem in (each.name for each in STEMS if each.name != "cifar"):  # which all other networks have
        for label, size in (("even", (32, 32)), ("odd", (27, 35))):
            spec = topology_spec(Topology("k-edges", 2), stem=stem, input_shape=(3, *size))
            yield _gradients(f"stem/{stem}-{label}", NetworkCase(spec, Temperature(0.5, 0.5), seed=seed))


def _operation_cases(seed: int) -> Iterator[Case]:
    """Every operation mixed with one other; those of other packages in every way in which operations are mixed."""
    for operation in OPERATIONS.names:
        if operation == NONE:
            continue
        pair = (operation, "sep_conv_3x3" if operation == SKIP else SKIP)
        ways = [("mixed", operation_spec("single", pair))]
        if operation not in DARTS:
            ways += [(sampling, operation_spec("single", pair, sampling=sampling)) for sampling in ("soft", "hard")]
            ways.append(("partial", operation_spec("single", pair, partial=2)))
        for way, spec in ways:
            network = NetworkCase(spec, Temperature(0.5), seed=seed)
            yield _gradients(f"operation/{operation}/{way}", network, quick=way == "mixed")


def _sampling_cases(seed: int) -> Iterator[Case]:
    """Operations mixed with Gumbel noise (SNAS), and one of each group alone (GDAS)."""
    for sampling in (each.name for each in SAMPLINGS if each.draws):
        for grouping in GROUPINGS:
            # At a temperature at which, on seed 0, no ReLU or max-pool is within rounding errors of a tie.
            network = NetworkCase(operation_spec(grouping, sampling=sampling), Temperature(3.0), seed=seed)
            yield _gradients(f"sampling/{sampling}/{grouping}", network, quick=grouping == "group-v2")
        for label, temperature in (("hot", 10.0), ("cold", 0.1)):
            spec = operation_spec("group-v2", sampling=sampling, layers=1)
            yield _gradients(f"sampling/{sampling}/{label}", NetworkCase(spec, Temperature(temperature), seed=seed))
        joint = topology_spec(Topology("arbitrary"), 3, sampling=sampling)
        yield _gradients(f"sampling/{sampling}/topology", NetworkCase(joint, Temperature(1.0, 0.5), seed=seed))


def _partial_cases(seed: int) -> Iterator[Case]:
    """Channels that pass the operations by (PC-DARTS)."""
    edges = Topology("edge-softmax")
    for k in (2, 4):
        spec = operation_spec("single", topology=edges, partial=k, channels=8)
        yield _gradients(f"partial/{k}", NetworkCase(spec, Temperature(0.5, 0.5), seed=seed), quick=k == 4)
    # Pooled to the half twice, each time from an odd number of rows or columns.
    odd = topology_spec(edges, partial=2, input_shape=(2, 7, 9))
    yield _gradients("partial/odd", NetworkCase(odd, Temperature(0.5, 0.5), seed=seed), quick=True)
    hard = operation_spec("group-v2", topology=edges, sampling="hard", partial=2)
    yield _gradients("partial/hard", NetworkCase(hard, Temperature(0.5, 0.5), seed=seed), quick=True)
    unweighted = operation_spec("single", partial=2, layers=1)
    yield _gradients("partial/unweighted-edges", NetworkCase(unweighted, Temperature(0.5), seed=seed))
    imagenet = topology_spec(edges, partial=2, stem="imagenet", input_shape=(3, 27, 35))
    yield _gradients("partial/imagenet-odd", NetworkCase(imagenet, Temperature(0.5, 0.5), seed=seed))


def _gradients(name: str, network: NetworkCase, quick: bool = False) -> Case:
    def record(engine: Engine, runtime: Runtime) -> Recording:
        built = network.build(engine, runtime.precision, runtime.device)
        arrays = built.gradients(network.batch(), network.temperature)
        loss, correct = built.evaluate(network.batch(1, samples=6), network.temperature)
        arrays["evaluation/loss"] = np.asarray(loss, np.float64)
        arrays["evaluation/correct"] = np.asarray(correct, np.int64)
        return Recording(arrays)

    return Case(f"networks/{name}", record, quick, network=network)
