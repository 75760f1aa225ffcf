"""What is timed: the networks and batches of a search step, without any framework."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dots_core.engine.batch import Batch
from dots_core.engine.protocol import Rates, Runtime
from dots_core.network.spec import NetworkSpec
from dots_core.random import Stream
from dots_core.search_space.cell import CellSpec, search_cell
from dots_core.search_space.edge import Edge
from dots_core.search_space.mixing import Temperature
from dots_core.search_space.operations import DARTS
from dots_core.search_space.topology import Topology

SEED = 0
CLASSES = 10
IMAGE = (3, 32, 32)
RATES = Rates(weights=0.025, architecture=3e-4)


@dataclass(frozen=True)
class Options:
    """What is compared, as given on the command line."""

    backend: str
    stage: str
    groups: str
    channels: int
    cells: int
    batch: int
    repeats: int
    threads: int
    device: str
    precision: str

    @property
    def temperature(self) -> Temperature:
        """T = 1 in the operation stage; in the topology stage the start of the annealing, T_α = T_β / 1000."""
        return Temperature() if self.stage == "operation" else Temperature(alpha=0.01, beta=10.0)

    @property
    def runtime(self) -> Runtime:
        """Where and how exactly."""
        return Runtime(self.device, self.precision, deterministic=False)


def retained_cell(kind: str) -> CellSpec:
    """Build a cell whose edges hold two drawn operations each, one without weights and one convolution."""
    light, convolutions = DARTS[:4], DARTS[4:]
    cell = search_cell(topology=Topology("k-edges", edges_per_node=2))
    draws = Stream(SEED, f"benchmark/retained/{kind}").uniform((len(cell.edges), 2))
    edges = tuple(
        Edge(e.source, e.target, ((light[int(a * len(light))], convolutions[int(b * len(convolutions))]),))
        for e, (a, b) in zip(cell.edges, draws, strict=True)
    )
    return CellSpec(cell.nodes, edges, cell.concat, cell.topology)


def supernet(options: Options) -> NetworkSpec:
    """Return the network all contestants compute."""
    if options.stage == "operation":
        normal = reduce = search_cell(groups=options.groups)
    else:
        normal, reduce = retained_cell("normal"), retained_cell("reduce")
    return NetworkSpec(normal, reduce, options.cells, options.channels, CLASSES, IMAGE)


def batches(options: Options) -> tuple[Batch, Batch]:
    """Return a training and a validation batch of normally distributed images."""

    def draw(name: str) -> Batch:
        images = Stream(SEED, f"benchmark/images/{name}").normal((options.batch, *IMAGE)).astype(np.float32)
        labels = Stream(SEED, f"benchmark/labels/{name}").uniform((options.batch,)) * CLASSES
        return Batch(images, labels.astype(np.int64))

    return draw("train"), draw("validation")
