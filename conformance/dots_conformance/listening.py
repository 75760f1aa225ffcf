"""An engine that keeps what its networks were asked and answered."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from dots_conformance.proxies import EngineProxy, NetworkProxy
from dots_core.engine.protocol import Engine, Network, Setup
from dots_core.search_space.cell import CELL_TYPES, CellSpec


class Listener(EngineProxy):
    """An engine whose networks are kept.

    Attributes
    ----------
    networks : list of HeardNetwork
        In the order they were built.
    """

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.networks: list[HeardNetwork] = []

    def build(self, setup: Setup, weights: Mapping[str, NDArray], architecture: Mapping[str, NDArray]) -> Network:
        cells = {kind: setup.spec.cell(kind) for kind in CELL_TYPES}
        network = HeardNetwork(super().build(setup, weights, architecture), cells)
        self.networks.append(network)
        return network


class HeardNetwork(NetworkProxy):
    """A network whose losses are kept.

    Attributes
    ----------
    cells : dict
        The network's cells by type.
    losses : list of float
        Of every `accumulate_gradients`, in order, as far as they were popped.
    """

    def __init__(self, network: Network, cells: dict[str, CellSpec]) -> None:
        super().__init__(network)
        self.cells = cells
        self.losses: list[float] = []

    def pop_losses(self) -> NDArray[np.float64]:
        rows = super().pop_losses()
        self.losses += rows[:, 0].tolist()
        return rows
