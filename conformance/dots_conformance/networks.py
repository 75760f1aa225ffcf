"""Small networks, weights and batches on which engines are compared with the reference engine."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dots_core.engine.batch import Batch
from dots_core.engine.protocol import Engine, Loss, Network, Optimizers, Runtime, Setup
from dots_core.engine.registry import computing
from dots_core.network.initialisation import initial_architecture, initial_weights
from dots_core.network.spec import NetworkSpec, cell_layouts, derived_network
from dots_core.random import Stream
from dots_core.search.drop_path import droppable_edges
from dots_core.search.sampling import Sampler
from dots_core.search_space.cell import CellSpec, search_cell
from dots_core.search_space.edge import Edge
from dots_core.search_space.genotype import Genotype
from dots_core.search_space.mixing import Temperature
from dots_core.search_space.operations import DARTS
from dots_core.search_space.topology import Topology

Attention = tuple[tuple[str, float], ...]

RETAINED = (
    ("skip_connect", "sep_conv_3x3"),
    ("max_pool_3x3", "dil_conv_5x5"),
    ("none", "sep_conv_5x5"),
    ("avg_pool_3x3", "dil_conv_3x3"),
)
"""What edges hold in turn in `topology_spec`: every operation occurs."""

ATTENTION = (("skip_connect", -0.4), ("sep_conv_3x3", 0.7), ("dil_conv_3x3", 0.3))
"""Constants of operation attention, of the order of the architecture weights."""

GENOTYPE = Genotype(
    normal=((("sep_conv_3x3", 0), ("skip_connect", 1)), (("dil_conv_5x5", 1), ("max_pool_3x3", 2))),
    normal_concat=(2, 3),
    reduce=((("skip_connect", 0), ("avg_pool_3x3", 1)), (("skip_connect", 2), ("sep_conv_5x5", 0))),
    reduce_concat=(2, 3),
)


def operation_spec(
    groups: str = "group-v2",
    operations: tuple[str, ...] = DARTS,
    nodes: int = 2,
    topology: Topology | None = None,
    sampling: str = "none",
    partial: int = 1,
    attention: Attention = (),
    **changes: Any,
) -> NetworkSpec:
    """Supernet of the operation search, small: every edge holds every operation.

    ``sampling``, ``partial`` and ``attention`` are those of the `CellSpec`; ``changes`` replace
    fields of the `NetworkSpec`, as in the other builders.
    """
    cell = search_cell(nodes, operations, groups, topology, sampling=sampling, partial=partial, attention=attention)
    return _small(cell, cell, changes)


def topology_spec(
    topology: Topology,
    nodes: int = 2,
    sampling: str = "none",
    partial: int = 1,
    attention: Attention = (),
    **changes: Any,
) -> NetworkSpec:
    """Supernet of the topology search, small: edges hold two retained operations each."""
    edges = [(i, j) for j in range(2, nodes + 2) for i in range(j)]

    def cell(shift: int) -> CellSpec:
        held = tuple(Edge(i, j, (RETAINED[(number + shift) % len(RETAINED)],)) for number, (i, j) in enumerate(edges))
        return CellSpec(
            nodes,
            held,
            tuple(range(2, nodes + 2)),
            topology,
            sampling=sampling,
            partial=partial,
            attention=attention,
        )

    return _small(cell(0), cell(1), changes)


def derived_spec(genotype: Genotype = GENOTYPE, auxiliary: bool = True, **changes: Any) -> NetworkSpec:
    """Derived network, small."""
    spec = derived_network(genotype, layers=3, channels=4, classes=5, input_shape=(2, 8, 8), auxiliary=auxiliary)
    return replace(spec, **changes)


def _small(normal: CellSpec, reduce: CellSpec, changes: dict[str, Any]) -> NetworkSpec:
    fields: dict[str, Any] = {"layers": 3, "channels": 4, "classes": 5, "input_shape": (2, 8, 8)}
    return NetworkSpec(normal, reduce, **{**fields, **changes})


def drawn_weights(spec: NetworkSpec, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Initial weights by canonical name, shapes as `dots_core.network.spec.weight_shapes`; only to be read.

    Batch norms are moved off the identity so that their weights and biases matter.
    """
    return dict(_drawn_weights(spec, seed))


@lru_cache(16)  # a case builds its network several times
def _drawn_weights(spec: NetworkSpec, seed: int) -> dict[str, NDArray[np.float32]]:
    weights = initial_weights(spec, seed)
    for name, value in weights.items():
        if value.ndim == 1:
            weights[name] = value + (0.2 * Stream(seed, f"tests/{name}").normal(value.shape)).astype(np.float32)
        weights[name].flags.writeable = False
    return weights


