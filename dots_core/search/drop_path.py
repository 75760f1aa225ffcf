"""Drop-path masks, drawn once for every engine."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dots_core.engine.batch import Batch
from dots_core.network.spec import NetworkSpec, cell_layouts, edge_layers
from dots_core.random import Stream
from dots_core.search_space.operations import NONE


def droppable_edges(spec: NetworkSpec) -> NDArray[np.bool_]:
    """Return which edges may be dropped: shape (cells, most edges of a cell).

    All but identities, such as skip connections at stride 1 (DARTS evaluation network).
    """
    layouts = cell_layouts(spec)
    width = max(len(spec.cell(layout.kind).edges) for layout in layouts)
    droppable = np.zeros((len(layouts), width), bool)
    for layout in layouts:
        for number, edge in enumerate(spec.cell(layout.kind).edges):
            identity = all(o != NONE and not edge_layers(spec, layout, number, o) for o in edge.operations)
            droppable[layout.index, number] = not identity
    return droppable


class DropPath:
    """Adds drop-path factors to batches.

    Parameters
    ----------
    final : float
        The probability the schedule rises to.
    epochs : int
        Epochs of the whole run.
    """

    def __init__(self, spec: NetworkSpec, seed: int, final: float, epochs: int) -> None:
        self._droppable = droppable_edges(spec)
        self._stream = Stream(seed, "drop-path")
        self._final = final
        self._epochs = epochs

    def __call__(self, batch: Batch, epoch: int, step: int) -> Batch:
        """Return the batch with the factors of an epoch, counted from 0, and step.

        The probability is ``final · epoch / epochs`` (DARTS).
        """
        probability = self._final * epoch / self._epochs
        if probability <= 0:
            return batch
        shape = (*self._droppable.shape, len(batch.labels))
        kept = self._stream.uniform(shape, epoch, step) >= probability
        factors = np.where(self._droppable[..., None], kept / (1.0 - probability), 1.0)
        return replace(batch, drop_path=factors.astype(np.float32))
