"""A network's forward pass: stems, cells and heads."""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor

from dots_core.engine.stacking import StackedNetwork
from dots_torch.cell import Cell
from dots_torch.mixture import EdgeWeights
from dots_torch.stack import ForwardContext, Stack


class Model:
    """A `StackedNetwork` as calls of PyTorch."""

    def __init__(self, network: StackedNetwork) -> None:
        self._stems = [Stack(stack) for stack in network.stems]
        self._cells = [Cell(cell) for cell in network.cells]
        self._auxiliary = None if network.auxiliary is None else (network.auxiliary[0], Stack(network.auxiliary[1]))
        self._head = Stack(network.head)

    def __call__(
        self,
        context: ForwardContext,
        images: Tensor,
        keep: Tensor | None,
        edge_weights: Mapping[str, EdgeWeights | None],
    ) -> tuple[Tensor, Tensor | None]:
        """Return logits and, in training, the auxiliary head's.

        Parameters
        ----------
        images : Tensor, shape (N, C, H, W)
        keep : Tensor, shape (cells, edges, N), or None
            Drop-path factors.
        edge_weights : mapping of cell type to EdgeWeights or None
        """
        x = images
        outputs = []
        for number, stem in enumerate(self._stems):
            x = context.passing(f"stems.{number}", stem(context, F.relu(x) if stem.rectified else x))
            outputs.append(x)
        before = (outputs[0], outputs[-1])
        auxiliary = None
        for number, cell in enumerate(self._cells):
            before = (before[1], cell(context, before, edge_weights[cell.kind], None if keep is None else keep[number]))
            if context.training and self._auxiliary is not None and self._auxiliary[0] == number:
                auxiliary = self._auxiliary[1](context, F.relu(before[1]))
        return self._head(context, before[1]), auxiliary