def drawn_batch(spec: NetworkSpec, seed: int = 0, samples: int = 4, drop_path: float = 0.0) -> Batch:
    """Batch of noise, with drop-path at the given probability where that is not 0."""
    images = Stream(seed, "tests/images").normal((samples, *spec.input_shape)).astype(np.float32)
    labels = (Stream(seed, "tests/labels").uniform((samples,)) * spec.classes).astype(np.int64)
    if drop_path == 0:
        return Batch(images, labels)
    layouts = cell_layouts(spec)
    edges = max(len(spec.normal.edges), len(spec.reduce.edges))
    kept = Stream(seed, "tests/drop").uniform((len(layouts), edges, samples)) >= drop_path
    factors = np.where(kept, 1.0 / (1.0 - drop_path), 0.0)
    droppable = droppable_edges(spec)
    factors[:, : droppable.shape[1]][~droppable] = 1.0
    return Batch(images, labels, factors.astype(np.float32))


@dataclass(frozen=True)
class NetworkCase:
    """A network, and what to feed it."""

    spec: NetworkSpec
    temperature: Temperature = field(default_factory=Temperature)
    optimizers: Optimizers = field(default_factory=Optimizers)
    loss: Loss = field(default_factory=Loss)
    drop_path: float = 0.0
    seed: int = 0

    def build(self, engine: Engine, precision: str, device: str = "cpu") -> Network:
        """Build the case's network, from the same weights on every engine."""
        setup = Setup(self.spec, self.optimizers, self.loss, Runtime(device, precision))
        computing(engine.name)
        return engine.build(setup, drawn_weights(self.spec, self.seed), self.architecture())

    def architecture(self) -> dict[str, NDArray[np.float32]]:
        """Initial architecture weights by name, shapes as `dots_core.network.spec.architecture_shapes`, of order 1.

        Softmax is then neither uniform nor decided.
        """
        return initial_architecture(self.spec, self.seed, scale=0.5)

    def batch(self, number: int = 0, samples: int = 4) -> Batch:
        """Batch of a step, with what is drawn for the cells that sample operations.

        Choices are made by the initial architecture weights, so that they are the same on every
        engine and at every step of a comparison.
        """
        batch = drawn_batch(self.spec, 100 * self.seed + number, samples, self.drop_path)
        return replace(batch, draws=Sampler(self.spec, self.seed, "tests").draw(self.architecture(), 0, number))


# With these seeds no ReLU and no max-pool of a compared pass decides by less than `MARGIN`. One that
# came nearer to a tie than float32 resolves could fall differently, and move a gradient by a per cent.
CASES = {
    "operations": NetworkCase(operation_spec(), Temperature(alpha=0.5), Optimizers(clip=0.5, epsilon=1e-3), seed=29),
    "pairs": NetworkCase(topology_spec(Topology("k-edges", 2)), Temperature(0.2, 2.0), seed=5),
    "arbitrary": NetworkCase(topology_spec(Topology("arbitrary"), nodes=3), Temperature(2.0, 0.5), seed=0),
    "derived": NetworkCase(
        derived_spec(), optimizers=Optimizers(clip=0.0), loss=Loss(0.1, 0.4), drop_path=0.3, seed=24
    ),
    "imagenet": NetworkCase(
        topology_spec(Topology("k-edges", 2, scaled=False), stem="imagenet", input_shape=(3, 28, 36)),
        Temperature(0.5, 0.5),
        seed=28,
    ),
    "head norm": NetworkCase(operation_spec("group-v1", head_norm=True), seed=34),
    "soft sampling": NetworkCase(operation_spec("single", sampling="soft"), Temperature(alpha=3.0), seed=7),
    "hard sampling": NetworkCase(operation_spec(sampling="hard"), Temperature(alpha=0.5), seed=7),
    "partial channels": NetworkCase(
        operation_spec("single", topology=Topology("edge-softmax"), partial=2), Temperature(0.5, 2.0), seed=4
    ),
    "edge sigmoid": NetworkCase(topology_spec(Topology("edge-sigmoid")), Temperature(0.5, 0.5), seed=15),
    "output pairs": NetworkCase(topology_spec(Topology("k-edges", 2, side="output")), Temperature(0.5, 0.5), seed=0),
    "hard partial": NetworkCase(
        topology_spec(Topology("edge-softmax"), sampling="hard", partial=2), Temperature(0.5, 0.5), seed=0
    ),
    "imagenet partial": NetworkCase(
        topology_spec(Topology("edge-softmax"), partial=2, stem="imagenet", input_shape=(3, 28, 36)),
        Temperature(0.5, 0.5),
        seed=1,
    ),
    "one cell": NetworkCase(
        operation_spec(
            topology=Topology("arbitrary", side="output"), attention=ATTENTION, layers=1, input_shape=(2, 6, 6)
        ),
        Temperature(0.5, 2.0),
        seed=3,
    ),
}
MARGIN = 4e-5
"""Far above what float32 rounds values of order 1 to."""
